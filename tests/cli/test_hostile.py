"""What surrounds packer-fork may be broken or hostile: it says so in one sentence."""

import os
from pathlib import Path

import pytest

from packer_fork.errors import (
    EXIT_DONE,
    EXIT_LOCKED,
    EXIT_STORE,
    EXIT_TEMPLATE,
    EXIT_USAGE,
)
from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.templates import GATED, begun, go_on

pytestmark = pytest.mark.usefixtures("packer")

ALONE = """
    source "null" "n" { communicator = "none" }
    build { sources = ["null.n"] }
"""


@pytest.mark.parametrize("command", ["state show", "state history", "state pull", "build", "plan"])
def test_a_full_disk_behind_standard_output(cli: Cli, project: Project, command: str) -> None:
    """The answer is incomplete, and whoever reads the exit code learns it."""
    project.write("t.pkr.hcl", ALONE)
    assert cli.cached("build", "t.pkr.hcl").rc == EXIT_DONE
    flag = ["--rebuild"] if command == "build" else []
    into_full = ("sh", "-c", 'exec "$@" >/dev/full', "sh")
    result = cli(*command.split(), *flag, "t.pkr.hcl", under=into_full)
    assert result.rc == EXIT_STORE, result
    assert "No space left" in result.err
    assert "Traceback" not in result.err
    assert len(states.state(cli)["builds"]) == 1
    assert states.status(cli) == "free"


def test_a_reader_that_goes_away_is_no_failure(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ALONE)
    gone = ("sh", "-c", '"$@" | true', "sh")
    assert cli("build", "t.pkr.hcl", under=gone).rc == EXIT_DONE
    assert states.statuses(cli) == {"null.n": "complete"}


def test_a_path_that_is_not_utf8(cli: Cli, project: Project) -> None:
    folder = Path(os.fsdecode(os.fsencode(project.root) + b"/\xff"))
    folder.mkdir()
    (folder / "t.pkr.hcl").write_text(ALONE, encoding="utf-8")
    for given in ("t.pkr.hcl", folder / "t.pkr.hcl"):
        result = cli("build", given, cwd=folder if given == "t.pkr.hcl" else None)
        assert result.rc == EXIT_TEMPLATE, result
        assert "not UTF-8" in result.err


@pytest.mark.parametrize("ticket", [b'{"user":"\xff"}', b"[" * 100_000, b""])
def test_a_ticket_that_cannot_be_read_still_waits(
    cli: Cli, project: Project, ticket: bytes
) -> None:
    project.write("t.pkr.hcl", GATED)
    holder = begun(cli, project, "t.pkr.hcl")
    waiter = cli.start("build", "--rebuild", "--lock-timeout", "1m", "t.pkr.hcl")
    eventually(lambda: "next in the queue" in waiter.err())
    (path,) = (states.folder(project.root) / "queue").iterdir()
    path.write_bytes(ticket)
    status = cli("lock", "status")
    assert status.rc == EXIT_LOCKED, status
    assert "Traceback" not in status.err
    go_on(project.root)
    assert holder.wait().rc == waiter.wait().rc == EXIT_DONE


@pytest.mark.parametrize("words", ["restore", "push", "recover", "import"])
def test_a_pipe_is_no_file(cli: Cli, project: Project, words: str) -> None:
    """Nobody writes into it, so that opening it would wait for ever."""
    project.write("t.pkr.hcl", ALONE)
    os.mkfifo(project.root / "pipe")
    confirmed = ["--yes"] if words in ("restore", "push") else []
    result = cli("state", words, "t.pkr.hcl", "pipe", *confirmed, timeout=20)
    assert result.rc == EXIT_USAGE, result
    assert "pipe is not a plain file" in result.err


def test_a_text_without_an_end_costs_no_minutes(cli: Cli, project: Project) -> None:
    """tree-sitter reads it in the square of its length: it is given up, and said."""
    project.write("t.pkr.hcl", 'a = "' + " " * 200_000)
    result = cli("build", "t.pkr.hcl")
    assert result.rc == EXIT_TEMPLATE, result
    assert "too complex" in result.err


@pytest.mark.parametrize(
    "text", ["retries = " + "1" * 5000, "inputs = " + "[" * 5000 + "]" * 5000, "a" * 70_000]
)
def test_settings_beyond_all_bounds(cli: Cli, project: Project, text: str) -> None:
    project.write("packer-fork.toml", text)
    result = cli("config", "show")
    assert result.rc == EXIT_USAGE, result
    assert "packer-fork.toml" in result.err
