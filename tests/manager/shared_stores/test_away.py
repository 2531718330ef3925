"""Servers that go away, and come back: nothing that Packer came to is lost, nothing replaced."""

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Result, Running, descendants, eventually
from tests.support import states
from tests.support.queries import ONE, answers, done, runs
from tests.support.servers import Cluster, etcd_cluster
from tests.support.team import Machine, Team

pytestmark = [pytest.mark.usefixtures("packer"), pytest.mark.timeout(240)]

TWO_GATES = """
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "shell-local" {
        inline = ["touch begun; while [ ! -e $PWD/go ]; do sleep 0.1; done"]
      }
      provisioner "shell-local" { inline = ["touch more; while [ ! -e end ]; do sleep 0.1; done"] }
    }
"""
"""There is news between the gates: the second provisioner."""

SLOW_CHECK = """
import pathlib, sys, time
pathlib.Path("checking").touch()
while not pathlib.Path("checked").exists():
    time.sleep(0.02)
sys.exit("it is gone")
"""
"""That an artifact exists: asked under the lock, before Packer starts."""


@contextlib.contextmanager
def away(cluster: Cluster) -> Iterator[None]:
    """All servers are killed for that long."""
    for server in cluster.servers:
        server.kill()
    yield
    for server in cluster.servers:
        server.start()
    for server in cluster.servers:
        server.await_ready()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One that no other test suffers from."""
    with etcd_cluster(tmp_path / "servers") as cluster:
        yield cluster


class Crew:
    """Builds of one machine at the same time, each in a workspace of its own."""

    def __init__(self, team: Team, runtime: Path) -> None:
        runtime.mkdir()
        self._team = team
        self._env = {"XDG_RUNTIME_DIR": str(runtime)}  # where the circuit breaker is

    def member(
        self, workspace: str, template: str = TWO_GATES, *, outbox: str = "", patience: str = "2s"
    ) -> Machine:
        settings = {
            "workspace": workspace,
            "lock_ttl": "2s",
            "store_patience": patience,
            "outbox": outbox,
        }
        return self._team.machine(workspace, template, env=self._env, settings=settings)


def another(team: Team, workspace: str) -> Machine:
    """A second machine for that workspace."""
    settings = {"workspace": workspace, "lock_ttl": "2s", "lock_timeout": "1m"}
    return team.machine("another", TWO_GATES, settings=settings)


def opened(machine: Machine, *gates: str) -> None:
    for gate in gates:
        (machine.root / gate).touch()


def test_away_for_the_length_of_a_build(team: Team, cluster: Cluster, tmp_path: Path) -> None:
    """What takes long is that packer-fork is patient; so all that can happen happens at once."""
    crew = Crew(team, tmp_path / "runtime")
    overtaken, alone = crew.member("overtaken"), crew.member("alone", outbox="kept")
    lasting, told = crew.member("lasting"), crew.member("told", patience="4s")
    starting, late = crew.member("starting", ONE), crew.member("late")
    machines = (overtaken, alone, lasting, told)
    with ThreadPoolExecutor(len(machines)) as pool:
        ends_late, ends_alone, lasts, ends_by_signal = pool.map(Machine.begun, machines)
    checks = being_checked(starting)
    with away(cluster):
        opened(starting, "checked")
        begins_late = late.cli.start("build", "t.pkr.hcl")
        for machine in machines:
            opened(machine, "go")
            eventually((machine.root / "more").exists)
        hears_a_signal_at_once(ends_by_signal)
        opened(overtaken, "end")
        opened(alone, "end")
        is_refused(begins_late.wait(), late)
        is_refused(checks.wait(), starting)
        eventually(lasting.outbox)
        is_kept(told, ends_by_signal.wait())
        late_results = is_kept(overtaken, ends_late.wait())
        results = is_kept(alone, ends_alone.wait())
        assert alone.outbox()[0].is_relative_to(alone.root / "kept")
    eventually(lambda: not lasting.outbox())
    assert lasts.process.poll() is None, "it is committed although Packer says nothing"
    opened(lasting, "end")
    is_as_if_nothing_had_been(lasting, lasts.wait())
    is_brought_in_by_the_next_build(alone, results)
    is_brought_in_by_recover(told)
    replaces_nothing_built_since(overtaken, another(team, "overtaken"), late_results)
    assert states.statuses(starting.cli) == {"null.n": "complete"}
    assert runs(starting.cli) == [1]


def being_checked(machine: Machine) -> Running:
    """A build that has the lock, and of which Packer is not started yet."""
    done(machine.cli, "build", "t.pkr.hcl")
    check = (
        f'artifact_check = {{ "fnoeding.null" = {json.dumps([sys.executable, "-c", SLOW_CHECK])} }}'
    )
    with (machine.root / "packer-fork.toml").open("a") as file:
        file.write(f"{check}\n")
    running = machine.cli.start("build", "t.pkr.hcl")
    eventually((machine.root / "checking").exists)
    return running


def hears_a_signal_at_once(running: Running) -> None:
    """Packer, while packer-fork still tries to reach the store."""
    running.signal(signal.SIGTERM)
    eventually(lambda: "packer build" not in commands_below(running.pid), timeout=10)
    assert running.process.poll() is None


def commands_below(pid: int) -> set[str]:
    return {process.command for process in descendants(pid)}


def is_refused(result: Result, machine: Machine) -> None:
    assert result.rc == 15, result
    assert "refuses the connection" in result.err
    assert not (machine.root / "begun").exists()
    assert not machine.outbox()


def is_kept(machine: Machine, result: Result) -> Path:
    """Exit code, outbox, and the same on stdout; returns what was on stdout as a file."""
    assert result.rc == 13, result
    assert "What Packer comes to is kept" in result.err
    (path,) = machine.outbox()
    assert path.stat().st_mode & 0o777 == 0o600
    (hint,) = [line for line in result.err.splitlines() if "state recover" in line]
    assert str(path) in hint
    (line,) = [line for line in result.out.splitlines() if line.startswith("{")]
    assert json.loads(line) == json.loads(path.read_text())
    return machine.project.write("results.json", line)


def is_as_if_nothing_had_been(machine: Machine, result: Result) -> None:
    assert result.rc == 0, result
    assert operations(machine)[0] == "finish"
    assert states.statuses(machine.cli) == {"null.n": "complete"}
    assert states.lock(machine.cli)["status"] == "free"


def operations(machine: Machine) -> list[str]:
    found = answers(machine.cli, "history", "t.pkr.hcl", "--limit", "0")
    return [str(change["operation"]) for change in found]


def is_brought_in_by_the_next_build(machine: Machine, results: Path) -> None:
    late = json.loads(results.read_text())
    told = done(machine.cli, "build", "--lock-timeout", "1m", "t.pkr.hcl")
    assert "Item 1 of run 1 is in the history; builds that it now stands for: null.n" in told
    assert "everything is up to date" in told
    state = states.state(machine.cli)
    assert state["items"] == {"1-1": late["item"]}
    assert state["last_run"]["status"] == "complete"
    assert state["builds"] == late["builds"]
    assert states.unfinished(machine.cli) == []
    assert not machine.outbox()
    assert "in the history already" in done(machine.cli, "state", "recover", results)
    assert operations(machine).count("replay") == 1
    assert runs(machine.cli) == [1]


def is_brought_in_by_recover(machine: Machine) -> None:
    done(machine.cli, "state", "recover", "t.pkr.hcl")
    assert states.statuses(machine.cli) == {"null.n": "cancelled"}
    assert states.state(machine.cli)["last_run"]["status"] == "cancelled"
    assert not machine.outbox()


def replaces_nothing_built_since(first: Machine, second: Machine, results: Path) -> None:
    opened(second, "go", "end")
    told = done(second.cli, "build", "t.pkr.hcl")
    assert "was abandoned by" in told
    since = states.state(second.cli)
    assert since["builds"]["null.n"]["run"] == 2
    told = done(second.cli, "state", "recover", results)
    assert "all were built again since" in told
    assert "is in the history already" in done(first.cli, "build", "t.pkr.hcl")
    assert not first.outbox()
    after = states.state(first.cli)
    assert (after["builds"], after["last_run"]) == (since["builds"], since["last_run"])
    assert operations(first).count("replay") == 1
    found = {each["run"]["number"]: each["run"]["status"] for each in listed(first)}
    assert found == {1: "complete", 2: "complete"}


def listed(machine: Machine) -> list[Any]:
    return answers(machine.cli, "runs", "t.pkr.hcl")
