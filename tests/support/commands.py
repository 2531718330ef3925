"""The commands of the program, as Typer has them."""

from __future__ import annotations

from typing import Any

from packer_fork.cli import program
from packer_fork.cli.commands import GROUPS


def commands() -> dict[str, Any]:
    """Every command that does something, by its words; the program itself is ``""``."""
    found = {path: each for path, each in program.every() if path not in GROUPS}
    return {"": program.command(""), **found}
