"""Events on a terminal: a row for each source, a log above, in the end a summary.

A thread of its own draws, so that a terminal that stands still (Ctrl-S) holds up no build.
Whatever goes wrong with the drawing ends the drawing alone: plain lines take its place.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import TextIO

from msgspec import Struct
from rich.text import Text

from packer_fork import events
from packer_fork.errors import PackerForkError
from packer_fork.events import Notify
from packer_fork.terminal import clean
from packer_fork.views.console import Color, Console, drop
from packer_fork.views.live.board import Board, apply
from packer_fork.views.live.region import Size, region
from packer_fork.views.live.screen import Screen
from packer_fork.views.live.summary import summary
from packer_fork.views.plain import PlainView
from packer_fork.views.verbosity import Verbosity

_IN_REGION = (
    events.RunStarted,
    events.ItemStarted,
    events.ItemEnded,
    events.RunEnded,
    events.Hashing,
    events.Waiting,
)
"""Events that the region shows, not the log."""

_PAUSE = 0.125
"""Seconds between two looks at what there is to draw."""


_MOST = 10_000
"""Texts that wait for a terminal that stands still; what comes then is left out."""

_STYLES = {"say": "bold green", "error": "bold red", "warning": "bold yellow", "stderr": "dim"}


class Log(Console):
    """A console that writes nothing."""

    def __init__(self) -> None:
        super().__init__(sys.stdout, sys.stderr, color=Color.NEVER)
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


class _Drawn(Struct, frozen=True):
    """What a picture depends on: the next one is drawn when any of it has changed."""

    board: Board
    size: Size
    second: int


@contextlib.contextmanager
def live_view(
    stream: TextIO, plain: Notify, verbosity: Verbosity, place: Sequence[str], *, color: bool
) -> Iterator[Notify]:
    """A view on the terminal `stream`, whose region is gone in the end, whatever happens.

    `plain` is shown all else should drawing fail. `place`: see `summary`.
    """
    view = LiveView(stream, plain, verbosity, place, color=color)
    before = signal.signal(signal.SIGCONT, view.continued)
    view.start()
    try:
        yield view
    finally:
        view.close()
        signal.signal(signal.SIGCONT, before)


class LiveView:
    """Events come from one thread; another one draws."""

    def __init__(
        self,
        stream: TextIO,
        plain: Notify,
        verbosity: Verbosity,
        place: Sequence[str],
        *,
        color: bool,
    ) -> None:
        self._stream = stream
        self._plain = plain
        self._is_quiet = verbosity is Verbosity.QUIET
        self._place = place
        self._screen = Screen(stream, color=color)
        self._log = Log()
        self._lines = PlainView(self._log, verbosity=verbosity)
        self._board = Board()
        self._drawn: _Drawn | None = None
        self._was_away = False
        self._is_broken = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw_on, name="live view", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def __call__(self, event: events.Event) -> None:
        if self._is_broken:
            self._plain(event)
            return
        try:
            self._board = apply(self._board, event, datetime.now(UTC))
            if not isinstance(event, _IN_REGION):
                self._lines(event)
        except PackerForkError:
            raise  # a signal that ends the command, and came just now
        except Exception as error:  # noqa: BLE001 (no fault of a view may end a build)
            self._break(error)
            self._plain(event)

    def continued(self, _number: int, _frame: FrameType | None) -> None:
        """After SIGCONT: the shell has written where the region was."""
        self._was_away = True

    def close(self) -> None:
        """The region goes, the rest of the log and the summary stay."""
        self._over.set()
        self._thread.join()
        if self._is_broken:
            return
        with self._unharmed():
            if self._was_away:
                self._screen.leave_behind()
            self._screen.close()
            width = self._screen.size().width
            likely = self._lines.transcript.likely
            shown = summary(self._board, self._place, width, likely) if self._has_news() else []
            self._screen.draw([*self._log.take(), *shown], None)

    def _has_news(self) -> bool:
        """That all is up to date has been said by the plan, if that was shown."""
        return bool(self._board.ended) or self._is_quiet

    def _draw_on(self) -> None:
        # Signals are for the thread that waits for them.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._over.wait(_PAUSE) and not self._is_broken:
            with self._unharmed():
                self._draw()

    def _draw(self) -> None:
        if not self._screen.is_ours():
            self._was_away = True
            return
        if self._was_away:
            self._was_away, self._drawn = False, None
            self._screen.leave_behind()
        if not self._screen.is_settled():
            return
        now = _Drawn(self._board, self._screen.size(), int(time.monotonic()))
        log = [] if self._is_quiet else self._log.take()
        if log or self._drawn is None or now != self._drawn:
            known = (now.board.started, now.board.hashing, now.board.wait)
            shows = any(each is not None for each in known)
            self._screen.draw(log, partial(region, now.board) if shows else None)
            self._drawn = now

    @contextlib.contextmanager
    def _unharmed(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._is_broken = True
            drop(self._stream)
        except Exception as error:  # noqa: BLE001 (as above)
            self._break(error)

    def _break(self, error: Exception) -> None:
        self._is_broken = True
        with contextlib.suppress(Exception):
            self._screen.close()
        text = f"The live view has failed ({error!r}): plain lines take its place."
        self._plain(events.Notice(level="warning", text=text))
        if self._board.ended:
            self._plain(self._board.ended)
