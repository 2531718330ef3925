"""What may stand behind each command, read from Typer, so that it is what Typer takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer

from packer_fork.cli import handover
from packer_fork.cli.completing import packer_flags, position
from packer_fork.cli.completing.position import Candidate, Command, Option, Wanted

_MACHINE_READABLE = "-machine-readable"
_COMMON = (Option(("--help",), "Show how it is used."),)
_VERSION = Option(("--version",), "Show the version.")


def wanted(words: Sequence[str], made: Callable[..., typer.Typer]) -> Wanted:
    """What is wanted in the place of the last of the words that follow the program's name.

    `made` gives the program with all commands, or with those of the names that it is given.
    Raises LookupError if there is no such command.
    """
    if words[0] == _MACHINE_READABLE and words[1:]:
        words = words[1:]
    name, *rest = words
    if not rest:
        return position.find("", _program(made()), words)
    if name in handover.OF_PACKER:
        return position.find(name, Command(arguments=("template",) * len(rest)), rest)
    app = made((name,))
    if (group := _groups(app).get(name)) is None:
        return position.find(name, _command(app, name, name), rest)
    inner, *behind = rest
    if not behind:
        return position.find(name, Command(_commands(group), _COMMON), rest)
    path = f"{name} {inner}"
    return position.find(path, _command(group, path, inner), behind)


def _groups(app: typer.Typer) -> dict[str, typer.Typer]:
    groups = app.registered_groups
    return {str(each.name): each.typer_instance for each in groups if each.typer_instance}


def _commands(app: typer.Typer) -> tuple[Candidate, ...]:
    """Of a group, without making them, which takes its time."""
    commands = {str(each.name): each.callback for each in app.registered_commands}
    groups = {name: each.registered_callback for name, each in _groups(app).items()}
    infos = groups.items()
    callbacks = {**commands, **{name: info.callback for name, info in infos if info}}
    return tuple(Candidate(name, _first_line(each)) for name, each in callbacks.items())


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").partition("\n")[0]


def _program(app: typer.Typer) -> Command:
    packers = (Candidate(name, "Packer's own.") for name in sorted(handover.OF_PACKER))
    return Command((*_commands(app), *packers), (_VERSION, *_COMMON))


def _command(app: typer.Typer, path: str, name: str) -> Command:
    """What may stand behind the command `name` of `app`, which alone is made."""
    alone = typer.Typer(add_completion=False)
    alone.registered_commands = [each for each in app.registered_commands if each.name == name]
    params: list[Any] = typer.main.get_command(alone).params
    own = [_option(each) for each in params if each.param_type_name == "option"]
    packers = _packer_options() if path in packer_flags.COMMANDS else ()
    return Command(
        options=(*own, *packers, *_COMMON),
        arguments=tuple(each.name for each in params if each.param_type_name == "argument"),
    )


def _option(param: Any) -> Option:
    value = "" if param.is_flag else param.name
    return Option(tuple(param.opts), param.help or "", value, repeats=param.multiple)


def _packer_options() -> Iterator[Option]:
    for each in packer_flags.FLAGS:
        names = (f"-{each.name}", f"--{each.name}")
        value = names[0] if each.takes_value else ""
        yield Option(names, each.about, value, repeats=each.repeats, joined=each.takes_value)
