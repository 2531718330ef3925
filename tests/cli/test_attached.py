"""``-debug`` and ``-on-error=ask``: asked on a terminal, and without one as Packer does."""

import os
import signal
from collections.abc import Sequence

import pytest

from tests.conftest import Cli, Project, Running, descendants, eventually
from tests.support import states
from tests.support.packer_versions import debug_pauses
from tests.support.templates import NULL_AND_FILE
from tests.support.terminal import CTRL_C, ENTER, STAYING_SHELL, appears, on_terminal

pytestmark = pytest.mark.usefixtures("packer")

PAUSE = "Press enter to continue."
PAUSES = {"steps": 4, "provisioners": 2}
"""Of NULL_AND_FILE: two steps of the null builder, of which each ends and is cleaned up."""
QUESTION = "or [r] retry step"

FAILS = """
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "shell-local" { inline = ["echo tried >> tries; exit 1"] }
    }
"""


def test_debug_pauses_on_the_terminal(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    pauses = [(PAUSE, ENTER)] * debug_pauses(**PAUSES)
    result = on_terminal(cli, "build", "-debug", "t.pkr.hcl", steps=pauses).wait()
    assert result.rc == 0, result
    assert result.out.count(PAUSE) == debug_pauses(**PAUSES)
    assert "\x1b[" not in result.out, "NO_COLOR is set, and Packer must hear of it"
    assert "run 1 unverified" in result.out
    assert states.statuses(cli) == {"null.n": "unverified", "file.f": "unverified"}
    run = states.state(cli)["last_run"]
    assert (run["status"], run["exit_code"]) == ("unverified", 0)
    assert states.status(cli) == "free"
    assert "2 to build" in cli("build", "t.pkr.hcl").err
    assert states.statuses(cli) == {"null.n": "complete", "file.f": "complete"}


@pytest.mark.parametrize(("answers", "tries"), [("c", 1), ("rc", 2)])
def test_on_error_ask_asks_on_the_terminal(
    cli: Cli, project: Project, answers: str, tries: int
) -> None:
    project.write("t.pkr.hcl", FAILS)
    steps = [(QUESTION, answer + ENTER) for answer in answers]
    result = on_terminal(cli, "build", "-on-error=ask", "t.pkr.hcl", steps=steps).wait()
    assert result.rc == 1, result
    assert (project.root / "tries").read_text().count("tried") == tries
    assert states.statuses(cli) == {"null.n": "unverified"}
    run = states.state(cli)["last_run"]
    assert (run["status"], run["exit_code"]) == ("failed", 1)


def test_without_a_terminal_debug_does_not_pause(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    result = cli("build", "-debug", "t.pkr.hcl")
    assert result.rc == 0
    assert "Debug mode enabled" in result.out
    assert states.statuses(cli) == {"null.n": "complete", "file.f": "complete"}


def test_packer_asks_wherever_its_output_goes(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    piped = ("sh", "-c", '"$@" < /dev/null | tee log', "sh")
    pauses = [(PAUSE, ENTER)] * debug_pauses(**PAUSES)
    running = on_terminal(cli, "build", "-debug", "t.pkr.hcl", steps=pauses, leader=piped)
    assert running.wait().rc == 0
    assert (project.root / "log").read_text().count(PAUSE) == debug_pauses(**PAUSES)
    assert set(states.statuses(cli).values()) == {"unverified"}


def test_without_a_terminal_ask_cleans_up(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", FAILS)
    result = cli("build", "-on-error=ask", "t.pkr.hcl")
    assert result.rc == 1
    assert QUESTION not in result.out
    assert states.statuses(cli) == {"null.n": "failed"}


def test_what_machines_read_does_not_ask(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    result = on_terminal(cli, "build", "-machine-readable", "-debug", "t.pkr.hcl").wait()
    assert result.rc == 0
    assert states.statuses(cli) == {"null.n": "complete", "file.f": "complete"}


def paused(
    cli: Cli,
    project: Project,
    steps: Sequence[tuple[str, str]] = (),
    leader: Sequence[str] = (),
) -> Running:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    running = on_terminal(cli, "build", "-debug", "t.pkr.hcl", steps=steps, leader=leader)
    appears(running, PAUSE)
    return running


def test_ctrl_c_reaches_packer_and_is_waited_for(cli: Cli, project: Project) -> None:
    result = paused(cli, project, [(PAUSE, CTRL_C)]).wait()
    assert result.rc == 128 + signal.SIGINT, result
    assert "run 1 cancelled" in result.out
    assert result.err == "as before"
    assert set(states.statuses(cli).values()) == {"cancelled"}


def test_the_lock_is_held_and_a_signal_handed_on(cli: Cli, project: Project) -> None:
    running = paused(cli, project)
    report = states.lock(cli)
    assert report["status"] == "held"
    assert cli("build", "t.pkr.hcl").rc == 11
    os.kill(report["pid"], signal.SIGTERM)
    assert running.wait().rc == 128 + signal.SIGTERM
    assert set(states.statuses(cli).values()) == {"cancelled"}
    assert cli("build", "t.pkr.hcl").rc == 0


def test_a_packer_that_was_killed_leaves_the_terminal_usable(cli: Cli, project: Project) -> None:
    running = paused(cli, project)
    for process in descendants(running.pid):
        if process.command == "packer build":
            os.kill(process.pid, signal.SIGKILL)
    result = running.wait()
    assert result.rc == 1, result
    assert result.err == "as before"
    assert set(states.statuses(cli).values()) == {"interrupted"}


def test_orphaned_by_a_kill_it_can_be_ended(cli: Cli, project: Project) -> None:
    paused(cli, project, leader=STAYING_SHELL)
    report = states.lock(cli)
    os.kill(report["pid"], signal.SIGKILL)
    eventually(lambda: states.status(cli) == "orphaned")
    ended = cli("force-unlock", report["id"], "--yes", "--kill", env={"PACKER_FORK_GRACE": "2"})
    assert ended.rc == 0, ended
    assert "packer build" in ended.err
    assert set(states.statuses(cli).values()) == {"interrupted"}
    assert cli("build", "t.pkr.hcl").rc == 0
