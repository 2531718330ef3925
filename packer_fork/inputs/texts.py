"""From mentions to texts: evaluated values put in, unknown parts left open."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from packer_fork.inputs.mentions import ANYTHING, Expression, Mention, Part
from packer_fork.inputs.value_roles import ValueRole

_SEPARATORS = re.compile(r"[\s,;=@:'\"|&()<>{}\[\]`]+")
_WRITTEN = re.compile(r"(?:>|\btee\s|\btouch\s|\bmkdir\s|\s-o\s|--output[ =])\s*(?:-\w+\s+)*\S+")
_FILE_LIKE = re.compile(r".*(?:/|\.[A-Za-z][A-Za-z0-9]{0,9}$)", re.DOTALL)
_LONGEST_PATH = 4096
_DOWNLOAD = {
    "source": ValueRole.REMOTE,
    "sources": ValueRole.REMOTE,
    "destination": ValueRole.OUTPUT,
}
"""Roles in a file provisioner whose direction is "download"."""


def texts(mention: Mention, values: Mapping[str, object]) -> Iterator[str]:
    """What a mention comes to; the strings within it if it is no string."""
    only = mention.parts[0] if len(mention.parts) == 1 else None
    if not isinstance(only, Expression):
        yield _joined(mention.parts, values)
    elif only.source in values:
        yield from strings(values[only.source])
    elif mention.fallback:
        yield _joined(mention.fallback, values)
    elif mention.opened:
        yield ANYTHING


def _joined(parts: tuple[Part, ...], values: Mapping[str, object]) -> str:
    return "".join(_text(part, values) for part in parts)


def _text(part: Part, values: Mapping[str, object]) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Expression) and part.source in values:
        value = values[part.source]
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int | float):
            return f"{value:g}" if isinstance(value, float) else str(value)
    return ANYTHING


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def is_path(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_PATH and not set("\n\r") & set(text)


def words(text: str) -> Iterator[str]:
    """Words of a command or list that look like files, but not those that it writes to."""
    for word in _SEPARATORS.split(_WRITTEN.sub(" ", text)):
        if word != text and is_path(word) and _FILE_LIKE.fullmatch(word):
            yield word


def with_roles(
    mentions: Sequence[Mention], values: Mapping[str, object]
) -> Iterator[tuple[Mention, ValueRole]]:
    """Each mention with what it stands for; a file provisioner that downloads turns it round."""
    downloads = {
        mention.place.block
        for mention in mentions
        if mention.place.plugin == "file"
        and mention.place.path == ("direction",)
        and "download" in texts(mention, values)
    }
    for mention in mentions:
        turned = mention.place.block in downloads and not mention.opened
        yield (
            mention,
            _DOWNLOAD.get(mention.place.path[-1], mention.role) if turned else mention.role,
        )
