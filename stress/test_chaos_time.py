"""Clocks that jump, pids that are given out again, and a reboot in between."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from packer_fork import processes
from packer_fork.locks import MARKER
from stress import aftermath, namesakes
from stress.aftermath import ALONE, TEMPLATE, Scene
from stress.conftest import Say
from stress.namesakes import Namespace, pid_inside
from tests.conftest import Cli, Project, Result, Running, descendants, eventually, unavailable
from tests.support import states
from tests.support.queries import answers
from tests.support.templates import GATED, go_on

pytestmark = [pytest.mark.usefixtures("packer"), pytest.mark.timeout(300)]

JUMPS = {"1 hour back": "-1h", "40 days forward": "+40d"}


class Clock:
    """A clock that can be set while a process looks at it; the monotonic one jumps along."""

    def __init__(self, library: str, setting: Path) -> None:
        self._setting = setting
        self.set("+0")
        self.env: Mapping[str, str] = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(setting),
            "FAKETIME_NO_CACHE": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, ahead: str) -> None:
        temporary = self._setting.with_suffix(".new")
        temporary.write_text(f"{ahead}\n", encoding="ascii")
        temporary.rename(self._setting)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if shutil.which("faketime") is None:
        unavailable("faketime is not installed: run .ci/ensure-test-tools")
    asked = ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"]
    library = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return Clock(library, tmp_path / "clock")


def begun(here: Scene, project: Project, env: Mapping[str, str]) -> Running:
    """A build of a gated template, at its gate."""
    for name in ("begun", "go"):
        (project.root / name).unlink(missing_ok=True)
    running = here.start("build", "--rebuild", TEMPLATE, env=env)
    eventually(lambda: (project.root / "begun").exists() or running.process.poll() is not None)
    assert running.process.poll() is None, running.wait()
    return running


@pytest.mark.parametrize("jump", JUMPS)
def test_the_clock_jumps_between_builds(
    cli: Cli, project: Project, clock: Clock, figure: Say, jump: str
) -> None:
    here = aftermath.scene(cli, project, ALONE)
    aftermath.builds_next(here)
    clock.set(JUMPS[jump])
    is_late = jump == "40 days forward"
    assert is_to_build(cli, clock.env) == is_late, "the default of --max-age is 30 days"
    assert not is_to_build(cli, clock.env, "--max-age", "50d")
    assert here.run("build", "--rebuild", TEMPLATE, env=clock.env).rc == 0
    assert not is_to_build(cli, clock.env, "--max-age", "50d")
    assert_readable(cli, clock.env)
    figure("acknowledged changes checked", aftermath.check(here), "changes")
    assert not is_to_build(cli, {}, "--max-age", "30m")


@pytest.mark.parametrize("jump", JUMPS)
def test_the_clock_jumps_during_a_build(
    cli: Cli, project: Project, clock: Clock, figure: Say, jump: str
) -> None:
    here = aftermath.scene(cli, project, GATED)
    running = begun(here, project, clock.env)
    clock.set(JUMPS[jump])
    assert states.status(cli) == "held"
    assert states.lock(cli)["pid"] == running.pid
    waiter = here.start("build", "--rebuild", "--lock-timeout", "1m", TEMPLATE, env=clock.env)
    eventually(lambda: "next in the queue" in waiter.err())
    go_on(project.root)
    results = running.wait(), waiter.wait()
    for result in results:
        assert result.rc == 0, result
        aftermath.assert_calm(result)
    assert_readable(cli, clock.env)
    clock.set("+0")
    assert_readable(cli, clock.env)
    figure("acknowledged changes checked", aftermath.check(here), "changes")


@pytest.mark.parametrize("jump", JUMPS)
def test_a_run_of_another_time_is_recovered(
    cli: Cli, project: Project, clock: Clock, figure: Say, jump: str
) -> None:
    here = aftermath.scene(cli, project, GATED)
    clock.set(JUMPS[jump])
    running = begun(here, project, clock.env)
    running.process.kill()
    running.process.wait()
    assert states.status(cli) == "orphaned"
    go_on(project.root)
    eventually(lambda: states.status(cli) == "abandoned")
    figure("acknowledged changes checked", aftermath.check(here), "changes")
    assert_readable(cli, {})


def is_to_build(cli: Cli, env: Mapping[str, str], *args: str) -> bool:
    planned = cli("plan", "--detailed-exitcode", *args, TEMPLATE, env=env)
    assert planned.rc in (0, 20), planned
    return planned.rc == 20


def assert_readable(cli: Cli, env: Mapping[str, str]) -> None:
    """In the order of serials, for people and programs, with no time that runs backwards."""
    for command in ("show", "runs", "history"):
        result = cli("state", command, TEMPLATE, env=env)
        assert result.rc == 0, result
        aftermath.assert_calm(result)
    serials = [change["serial"] for change in answers(cli, "history", TEMPLATE, "--limit", "0")]
    assert serials == list(range(serials[0], 0, -1))
    runs = [entry["run"] for entry in answers(cli, "runs", TEMPLATE, "--limit", "0")]
    assert [run["number"] for run in runs] == list(range(len(runs), 0, -1))
    assert not [run for run in runs if run.get("held", 0.0) < 0 or run.get("waited", 0.0) < 0]


# Pids


@pytest.fixture
def space(cli: Cli, root: None) -> Iterator[Namespace]:  # noqa: ARG001 (only root may)
    with namesakes.namespace(cli) as space:
        yield space


def inside(here: Scene, space: Namespace, *args: str, rc: int = 0) -> Result:
    result = here.cli(*args, under=space.under)
    assert result.rc == rc, result
    return result


def killed(here: Scene, space: Namespace, project: Project, *, all_of_it: bool) -> dict[str, Any]:
    """The lock's record of a build whose wrapper is dead, and its Packer too if `all_of_it`."""
    command = ("build", "--rebuild", TEMPLATE)
    for name in ("begun", "go"):
        (project.root / name).unlink(missing_ok=True)
    running = here.start(*command, under=space.under)
    eventually(lambda: (project.root / "begun").exists() or running.process.poll() is not None)
    record: dict[str, Any] = json.loads((here.folder / "lock").read_bytes())
    tree = [process.pid for process in descendants(running.pid)]
    wrapper = record["participants"][0]["holder"]["process"]["pid"]
    namesakes.kill_all([pid for pid in tree if all_of_it or pid_inside(pid) == wrapper])
    running.process.wait()
    return record


def packers(record: Mapping[str, Any]) -> list[int]:
    found = processes.marked(MARKER, record["participants"][0]["id"])
    return [process.pid for process in found if process.command.startswith("packer ")]


def test_a_pid_that_somebody_else_has_now_is_not_the_holder(
    cli: Cli, project: Project, space: Namespace, figure: Say
) -> None:
    here = aftermath.scene(cli, project, GATED)
    record = killed(here, space, project, all_of_it=True)
    others = [
        space.give(record["participants"][0]["packer"]["pid"]),
        space.give(record["participants"][0]["holder"]["process"]["pid"]),
    ]
    status = states.lock(cli)
    assert status["status"] == "abandoned"
    assert inside(here, space, "lock", "status", TEMPLATE, rc=11).out.count("abandoned")
    inside(here, space, "force-unlock", record["id"], "--kill", "--yes")
    assert all(map(pid_inside, others))
    assert states.status(cli) == "free"
    go_on(project.root)
    figure("pids that others had", len(others), "pids")
    figure("acknowledged changes checked", aftermath.check(here), "changes")


def test_only_the_packer_is_ended_where_its_wrappers_pid_is_somebody_elses(
    cli: Cli, project: Project, space: Namespace, figure: Say
) -> None:
    here = aftermath.scene(cli, project, GATED)
    record = killed(here, space, project, all_of_it=False)
    other = space.give(record["participants"][0]["holder"]["process"]["pid"])
    asked = json.loads(inside(here, space, "lock", "status", TEMPLATE, "--json", rc=11).out)
    assert asked["status"] == "orphaned"
    assert pid_inside(other) not in [process["pid"] for process in asked["processes"]]
    env = {"PACKER_FORK_GRACE": "5s"}
    unlocked = cli("force-unlock", record["id"], "--kill", "--yes", under=space.under, env=env)
    assert unlocked.rc == 0, unlocked
    assert pid_inside(other)
    assert not packers(record)
    go_on(project.root)
    figure("pids that others had", 1, "pids")
    figure("acknowledged changes checked", aftermath.check(here), "changes")


def test_a_reboot_in_between(cli: Cli, project: Project, space: Namespace, figure: Say) -> None:
    here = aftermath.scene(cli, project, GATED)
    record = killed(here, space, project, all_of_it=True)
    space.restart()
    others = [
        space.give(record["participants"][0]["packer"]["pid"]),
        space.give(record["participants"][0]["holder"]["process"]["pid"]),
    ]
    assert "abandoned" in inside(here, space, "lock", "status", TEMPLATE, rc=11).out
    go_on(project.root)
    built = here.run("build", "--rebuild", TEMPLATE, under=space.under)
    assert built.rc == 0, built
    assert "recovered run 1" in built.err
    assert all(map(pid_inside, others))
    figure("reboots", 1, "reboots")
    figure("acknowledged changes checked", aftermath.check(here), "changes")


def test_nothing_of_another_boot_is_signalled(
    cli: Cli, project: Project, space: Namespace, figure: Say
) -> None:
    """A machine that shares the folder with us, as far as can be seen: its Packer lives."""
    here = aftermath.scene(cli, project, GATED)
    record = killed(here, space, project, all_of_it=False)
    space.restart()
    other = space.give(record["participants"][0]["holder"]["process"]["pid"])
    alive = packers(record)
    assert alive
    refused = inside(here, space, "force-unlock", record["id"], "--kill", "--yes", rc=11)
    assert "none was signalled" in refused.err
    assert pid_inside(other)
    assert packers(record) == alive
    go_on(project.root)
    figure("processes that were left alone", len(alive) + 1, "processes")
    figure("acknowledged changes checked", aftermath.check(here), "changes")


DAEMON = GATED.replace("echo begun;", "setsid sleep 300 >/dev/null 2>&1 & echo begun;")
"""It leaves a process behind that has inherited the lock, in a session of its own."""


def _daemons(mark: str) -> list[int]:
    left = processes.marked(MARKER, mark)
    return [each.pid for each in left if each.session == each.pid and each.command == "sleep"]


def test_whoever_has_the_pid_of_a_dead_packer_is_none_of_its_run(
    cli: Cli, project: Project, space: Namespace, figure: Say
) -> None:
    here = aftermath.scene(cli, project, DAEMON)
    record = killed(here, space, project, all_of_it=False)
    daemons = eventually(lambda: _daemons(record["participants"][0]["id"]))
    left = processes.marked(MARKER, record["participants"][0]["id"])
    namesakes.kill_all([each.pid for each in left if each.pid not in daemons])
    other = space.give(record["participants"][0]["packer"]["pid"])
    asked = json.loads(inside(here, space, "lock", "status", TEMPLATE, "--json", rc=11).out)
    assert asked["status"] == "orphaned"
    assert len(daemons) == 1
    inside(here, space, "force-unlock", record["id"], "--kill", "--yes")
    assert pid_inside(other)
    assert pid_inside(daemons[0])
    listed = [process["pid"] for process in asked["processes"]]
    namesakes.kill_all(daemons)
    go_on(project.root)
    figure("pids that others had", 1, "pids")
    figure("acknowledged changes checked", aftermath.check(here), "changes")
    assert pid_inside(other) not in listed
