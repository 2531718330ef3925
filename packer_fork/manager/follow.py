"""Packer's life, from its start to the end of its last process, signals included.

Packer writes into files and never into a pipe of ours, so nothing that happens to
the wrapper can stop it. It is over when its outer process has ended in order, or
when nothing of its session is left.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from packer_fork.events import Cancelling, Notice, Notify
from packer_fork.locks import MARKER, ProcessId
from packer_fork.manager.record import Recorder
from packer_fork.manager.runlog import LogFiles
from packer_fork.model import BuildStatus
from packer_fork.packer import outcome, process
from packer_fork.packer.outcome import Ended
from packer_fork.packer.signals import SignalWatch
from packer_fork.packer.tail import Tail

_TICK = 0.05
_LOOK = 1.0
"""Seconds between looks at the lock, which an operator may have closed."""

_SIGNALS_TO_KILL = 3
_LEFTOVERS = 5.0
"""Seconds that processes left behind by a Packer that died have to end by themselves."""


class Start(Struct, frozen=True, kw_only=True):
    """What Packer is started with.

    ``grace``: seconds that a cancelled Packer may clean up. ``until_lost``: it is cancelled
    when the lock is lost. ``reasons``: why all Packers that run side by side are to be
    cancelled; ``tick`` is called every moment; with ``fail_fast`` a build that fails is one.
    A Packer whose builds have all ended is not cancelled: it would not list their artifacts.
    """

    command: tuple[str, ...]
    directory: Path
    environ: Mapping[str, str]
    lock: int
    lock_id: str
    die_with_parent: bool
    until_lost: bool
    grace: float
    fail_fast: bool
    reasons: set[str]
    tick: Callable[[], None]


class End(Struct, frozen=True, kw_only=True):
    """How it ended: its exit code, whether it died of something, the signal we got, if any,
    and whether it was cancelled because the lock was lost.
    """

    exit_code: int | None
    died: bool
    signal: int = 0
    lost: bool = False
    failed_fast: bool = False

    @property
    def how(self) -> Ended:
        if self.signal or self.lost:
            return "cancelled"
        return "interrupted" if self.died else "normal"


Life = Generator[None, None, End]
"""A Packer under way: to be continued every moment, until it returns how it ended."""

T = TypeVar("T")


def follow(
    start: Start,
    files: LogFiles,
    recorder: Recorder,
    watch: SignalWatch,
    notify: Notify,
    started: Callable[[ProcessId], None],
) -> Life:
    """Run Packer to its end. Raises PackerError if it cannot be started."""
    packer = process.start(
        start.command,
        directory=start.directory,
        environ=start.environ,
        stdout=files.raw,
        stderr=files.stderr,
        inherit=start.lock,
        marker=(MARKER, start.lock_id),
        die_with_parent=start.die_with_parent,
    )
    with watch.telling(packer.terminate):  # a store that is away may hold up all else
        started(packer.identity)
        return (yield from _Following(start, packer, files, recorder, watch, notify).to_the_end())


def side_by_side(
    waiting: Iterable[Generator[None, None, T]], watch: SignalWatch, most: int
) -> Iterator[T]:
    """Run at most `most` at a time; what each came to, as they end. A signal starts no more."""
    queue, under_way = deque(waiting), list[Generator[None, None, T]]()
    while queue or under_way:
        while queue and len(under_way) < most and not watch.signals:
            under_way.append(queue.popleft())
        for life in tuple(under_way):
            try:
                next(life)
            except StopIteration as end:
                under_way.remove(life)
                yield end.value
        if not under_way and watch.signals:
            return
        if under_way:
            watch.wait(_TICK)


class _Following:
    def __init__(
        self,
        start: Start,
        packer: process.PackerProcess,
        files: LogFiles,
        recorder: Recorder,
        watch: SignalWatch,
        notify: Notify,
    ) -> None:
        self._packer = packer
        self._recorder = recorder
        self._watch = watch
        self._notify = notify
        self._grace = start.grace
        self._until_lost = start.until_lost
        self._lost = False
        self._fail_fast = start.fail_fast
        self._tick = start.tick
        self._reasons = start.reasons
        self._failed_fast = False
        self._deadline = float("inf")
        self._heeded = 0
        self._look_at = 0.0
        self._out = Tail(files.raw, 0)
        self._err = Tail(files.stderr, 0)

    def to_the_end(self) -> Life:
        with self._out, self._err:
            while (code := self._packer.poll()) is None:
                yield
                self._look()
            self._read()
            self._heed_signals()
            if died := self._died(code):
                yield from self._end_session(cleans_up=self._packer.outlived_by_inner())
            elif self._heeded or self._failed_fast or self._lost:
                yield from self._end_session(cleans_up=False)
            self._read()
        self._packer.reap()
        first = self._watch.signals[0] if self._watch.signals else 0
        return End(
            exit_code=code if code >= 0 else None,
            died=died,
            signal=first,
            lost=self._lost,
            failed_fast=self._failed_fast,
        )

    def _died(self, code: int) -> bool:
        """Whether Packer's end was no end of its own: killed, or its inner process was.

        The outer process exits 0 when the inner one is killed; then the closing line is missing.
        """
        return code < 0 or (code == 0 and not self._recorder.outcome.run.closed)

    def _look(self) -> None:
        self._tick()
        self._read()
        self._heed_signals()
        if not (self._failed_fast or self._heeded):
            self._cancel_with_others()
        if time.monotonic() > self._look_at:
            self._look_at = time.monotonic() + _LOOK
            if self._until_lost and self._recorder.is_lost and not self._lost:
                self._cancel_after_loss()
            self._recorder.look_at_lock()
        if time.monotonic() > self._deadline:
            self._kill("The time that Packer had to clean up is over")

    def _read(self) -> None:
        while data := self._out.read():
            self._recorder.feed(data, datetime.now(UTC))
        while data := self._err.read():
            self._recorder.feed_stderr(data)

    def _heed_signals(self) -> None:
        for number in self._watch.signals[self._heeded :]:
            self._heeded += 1
            if self._heeded == 1:
                self._deadline = time.monotonic() + self._grace
            left = max(0.0, self._deadline - time.monotonic())
            name = signal.Signals(number).name
            self._notify(Cancelling(signal=name, signals=self._heeded, kill_in=left))
            if self._heeded == _SIGNALS_TO_KILL:
                self._kill("Told three times to end")

    def _cancel_with_others(self) -> None:
        if self._fail_fast:
            builds = self._recorder.outcome.builds.values()
            failed = (b.name for b in builds if b.status is BuildStatus.FAILED)
            self._reasons |= {f"{name} failed" for name in failed}
        if self._reasons and outcome.is_under_way(self._recorder.outcome):
            text = f"{', '.join(sorted(self._reasons))}: other builds are cancelled."
            self._notify(Notice(level="warning", text=text))
            self._failed_fast = True
            self._deadline = time.monotonic() + self._grace
            self._packer.terminate()

    def _cancel_after_loss(self) -> None:
        self._lost = True
        if not self._heeded:
            text = "The lock is lost: Packer is told to end (on_lock_lost)."
            self._notify(Notice(level="warning", text=text))
            self._deadline = time.monotonic() + self._grace
            self._packer.terminate()

    def _kill(self, why: str) -> None:
        names = ", ".join(str(member.pid) for member in self._packer.members())
        self._notify(Notice(level="warning", text=f"{why}: killing its processes ({names})."))
        self._deadline = float("inf")
        self._packer.kill()

    def _end_session(self, *, cleans_up: bool) -> Generator[None, None, None]:
        """End what a dead Packer left behind; its inner process may still clean up."""
        members = self._packer.members()
        if not members:
            return
        names = ", ".join(f"{member.command} ({member.pid})" for member in members)
        text = f"Packer's outer process has ended, but these live on and are ended: {names}."
        self._notify(Notice(level="warning", text=text))
        self._packer.terminate_members()
        if self._deadline == float("inf") or not cleans_up:
            self._deadline = time.monotonic() + (self._grace if cleans_up else _LEFTOVERS)
        while self._packer.members():
            yield
            self._look()
