"""The terminal: a log that scrolls, and below it a region that is drawn again and again.

Rich moves back over the region by as many rows as it drew. A terminal that became narrower
may have wrapped these, a shell that came between has moved the cursor: then the cursor is
brought to where Rich expects it first. It is never hidden, so that whoever dies leaves a
terminal that is as it was.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from packer_fork.views.live.region import Size

_FALLBACK = (80, 24)
_LATE = 0.5
"""Seconds after a change of its size in which a terminal has told of it."""

_DRAGGED = 2.0
"""Seconds between two changes of the size that are taken for one: somebody drags the window."""

_REMEMBERED = 200
"""Texts of the log, more than a screen takes."""

_ERASE = (ControlType.ERASE_IN_LINE, 2)

Regional = Callable[[Size, datetime], list[Text]]
"""The lines of the region, none wider than the screen, for a terminal of that size."""


class _Steady(Console):
    def show_cursor(self, show: bool = True) -> bool:  # noqa: FBT001, FBT002 (Rich's signature)
        """Neither hidden nor shown."""
        return not show


class Screen:
    """One thread at a time. All of it raises OSError if the terminal is gone."""

    def __init__(self, stream: TextIO, *, color: bool) -> None:
        self._stream = stream
        self._console = _Steady(
            file=stream,
            force_terminal=True,
            force_interactive=True,
            color_system="auto" if color else None,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live: Live | None = None
        self._shown: list[str] = []
        """The lines of the region as it was drawn last."""
        self._size = self.size()
        """Of the screen at that time."""
        self._stranded: list[str] = []
        """What a screen too low for the region pushed out, with no log after it."""
        self._drawn_at = 0.0
        self._looked = self._size
        self._resized_at = 0.0
        self._is_dragged = False
        """Sizes that nobody saw may have come between that of the last draw and that of now."""
        self._log: deque[Text] = deque(maxlen=_REMEMBERED)

    def size(self) -> Size:
        """Asked of the terminal each time: variables such as COLUMNS are not told of changes."""
        try:
            width, height = os.get_terminal_size(self._stream.fileno())
        except OSError:
            width, height = _FALLBACK
        ascii_only = not self._console.encoding.startswith("utf")
        return Size(width or _FALLBACK[0], height or _FALLBACK[1], ascii_only)

    def is_ours(self) -> bool:
        """Whether we are in the foreground: in the background a shell has the terminal."""
        try:
            return os.tcgetpgrp(self._stream.fileno()) == os.getpgrp()
        except OSError:
            return True

    def is_settled(self) -> bool:
        """Whether the terminal has the size that it had at the last look."""
        size, now = self.size(), time.monotonic()
        if size == self._looked:
            return True
        self._looked = size
        self._is_dragged |= now < self._resized_at + _DRAGGED
        self._resized_at = now
        return False

    def draw(self, log: Iterable[Text], regional: Regional | None) -> None:
        """Print `log`, and below it the region, if there is one."""
        size = self.size()
        self._console.size = ConsoleDimensions(size.width, size.height)
        lines = regional(size, datetime.now(UTC)) if regional else []
        log = list(log)
        with self._console:  # one write for all
            printed = Text("\n").join([*self._find_back(size, len(lines)), *log])
            if lines and self._live is None:
                self._live = Live(
                    console=self._console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                    vertical_overflow="crop",
                )
                self._live.start()
            if self._live is not None:
                region = Text("\n", no_wrap=True, end="").join(lines)
                self._live.update(region, refresh=True)
            if log:
                self._stranded = []
                self._log.extend(log)
            if printed:
                self._console.print(printed, soft_wrap=True)
        self._shown = [line.plain for line in lines]
        self._size = size
        self._drawn_at = time.monotonic()
        self._is_dragged = False

    def leave_behind(self) -> None:
        """Go on below whatever was written in between, as by a shell that stopped us."""
        self._stream.write("\r\n" * len(self._shown))

    def close(self) -> None:
        """Take the region away."""
        live, self._live = self._live, None
        if live is not None:
            size = self.size()
            self._console.size = ConsoleDimensions(size.width, size.height)
            with self._console:
                again = self._find_back(size, 1)
                live.update(Text(""), refresh=True)
                if again:
                    self._console.print(Text("\n").join(again), soft_wrap=True)
                live.stop()
            self._shown = []

    def _find_back(self, size: Size, height: int) -> list[Text]:
        """To the region's last row, as if the terminal had wrapped none of its lines.

        What of the log is to be printed again, above a region of `height` lines.
        """
        if size == self._size or not self._shown:
            return []
        # A terminal tells of its size a moment late: what was drawn since is out of place.
        is_late = size.width < self._size.width and time.monotonic() < self._drawn_at + _LATE
        if is_late or self._is_dragged:
            return self._start_anew(size, height)
        self._go_back(size)
        return []

    def _start_anew(self, size: Size, height: int) -> list[Text]:
        """Empty the screen, line by line, for else some terminals keep what was there."""
        lines = range(size.height)
        empty = [((ControlType.CURSOR_MOVE_TO, 0, line), _ERASE) for line in lines]
        self._console.control(*(Control(*codes) for codes in empty), Control(ControlType.HOME))
        if len(self._shown) > 1:
            self._console.control(Control((ControlType.CURSOR_DOWN, len(self._shown) - 1)))
        self._stranded = []
        room = size.height - height
        again: list[Text] = []
        for text in reversed(self._log):
            room -= _rows(text.plain.split("\n"), size.width)
            if room < 0:
                break
            again.insert(0, text)
        return again

    def _go_back(self, size: Size) -> None:
        count = len(self._shown)
        rows, away = _rows(self._shown, size.width), _rows(self._stranded, size.width)
        back = min(away, max(0, size.height - self._size.height))
        self._stranded = [
            *_beginning(self._stranded, size.width, away - back),
            *_beginning(self._shown, size.width, rows - size.height),
        ]
        if rows + back > count:
            up = ((ControlType.CURSOR_UP, 1), _ERASE) * (rows + back - 1)
            self._console.control(Control(ControlType.CARRIAGE_RETURN, _ERASE, *up))
        if rows + back > count > 1:
            self._console.control(Control((ControlType.CURSOR_DOWN, count - 1)))


def _rows(lines: Iterable[str], width: int) -> int:
    return sum(len(wrapped(line, width)) for line in lines)


def _beginning(lines: Iterable[str], width: int, count: int) -> Iterator[str]:
    """What of `lines` is in the first `count` rows of them."""
    for line in lines:
        rows = wrapped(line, width)[: max(0, count)]
        count -= len(rows)
        if rows:
            yield "".join(rows)


def wrapped(line: str, width: int) -> list[str]:
    """The rows that a terminal makes of `line` if it is too long for it."""
    rows, used = [""], 0
    for character in line:
        cells = cell_len(character)
        if used + cells > width:
            rows.append("")
            used = 0
        rows[-1] += character
        used += cells
    return rows
