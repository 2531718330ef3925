"""What may follow each command, read from the commands that Typer has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from packer_fork.cli import passthrough, program
from packer_fork.cli.commands import GROUPS, NAMES, OPTIONS
from packer_fork.cli.completing import position
from packer_fork.cli.completing.position import Candidate, Command, Option, Wanted
from packer_fork.packer.flags import FLAGS

_COMMON = (Option(("--help",), "Show how it is used."),)
_VERSION = Option(("--version",), "Show the version.")


def wanted(words: Sequence[str]) -> Wanted:
    """What the last of the words that follow the program's name may become.

    Raises LookupError if there is no such command.
    """
    if words[0] == passthrough.MACHINE_READABLE and words[1:]:
        words = words[1:]
    name, *rest = words
    if not rest:
        return position.find("", _program(), words)
    if name in passthrough.PACKER_COMMANDS:
        return position.find(name, Command(arguments=("template",) * len(rest)), rest)
    if name not in GROUPS:
        return position.find(name, _command(name), rest)
    inner, *behind = rest
    if not behind:
        return position.find(name, Command(tuple(_candidates(name)), _COMMON), rest)
    path = f"{name} {inner}"
    return position.find(path, _command(path), behind)


def _program() -> Command:
    packers = (Candidate(name, "Packer's own.") for name in sorted(passthrough.PACKER_COMMANDS))
    ours = (Candidate(name, program.summary(name)) for name in NAMES)
    return Command((*ours, *packers), (_VERSION, *_COMMON))


def _candidates(group: str) -> Iterator[Candidate]:
    for name in program.names(group):
        yield Candidate(name, program.summary(f"{group} {name}"))


def _command(path: str) -> Command:
    params: list[Any] = program.command(path).params
    own = [_option(each) for each in params if each.param_type_name == "option"]
    packers = _packer_options() if path in OPTIONS else ()
    return Command(
        options=(*own, *packers, *_COMMON),
        arguments=tuple(each.name for each in params if each.param_type_name == "argument"),
    )


def _option(param: Any) -> Option:
    value = "" if param.is_flag else param.name
    return Option(tuple(param.opts), param.help or "", value, repeats=param.multiple)


def _packer_options() -> Iterator[Option]:
    for name, kind in FLAGS.items():
        names, takes_value = (f"-{name}", f"--{name}"), kind.check is not None
        value = names[0] if takes_value else ""
        yield Option(names, kind.about, value, repeats=kind.repeats, joined=takes_value)
