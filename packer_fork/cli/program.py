"""The commands as Typer has them: for command lines that only Typer can judge, and for help.

A group imports a command's module when that command is asked for, as each costs time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from packer_fork import __version__
from packer_fork.cli import examples, refusals
from packer_fork.cli.commands import COMMANDS, GROUPS, OPTIONS, function, options


class LazyGroup(TyperGroup):
    """``path``: its words, "" for the program itself."""

    path = ""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (Click's signature)
        return names(self.path)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 (Click's signature)
        return command(f"{self.path} {cmd_name}".strip()) if cmd_name in names(self.path) else None


def names(group: str) -> list[str]:
    """The commands and groups directly below `group`, in the order of ``--help``."""
    words = group.split()
    every = (path.split() for path in COMMANDS)
    below = (path[len(words)] for path in every if path[: len(words)] == words)
    return list(dict.fromkeys(below))


def summary(path: str) -> str:
    """The first line of a command's or group's help."""
    text = GROUPS[path] if path in GROUPS else function(path).__doc__ or ""
    return text.partition("\n")[0]


@cache
def command(path: str) -> Any:
    """The command or group with these words. Raises LookupError if there is none."""
    if path in GROUPS:
        return _group(path)
    app = _empty(path)
    app.command(path.rsplit(maxsplit=1)[-1], epilog=examples.epilog(path))(_callback(path))
    return typer.main.get_command(app)


def _empty(path: str) -> typer.Typer:
    return typer.Typer(
        name=path or "packer-fork",
        cls=LazyGroup,
        help=GROUPS.get(path),
        epilog=examples.epilog(path),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def _group(path: str) -> LazyGroup:
    app = _empty(path)
    app.callback()(_nothing if path else _root)
    group = cast("LazyGroup", typer.main.get_group(app))  # by `_empty`
    group.path = path
    return group


def _nothing() -> None:
    """What a group does before its command."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"packer-fork {__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """What the program does before its command."""


def _callback(path: str) -> Callable[..., Any]:
    """The function of a command with a signature that Typer reads."""
    run = function(path)
    if path not in OPTIONS:
        return run  # type: ignore[no-any-return]
    from packer_fork.cli import arguments

    kind = options(path)

    def callback(context: typer.Context, **values: Any) -> int:
        return run(kind(**values), context.obj)  # type: ignore[no-any-return]

    given = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    own = tuple(map(_parameter, arguments.parameters(kind)))
    callback.__signature__ = inspect.Signature([given, *own])  # type: ignore[attr-defined]
    callback.__annotations__ = {each.name: each.annotation for each in (given, *own)}
    callback.__doc__ = run.__doc__
    return callback


def _parameter(each: Any) -> inspect.Parameter:
    shown = each.help.shown
    info = typer.Option(each.flag, **shown) if each.flag else typer.Argument(**shown)
    return inspect.Parameter(
        each.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=each.default if each.flag else inspect.Parameter.empty,
        annotation=Annotated[each.kind, info],
    )


def every(path: str = "") -> Iterator[tuple[str, Any]]:
    """All commands and groups below `path`, by their words."""
    for name in names(path):
        words = f"{path} {name}".strip()
        yield words, command(words)
        if words in GROUPS:
            yield from every(words)


def run(words: Sequence[str], flags: Any) -> Any:
    """Run one command line with Packer's `flags`; returns the exit code. Raises UsageError."""
    with refusals.told(words):
        return command("")(list(words), "packer-fork", obj=flags, standalone_mode=False)
