"""The commands of the program, as Typer has them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import typer.main

from packer_fork.cli.app import made


@functools.cache
def commands() -> dict[str, Any]:
    """Every command that does something, by its words; the program itself is ``""``."""
    program = typer.main.get_command(made())
    return {"": program, **dict(_below(program, ""))}


def _below(group: Any, words: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        path = f"{words} {name}".strip()
        if hasattr(command, "commands"):
            yield from _below(command, path)
        else:
            yield path, command
