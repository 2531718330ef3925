"""Events as JSON, one per line on stdout: for programs."""

from __future__ import annotations

from packer_fork import events
from packer_fork.views.console import Console
from packer_fork.views.document import one_line


class JsonLines:
    """Prints every event but Packer's machine-readable lines, which the texts repeat."""

    def __init__(self, console: Console, *, is_answer: bool = False) -> None:
        """`is_answer`: one document is asked for, without progress on the way to it."""
        self._console = console
        self._hidden = (events.MachineLine, *((events.Hashing,) if is_answer else ()))

    def __call__(self, event: events.Event) -> None:
        if not isinstance(event, self._hidden):
            self._console.say(encode(event))


def encode(event: events.Event) -> str:
    """On one line; control characters are escaped by JSON itself."""
    return one_line(event)
