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
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[([^]]*)\]\(([\w-]+)\.md[^)]*\)")


def help_page(
    context: typer.Context,
    topic: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TOPIC]", help="A topic, a command, or words to find.", show_default=False
        ),
    ] = None,
) -> None:
    """Show a page of the documentation or help of a command."""
    console, words = options.console(), topic or []
    if not words:
        console.say(topics())
    elif text := page("-".join(words).lower()):
        console.say(text)
    elif command := _command_help(context, words):
        typer.echo(command, color=context.color)
    elif found := search(" ".join(words)):
        console.say("\n".join(map(_line, found)))
    else:
        raise UsageError(f"there is no help topic {' '.join(words)!r}", hint=_nearest(words))


def topics() -> str:
    """The list of all topics with their titles."""
    lines = [
        "Show a topic with `packer-fork help TOPIC`, a command with `packer-fork help COMMAND`."
    ]
    for group, names in TOPICS.items():
        lines += ["", group, *map(_line, names)]
    return "\n".join(lines)


def page(topic: str) -> str:
    """The text of a page for a terminal; "" if there is no such topic."""
    if topic not in _names():
        return ""
    text = _COMMENT.sub("", _read(topic))
    return _LINK.sub(r"\1 (`packer-fork help \2`)", text).rstrip()


def search(words: str) -> list[str]:
    """The topics with `words` in a heading or in the first paragraph, links left out."""
    wanted = re.compile(rf"\b{re.escape(words)}", re.IGNORECASE)
    return [topic for topic in _names() if wanted.search(_abstract(topic))]


def _abstract(topic: str) -> str:
    text = _LINK.sub("", _read(topic))
    _, first, *_ = text.split("\n\n")
    return " ".join([*_HEADING.findall(text), *first.split()])


def _names() -> list[str]:
    return [name for names in TOPICS.values() for name in names]


def _read(topic: str) -> str:
    return (FOLDER / f"{topic}.md").read_text(encoding="utf-8")


def _line(topic: str) -> str:
    title, _, _ = _read(topic).partition("\n")
    return f"  {topic:<17} {title.removeprefix('# ')}"


def _command_help(context: typer.Context, words: Sequence[str]) -> str:
    """The ``--help`` of a command; "" if there is no such command."""
    command, name = context.find_root().command, "packer-fork"
    for word in words:
        inner = command.get_command(context, word) if hasattr(command, "get_command") else None
        if inner is None:
            return ""
        command, name = inner, f"{name} {word}"
    with typer.Context(command, info_name=name, parent=None) as inner_context:
        return command.get_help(inner_context)


def _nearest(words: Sequence[str]) -> str:
    return nearest("-".join(words), _names(), "`packer-fork help` lists all topics.")
