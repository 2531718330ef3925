"""Asking for answers in JSON, and for what is kept of a state, for tests."""

import json
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.conftest import Cli, Project

PASSING = frozenset({"lock", "mutex", "mutex.turn", "hashes", "evaluations"})
"""What even a command that does nothing may write."""

ONE = """
    variable "x" { default = "1" }
    source "null" "n" {
      communicator = "none"
      ssh_host     = var.x
    }
    build { sources = ["null.n"] }
"""
"""One source, built in a moment, with a variable that it depends on, and without a step."""


def answer(cli: Cli, *args: str | Path, rc: int = 0) -> Any:
    """The one JSON document that a command prints."""
    result = cli("state", *args, "--json")
    assert result.rc == rc, result
    return json.loads(result.out)


def answers(cli: Cli, *args: str | Path) -> list[Any]:
    """One JSON document a line."""
    result = cli("state", *args, "--json")
    assert result.rc == 0, result
    return [json.loads(line) for line in result.out.splitlines()]


def done(cli: Cli, *args: str | Path) -> str:
    """Run a command that must succeed; what it told on stderr."""
    result = cli(*args)
    assert result.rc == 0, result
    return result.err


def done_cached(cli: Cli, *args: str | Path) -> None:
    """As `done`, for what a test begins with: see `Cli.cached`."""
    result = cli.cached(*args)
    assert result.rc == 0, result


def refused(cli: Cli, *args: str | Path, rc: int, text: str) -> str:
    """Run a command that must refuse, in one sentence with `text`; what it told on stderr."""
    result = cli(*args)
    assert result.rc == rc, result
    assert text in result.err
    assert "fault of packer-fork" not in result.err
    assert result.out == ""
    return result.err


def fields(document: type[Struct]) -> set[str]:
    return set(document.__struct_fields__)


def kept(folder: Path) -> dict[str, bytes]:
    """All that is kept in the folder of a state, but not what locks leave behind."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if path.name not in PASSING
    }


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def built(cli: Cli, project: Project, *runs: str) -> Path:
    """The state of ``t.pkr.hcl`` after a run for each value of its variable."""
    project.write("t.pkr.hcl", ONE)
    for value in runs:
        done_cached(cli, "build", "--rebuild", "-var", f"x={value}", "t.pkr.hcl")
    return project.root / ".packer-fork" / "t.pkr.hcl" / "default"


def serials(cli: Cli, operation: str = "") -> list[int]:
    """Serials of all changes, or of those of one operation, the newest first."""
    return [each["serial"] for each in changes(cli) if operation in ("", each["operation"])]


def changes(cli: Cli, *args: str) -> list[Any]:
    """All changes of the history, the newest first."""
    return answers(cli, "history", "t.pkr.hcl", "--limit", "0", *args)


def runs(cli: Cli, *args: str) -> list[int]:
    """Numbers of the runs that `state list` finds."""
    return [each["run"]["number"] for each in answers(cli, "list", "t.pkr.hcl", *args)]


def is_up_to_date(cli: Cli, *args: str) -> bool:
    result = cli("plan", "--detailed-exitcode", *args, "t.pkr.hcl")
    assert result.rc in (0, 20), result
    return result.rc == 0
