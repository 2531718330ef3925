"""``packer-fork completion``: the script that a shell completes our command lines with."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from packer_fork.cli import options


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    *, shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]
) -> None:
    """Print the completion script of a shell.

    It completes commands, options, builds, workspaces and lock IDs.
    """
    path = Path(__file__).parent / "completing" / f"packer-fork.{shell}"
    options.console().say(path.read_text(encoding="utf-8").removesuffix("\n"))
