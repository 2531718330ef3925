"""JSON as it is printed: exact, harmless for a terminal; a document, or events line by line."""

from __future__ import annotations

import re

import msgspec

from packer_fork import events
from packer_fork.views.console import Console

_HARMFUL = "[\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
"""What JSON may hold as it is and a terminal may act on; it only ever stands in strings."""


def one_line(document: object) -> str:
    return _escaped(msgspec.json.encode(document))


def indented(document: object) -> str:
    return _escaped(msgspec.json.format(msgspec.json.encode(document), indent=2))


def _escaped(data: bytes) -> str:
    text = data.decode()
    if text.replace("\n", "").isprintable():
        return text
    return re.sub(_HARMFUL, lambda found: f"\\u{ord(found[0]):04x}", text)


class JsonLines:
    """A view that prints each event on a line, without Packer's machine-readable lines."""

    def __init__(self, console: Console, *, is_answer: bool = False) -> None:
        """`is_answer`: the user asked for one document, without progress."""
        self._console = console
        self._hidden = (events.MachineLine, *((events.Hashing,) if is_answer else ()))

    def __call__(self, event: events.Event) -> None:
        if not isinstance(event, self._hidden):
            self._console.say(one_line(event))
