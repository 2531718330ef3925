"""What Typer refuses, said as everything else is said: one sentence, and what was meant."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import typer

from packer_fork.cli.commands import COMMANDS, OPTIONS
from packer_fork.errors import EXIT_USAGE, UsageError, nearest

_OPTION = re.compile(r"No such option: (\S+)")
_COMMAND = re.compile(r"No such command '(.*?)'")


@runtime_checkable
class _Refusal(Protocol):
    """The errors of Typer's parser, which is Click or its own, as its release has it."""

    ctx: Any

    def format_message(self) -> str: ...


@contextlib.contextmanager
def told(words: Sequence[str]) -> Iterator[None]:
    """Raises UsageError for an error of Typer's about these words."""
    try:
        yield
    except typer.Abort:
        raise UsageError("Nothing was done.") from None
    except Exception as error:
        if isinstance(error, _Refusal):
            raise _translated(error, words) from error
        raise


def _translated(error: _Refusal, words: Sequence[str]) -> UsageError | SystemExit:
    context, message = error.ctx, error.format_message()
    if context is None:  # a switch with a value
        return UsageError(message, hint=f"`{_command_path(words)} --help` tells all.")
    if message == context.get_help():  # a group that was given no command
        typer.echo(message, err=True)
        return SystemExit(EXIT_USAGE)
    otherwise = f"`{context.command_path} --help` tells all."
    if found := _OPTION.match(message):
        name = _as_typed(found[1], words)
        hint = nearest(name, _options(context.command), otherwise)
        return UsageError(f"There is no option {name} of {context.command_path}.", hint=hint)
    if found := _COMMAND.match(message):
        hint = nearest(found[1], context.command.list_commands(context), otherwise)
        return UsageError(f"There is no command {found[1]!r} in {context.command_path}.", hint=hint)
    # Typer lists choices one below the other, and has a name of its own for a bounded number.
    sentence = " ".join(message.split()).replace("int range", "integer")
    return UsageError(sentence, hint=otherwise)


def _command_path(words: Sequence[str]) -> str:
    leading = (" ".join(words[:count]) for count in range(len(words), 0, -1))
    return f"packer-fork {next((path for path in leading if path in COMMANDS), '')}".strip()


def _as_typed(option: str, words: Sequence[str]) -> str:
    """Typer takes ``-onyl`` for ``-o`` and more."""
    typed = next((each for each in words if each.startswith(option)), option)
    return typed.partition("=")[0]


def _options(command: Any) -> list[str]:
    """Packer's flags as well, where they may be given."""
    own = [name for each in command.params for name in each.opts if name.startswith("-")]
    if command.name not in OPTIONS:
        return [*own, "--help"]
    from packer_fork.packer.flags import FLAGS

    return [*own, "--help", *(f"-{name}" for name in FLAGS)]
