"""Signals that ask us to end, and the end of a child, as something one can wait for."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DRAIN = 4096


class SignalWatch:
    """While entered, INT, TERM and HUP are counted instead of ending the program.

    A HUP that was ignored before (nohup) stays ignored. Python delivers signals to
    the main thread only: entered in another one, it catches none, and waits are
    plain timeouts.
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        """Numbers of the signals so far, in their order."""
        self._at_once: list[Callable[[int], None]] = []
        self._before: dict[signal.Signals, Any] = {}
        self._pipe: tuple[int, int] | None = None
        self._wakeup_before = -1

    def wait(self, timeout: float) -> None:
        """Return after `timeout` seconds, or as soon as a signal came or a child ended."""
        if self._pipe is None:
            time.sleep(timeout)
            return
        reader = self._pipe[0]
        select.select([reader], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            os.read(reader, _DRAIN)

    @contextlib.contextmanager
    def telling(self, hear: Callable[[int], None]) -> Iterator[None]:
        """Call `hear` with each signal at once, whatever its thread is waiting for."""
        self._at_once.append(hear)
        try:
            for number in tuple(self.signals):
                hear(number)
            yield
        finally:
            self._at_once.remove(hear)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._pipe = _pipe()
            self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            for number in _ENDING:
                if number is not signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._count)
            self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _nothing)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # None: installed by something that is not Python, and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()
        if self._pipe is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            for descriptor in self._pipe:
                os.close(descriptor)
            self._pipe = None

    def _count(self, number: int, _frame: FrameType | None) -> None:
        self.signals.append(number)
        for hear in tuple(self._at_once):
            hear(number)


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    for descriptor in (reader, writer):
        os.set_blocking(descriptor, False)
    return reader, writer


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """SIGCHLD is ignored by default; with a handler it wakes whoever waits."""
