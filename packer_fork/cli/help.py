"""``packer-fork help``: the pages of the documentation, on a terminal and without a network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from packer_fork.cli import options
from packer_fork.errors import UsageError, nearest

FOLDER = Path(__file__).parent.parent / "docs"

TOPICS: Mapping[str, Sequence[str]] = {
    "Begin": ("tutorial", "install", "move-from-packer"),
    "Tasks": (
        "github",
        "gitlab",
        "other-ci",
        "share-state",
        "many-machines",
        "workspaces",
        "control-rebuilds",
        "track-downloads",
        "retry",
        "terraform",
        "roll-back",
        "manage-state",
        "stuck-lock",
        "damaged-state",
        "prometheus",
        "python",
    ),
    "Explanation": (
        "what-is-rebuilt",
        "input-detection",
        "results",
        "locks",
        "signals",
        "recovery",
        "masking",
        "limits",
    ),
    "Reference": (
        "commands",
        "settings",
        "exit-codes",
        "json",
        "state-location",
        "file-formats",
        "architecture",
        "figures",
        "development",
    ),
}
"""The pages in the order of the README; each is a file ``TOPIC.md`` in the docs folder."""

_COMMENT = re.compile(r"^<!-- .* -->\n", re.MULTILINE)
_LINK = re.compile(r"\[([^]]*)\]\(([\w-]+)\.md[^)]*\)")


def help_page(
    context: typer.Context,
    topic: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPIC]", help="A topic, or a command.", show_default=False),
    ] = None,
) -> None:
    """Show a page of the documentation, or the help of a command."""
    console = options.console()
    if not topic:
        console.say(topics())
    elif text := page("-".join(topic).lower()):
        console.say(text)
    else:
        _command_help(context, topic)


def topics() -> str:
    """The list of all topics with their titles."""
    lines = [
        "Show a topic with `packer-fork help TOPIC`, a command with `packer-fork help COMMAND`."
    ]
    for group, names in TOPICS.items():
        lines += ["", group, *(f"  {name:<17} {_title(name)}" for name in names)]
    return "\n".join(lines)


def page(topic: str) -> str:
    """The text of a page for a terminal; "" if there is no such topic."""
    if not any(topic in names for names in TOPICS.values()):
        return ""
    text = _COMMENT.sub("", (FOLDER / f"{topic}.md").read_text(encoding="utf-8"))
    return _LINK.sub(r"\1 (`packer-fork help \2`)", text).rstrip()


def _title(topic: str) -> str:
    with (FOLDER / f"{topic}.md").open(encoding="utf-8") as file:
        return file.readline().removeprefix("# ").rstrip()


def _command_help(context: typer.Context, words: Sequence[str]) -> None:
    """Raises UsageError if there is neither a topic nor a command of these words."""
    command, name = context.find_root().command, "packer-fork"
    for word in words:
        inner = command.get_command(context, word) if hasattr(command, "get_command") else None
        if inner is None:
            raise UsageError(f"there is no help topic {' '.join(words)!r}", hint=_nearest(words))
        command, name = inner, f"{name} {word}"
    with typer.Context(command, info_name=name, parent=None) as inner_context:
        typer.echo(command.get_help(inner_context), color=context.color)


def _nearest(words: Sequence[str]) -> str:
    known = [name for names in TOPICS.values() for name in names]
    return nearest("-".join(words), known, "`packer-fork help` lists all topics.")
