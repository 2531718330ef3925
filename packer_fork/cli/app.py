"""From a command line to the command that runs it."""

from __future__ import annotations

from collections.abc import Sequence

from packer_fork.cli import color, passthrough
from packer_fork.cli.commands import NAMES, OPTIONS, function, options

COMPLETE = "__complete"
"""How a shell's script asks for completions: ``packer-fork __complete SHELL WORD...``."""


def run(argv: Sequence[str]) -> None:
    """Run one command line; ends in SystemExit, or raises PackerForkError."""
    if argv[:1] == [COMPLETE]:
        from packer_fork.cli import completing

        completing.answer(argv[1:])
        return
    words, flags = passthrough.arrange(color.take(argv), NAMES), None
    if words and words[0] in OPTIONS:
        name, kind = words[0], options(words[0])
        from packer_fork.cli import arguments
        from packer_fork.packer.flags import take

        flags, rest = take(words[1:], arguments.value_flags(kind))
        if (parsed := arguments.parse(kind, rest)) is not None:
            raise SystemExit(function(name)(parsed, flags))
        words = [name, *rest]
    from packer_fork.cli import program

    raise SystemExit(program.run(words, flags))
