"""packer-fork that dies, or loses its lock: Packer ends in order, and another goes on."""

import signal

import pytest

from packer_fork import processes
from packer_fork.locks import MARKER
from tests.conftest import Running, eventually
from tests.support import states
from tests.support.queries import answers, done, runs
from tests.support.servers import Cluster, Proxy
from tests.support.team import Machine, Team, on
from tests.support.templates import GATED

pytestmark = pytest.mark.usefixtures("packer")

SHORT = {"lock_ttl": "2s", "lock_timeout": "1m"}
"""For locks that are to end."""


def killed(machine: Machine, running: Running) -> None:
    """As by the kernel; returns when its Packer, which heard of it, has cleaned up and ended."""
    mark = states.lock(machine.cli)["id"] + "-1"
    running.signal(signal.SIGKILL)
    running.process.wait()
    eventually(lambda: "packer build" not in commands_of(mark))


def commands_of(participant: str) -> set[str]:
    return {process.command for process in processes.marked(MARKER, participant)}


@on("consul")
def test_on_the_same_machine_a_death_is_known_at_once(team: Team) -> None:
    here = team.machine("here", GATED)
    killed(here, here.begun())
    here.go_on()  # a script that was left behind ends, too
    eventually(lambda: states.status(here.cli) == "abandoned")
    assert "the lease of participant 1 of token 1 is alive" in states.lock(here.cli)["evidence"][-1]
    told = done(here.cli, "build", "t.pkr.hcl")
    assert "was abandoned by" in told
    assert "recovered run 1 from its log: null.n cancelled" in told
    assert runs(here.cli) == [2, 1]
    assert not list(here.root.rglob("*.raw"))


@on("etcd", "s3")
def test_on_another_machine_the_lease_ends(team: Team) -> None:
    here, there = (team.machine(name, GATED, settings=SHORT) for name in ("here", "there"))
    killed(here, here.begun())
    (raw,) = here.root.rglob("1-1.raw")
    assert "Cancelling build" in raw.read_text()
    there.go_on()
    told = done(there.cli, "build", "t.pkr.hcl")
    assert "was abandoned by" in told
    assert "did not renew it any more" in told
    assert [each["run"]["status"] for each in listed(here)] == ["complete", "interrupted"]
    told = done(here.cli, "build", "t.pkr.hcl")
    assert "everything is up to date" in told
    assert raw.exists(), "its script still runs"
    here.go_on()
    read = "Item 1 of run 1, which was ended without its log, is read now: null.n cancelled"
    eventually(lambda: read in done(here.cli, "build", "t.pkr.hcl"))
    assert not raw.exists()
    assert "is read now" not in done(here.cli, "build", "t.pkr.hcl")


WITH_A_VALUE_TO_HIDE = """
    variable "token" {
      default   = "S3cretToken"
      sensitive = true
    }
"""
CLEARING = [
    ("state", "recover"),
    ("build", "t.pkr.hcl"),
]
"""Commands that take the lock, for different ends."""


def frozen(here: Machine, there: Machine) -> Running:
    """A build that was frozen while its Packer went on, and lost its lock to another machine."""
    running = here.begun()
    running.signal(signal.SIGSTOP)
    there.go_on()
    assert "was abandoned by" in done(there.cli, "build", "t.pkr.hcl")
    here.go_on()
    (raw,) = here.root.rglob("1-1.raw")
    eventually(lambda: "Builds finished" in raw.read_text())
    assert holding_secrets(here) == {"1-1.raw", "1-1.err", "1-1.secrets"}
    return running


def holding_secrets(machine: Machine) -> set[str]:
    return {path.name for path in machine.root.rglob("logs/*") if path.suffix != ".log"}


@pytest.mark.parametrize("command", CLEARING, ids=" ".join)
def test_raw_logs_of_a_frozen_holder_go_with_the_next_command(
    team: Team, command: tuple[str, ...]
) -> None:
    template = WITH_A_VALUE_TO_HIDE + GATED
    here, there = (team.machine(name, template, settings=SHORT) for name in ("here", "there"))
    running = frozen(here, there)
    assert "S3cretToken" in next(here.root.rglob("1-1.secrets")).read_text()
    done(here.cli, "state", "recover")
    assert holding_secrets(here) == {"1-1.raw", "1-1.err", "1-1.secrets"}, "its holder lives"
    killed(here, running)
    assert "is read now" in done(here.cli, *command)
    assert not holding_secrets(here)
    assert [each["run"]["status"] for each in listed(there)][-1] == "complete"
    assert b"S3cretToken" not in b"".join(
        path.read_bytes() for path in here.root.rglob("default/**/*") if path.is_file()
    )


@on("consul")
def test_a_frozen_holder_that_goes_on_removes_its_raw_logs(team: Team) -> None:
    here, there = (team.machine(name, GATED, settings=SHORT) for name in ("here", "there"))
    running = frozen(here, there)
    running.signal(signal.SIGCONT)
    assert running.wait().rc == 13
    assert not holding_secrets(here)
    assert "all were built again since" in done(here.cli, "state", "recover")


def listed(machine: Machine) -> list[dict[str, dict[str, str]]]:
    return answers(machine.cli, "runs", "t.pkr.hcl")


@pytest.mark.parametrize("policy", ["cancel", "finish"])
def test_the_lock_is_lost_to_another_machine(team: Team, cluster: Cluster, policy: str) -> None:
    with Proxy(cluster.endpoints[0]) as proxy:
        settings = {**SHORT, "on_lock_lost": policy}
        here = team.machine("here", GATED, at=[proxy.endpoint], settings=settings)
        there = team.machine("there", GATED, settings=SHORT)
        running = here.begun()
        proxy.refuse()
        there.go_on()
        assert "was abandoned by" in done(there.cli, "build", "t.pkr.hcl")
        since = states.state(there.cli)
        assert running.process.poll() is None, "it cannot know, so it goes on"
        proxy.let_pass()
        eventually(lambda: "was taken by" in running.err())
        if policy == "finish":
            here.go_on()
        is_late(here, running, "complete" if policy == "finish" else "cancelled")
        told = done(here.cli, "build", "t.pkr.hcl")
    assert "all were built again since" in told
    assert "everything is up to date" in told
    after = states.state(there.cli)
    assert (after["builds"], after["last_run"]) == (since["builds"], since["last_run"])
    assert not here.outbox()


def is_late(machine: Machine, running: Running, status: str) -> None:
    ended = running.wait()
    assert ended.rc == 13, ended
    assert ("Packer is told to end" in ended.err) == (status == "cancelled")
    (path,) = machine.outbox()
    assert f'"status":"{status}"' in path.read_text()


def test_where_two_must_never_run_at_once(team: Team, cluster: Cluster) -> None:
    """It is enough that the lock may be lost."""
    with Proxy(cluster.endpoints[0]) as proxy:
        settings = {**SHORT, "on_lock_lost": "strict"}
        here = team.machine("here", GATED, at=[proxy.endpoint], settings=settings)
        running = here.begun()
        mark = states.lock(here.cli)["participants"][0]["id"]
        proxy.refuse()
        eventually(lambda: "packer build" not in commands_of(mark), timeout=12)
        proxy.let_pass()
        ended = running.wait()
        assert ended.rc == 12, ended
        assert "Packer is told to end" in ended.err
        assert states.statuses(here.cli) == {"null.n": "cancelled"}
        assert not here.outbox()
