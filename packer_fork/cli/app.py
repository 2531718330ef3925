"""From a command line to the command that runs it."""

from __future__ import annotations

from collections.abc import Sequence

from packer_fork.cli import passthrough
from packer_fork.cli.commands import NAMES, OPTIONS, function, options

COMPLETE = "__complete"
"""How a shell's script asks for completions: ``packer-fork __complete SHELL WORD...``."""


def run(argv: Sequence[str]) -> None:
    """Run one command line; ends in SystemExit, or raises PackerForkError."""
    if argv[:1] == [COMPLETE]:
        from packer_fork.cli import completing

        completing.answer(argv[1:])
        return
    words, flags = passthrough.arrange(_take_color(argv), NAMES), None
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


_COLOR = "--color="


def _take_color(argv: Sequence[str]) -> list[str]:
    """`argv` without ``--color=always|never|auto``, which any command takes at any place.

    Packer's own flag, ``-color=false``, stays.
    """
    chosen = [word for word in argv if word in (f"{_COLOR}always", f"{_COLOR}never")]
    if chosen:
        from packer_fork.views.console import Color, choose_color

        choose_color(Color(chosen[-1].removeprefix(_COLOR)))
    taken = {*chosen, f"{_COLOR}auto"}
    return [word for word in argv if word not in taken]
