"""Events as JSON, one per line on stdout: for programs."""

from __future__ import annotations

from packer_fork import events
from packer_fork.views.console import Console
from packer_fork.views.document import one_line


class JsonLines:
    """Prints every event but Packer's machine-readable lines, which the texts repeat."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: events.Event) -> None:
        if not isinstance(event, events.MachineLine):
            self._console.say(encode(event))


def encode(event: events.Event) -> str:
    """On one line; control characters are escaped by JSON itself."""
    return one_line(event)
