"""Lines on their way to the screen: the thread that builds adds, the one that draws takes."""

from __future__ import annotations

import sys
from collections import deque

from rich.text import Text

from packer_fork.terminal import clean
from packer_fork.views.console import Console

_MOST = 10_000
"""Texts that wait for a terminal that stands still; what comes then is left out."""

_STYLES = {"say": "bold green", "error": "bold red", "warning": "bold yellow", "stderr": "dim"}


class Log(Console):
    """A console that writes nothing."""

    def __init__(self) -> None:
        super().__init__(sys.stdout, sys.stderr, color=False)
        self._texts: deque[Text] = deque()
        self._left_out = 0

    def say(self, text: str, style: str = "") -> None:
        self._add(text, style)

    def tell(self, text: str, style: str = "") -> None:
        self._add(text, style)

    def take(self) -> list[Text]:
        """What has come since the last time."""
        count, self._left_out = self._left_out, 0
        taken = [self._texts.popleft() for _ in range(len(self._texts))]
        said = Text(f"[{count} texts left out: the terminal stood still]", "dim")
        return [said, *taken] if count else taken

    def _add(self, text: str, style: str) -> None:
        if len(self._texts) < _MOST:
            self._texts.append(Text(clean(text), _STYLES.get(style, "")))
        else:
            self._left_out += 1
