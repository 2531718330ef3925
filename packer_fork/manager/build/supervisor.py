"""One Packer process, from its start to the end of its last process, signals included.

Packer writes into log files, or has the terminal to itself. It never writes into a pipe of
packer-fork, so nothing that happens to packer-fork can stop it. Packer has ended when its outer
process has ended in order, or when no process of it is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Protocol

from msgspec import Struct, structs

from packer_fork.disk_reserve import DiskReserve
from packer_fork.events import Cancelling, Notice, Notify
from packer_fork.locks import ProcessId
from packer_fork.manager.build.log_files import LogFiles
from packer_fork.manager.build.observing import Observer
from packer_fork.manager.build.recorder import Recorder
from packer_fork.model import BuildStatus
from packer_fork.packer import foreground, outcome, process
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.outcome import Ended
from packer_fork.packer.process import Launch, PackerProcess
from packer_fork.packer.signals import SignalWatch
from packer_fork.packer.tail import Tail

_LOOK = 1.0
"""Seconds between looks at the lock, which an operator may have closed."""

DISK_FULL = "the disk of the state is full"
"""Why Packer is cancelled before its output or the state finds no room."""

_SIGNALS_TO_KILL = 3
_SURVIVORS = 5.0
"""Seconds that processes left behind by a Packer that died have to end by themselves."""


class Terms(Struct, frozen=True, kw_only=True):
    """When Packer is cancelled.

    ``grace``: seconds that a cancelled Packer may clean up. ``until_lost``: it is cancelled when
    the lock is lost. ``fail_fast``: a build that fails cancels the others.
    """

    grace: float
    until_lost: bool
    fail_fast: bool


class End(Struct, frozen=True, kw_only=True):
    """How Packer ended.

    ``died``: it was killed. ``signal``: the first one that packer-fork got, 0 if none.
    ``lost``: it was cancelled because the lock was lost; ``failed_fast``: because a build failed;
    ``disk_full``: because a log or the state could not grow any more.
    """

    exit_code: int | None
    died: bool
    signal: int = 0
    lost: bool = False
    failed_fast: bool = False
    disk_full: bool = False

    @property
    def how(self) -> Ended:
        if self.signal or self.lost or self.disk_full:
            return "cancelled"
        return "interrupted" if self.died else "normal"


class Attachment(Protocol):
    """A started Packer, and what connects packer-fork with it."""

    @property
    def packer(self) -> PackerProcess: ...

    def read(self) -> None:
        """Record what Packer wrote since the last call."""

    def reserve(self) -> bool:
        """Reserve disk space for what Packer is yet to write; False if the disk is full."""

    def heed(self, number: int) -> None:
        """Pass on a signal that packer-fork got. Called in the signal's handler."""

    def was_killed(self, exit_code: int) -> bool:
        """Whether Packer's end was no end of its own: killed, or its inner process was."""

    def conclude(self, end: End) -> None:
        """Judge what Packer came to, not committed yet, and release the reserved disk space."""

    def close(self) -> None: ...


class LogAttachment:
    """Packer writes into log files, which are read as they grow, and its reads are observed."""

    def __init__(
        self, launch: Launch, files: LogFiles, recorder: Recorder, observer: Observer
    ) -> None:
        """Starts Packer. Raises PackerError, StoreError."""
        observer.begin(frozenset(recorder.outcome.builds))
        self._observer = observer
        self.packer = process.start(launch, stdout=files.raw, stderr=files.stderr)
        self._files = files
        self._recorder = recorder
        self._tails: tuple[Tail, Tail] | None = None
        self._reserves: dict[int, DiskReserve] = {}
        self._is_cancelled = False

    def read(self) -> None:
        self._observer.drain()
        if self._tails is None:
            self._tails = Tail(self._files.raw, 0), Tail(self._files.stderr, 0)
        stdout, stderr = self._tails
        while data := stdout.read():
            self._recorder.feed(data, datetime.now(UTC))
        while data := stderr.read():
            self._recorder.feed_stderr(data)

    def reserve(self) -> bool:
        if not self._reserves:
            for path in (self._files.raw, self._files.stderr):
                with contextlib.suppress(OSError):
                    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
                    self._reserves[descriptor] = DiskReserve(descriptor)
        return all(reserve.top_up() for reserve in self._reserves.values())

    def heed(self, number: int) -> None:  # noqa: ARG002 (Packer knows one cancel only)
        if not self._is_cancelled:
            self._is_cancelled = True
            self.packer.terminate()

    def was_killed(self, exit_code: int) -> bool:
        """The outer process exits 0 when the inner one is killed: no closing line is there then."""
        return exit_code < 0 or (exit_code == 0 and not self._recorder.outcome.item.closed)

    def conclude(self, end: End) -> None:
        for reserve in self._reserves.values():
            with contextlib.suppress(OSError):
                reserve.release()
        self._recorder.end(end.how, end.exit_code)

    def close(self) -> None:
        for tail in self._tails or ():
            tail.close()
        for descriptor in self._reserves:
            os.close(descriptor)


class TerminalAttachment:
    """Packer has the terminal to itself: what it says is not seen, so that nothing is proven."""

    def __init__(self, launch: Launch, recorder: Recorder) -> None:
        """Starts Packer. Raises PackerError."""
        self._recorder = recorder
        with contextlib.ExitStack() as stack:
            stack.enter_context(foreground.terminal_kept())
            self.packer = foreground.start(_without_colour(launch))
            self._terminal = stack.pop_all()

    def read(self) -> None:
        """There is nothing to read."""

    def reserve(self) -> bool:
        return True

    def heed(self, number: int) -> None:
        if number != signal.SIGINT:  # that one Packer has got from the terminal as well
            self.packer.terminate()

    def was_killed(self, exit_code: int) -> bool:
        return exit_code < 0

    def conclude(self, end: End) -> None:
        self._recorder.outcome = outcome.conclude_unseen(
            self._recorder.outcome, at=datetime.now(UTC), exit_code=end.exit_code, ended=end.how
        )

    def close(self) -> None:
        self._terminal.close()


def is_interactive(flags: PackerFlags) -> bool:
    """Whether Packer with these flags will want to ask, and somebody is there to answer."""
    wants = flags.debug or flags.on_error == "ask"
    return wants and not flags.machine_readable and foreground.has_terminal()


def _without_colour(launch: Launch) -> Launch:
    """Packer has a variable of its own for what everybody else calls NO_COLOR."""
    if not launch.environ.get("NO_COLOR"):
        return launch
    return structs.replace(launch, environ={"PACKER_NO_COLOR": "1", **launch.environ})


Supervision = Generator[None, None, End]
"""A Packer under way: to be continued every moment, until it returns how it ended."""


def supervise(
    attach: Callable[[], Attachment],
    recorder: Recorder,
    terms: Terms,
    reasons: set[str],
    watch: SignalWatch,
    notify: Notify,
    started: Callable[[ProcessId], None],
) -> Supervision:
    """Start Packer with `attach`, and see it to its end.

    `reasons`: why all Packers of the run are to be cancelled; with ``fail_fast`` a build that
    fails is one. A Packer whose builds have all ended is not cancelled: it would not list their
    artifacts. Raises PackerError if Packer cannot be started.
    """
    attachment = attach()
    try:
        with watch.telling(attachment.heed):  # a store that is away may hold up all else
            started(attachment.packer.identity)
            supervisor = _Supervisor(attachment, recorder, terms, reasons, watch, notify)
            end = yield from supervisor.to_the_end()
        attachment.conclude(end)
    finally:
        attachment.close()
    return end


class _Supervisor:
    def __init__(
        self,
        attachment: Attachment,
        recorder: Recorder,
        terms: Terms,
        reasons: set[str],
        watch: SignalWatch,
        notify: Notify,
    ) -> None:
        self._attachment = attachment
        self._packer = attachment.packer
        self._recorder = recorder
        self._terms = terms
        self._reasons = reasons
        self._watch = watch
        self._notify = notify
        self._lost = False
        self._failed_fast = False
        self._disk_full = False
        self._deadline = float("inf")
        self._heeded = 0
        self._look_at = 0.0

    def to_the_end(self) -> Supervision:
        while (code := self._packer.poll()) is None:
            yield
            self._look()
        self._attachment.read()
        self._heed_signals()
        died = self._attachment.was_killed(code)
        if died or self._heeded or self._failed_fast or self._lost or self._disk_full:
            yield from self._end_survivors(cleans_up=self._packer.outlived_by_inner())
        self._attachment.read()
        self._packer.reap()
        return End(
            exit_code=code if code >= 0 else None,
            died=died,
            signal=self._watch.signals[0] if self._watch.signals else 0,
            lost=self._lost,
            failed_fast=self._failed_fast,
            disk_full=self._disk_full,
        )

    def _look(self) -> None:
        self._attachment.read()
        self._heed_signals()
        if not self._disk_full and not (self._recorder.reserve() and self._attachment.reserve()):
            self._cancel_on_full_disk()
        if not (self._failed_fast or self._heeded or self._disk_full):
            self._cancel_with_others()
        if time.monotonic() > self._look_at:
            self._look_at = time.monotonic() + _LOOK
            if self._terms.until_lost and self._recorder.is_lost and not self._lost:
                self._cancel_after_loss()
            self._recorder.look_at_lock()
        if time.monotonic() > self._deadline:
            self._kill("The time that Packer had to clean up is over")

    def _heed_signals(self) -> None:
        for number in self._watch.signals[self._heeded :]:
            self._heeded += 1
            if self._heeded == 1:
                self._deadline = time.monotonic() + self._terms.grace
            left = max(0.0, self._deadline - time.monotonic())
            name = signal.Signals(number).name
            self._notify(Cancelling(signal=name, signals=self._heeded, kill_in=left))
            if self._heeded == _SIGNALS_TO_KILL:
                self._kill("Told three times to end")

    def _cancel_with_others(self) -> None:
        if self._terms.fail_fast:
            builds = self._recorder.outcome.builds.values()
            failed = (b.name for b in builds if b.status is BuildStatus.FAILED)
            self._reasons |= {f"{name} failed" for name in failed}
        if self._reasons and outcome.is_under_way(self._recorder.outcome):
            self._failed_fast = True
            self._cancel(f"{', '.join(sorted(self._reasons))}: other builds are cancelled.")

    def _cancel_after_loss(self) -> None:
        self._lost = True
        if not self._heeded:
            self._cancel("The lock is lost: Packer is told to end (on_lock_lost).")

    def _cancel_on_full_disk(self) -> None:
        """Packer that cannot write its output hangs, even once there is room again."""
        self._disk_full = True
        if DISK_FULL not in self._reasons:
            self._reasons.add(DISK_FULL)
            hint = "free disk space, or choose another folder with --state DIR"
            text = f"{DISK_FULL}: Packer is cancelled"
            self._notify(Notice(level="warning", text=text, hint=hint))
        if self._deadline == float("inf"):
            self._deadline = time.monotonic() + self._terms.grace
            if outcome.is_under_way(self._recorder.outcome):
                self._packer.terminate()

    def _cancel(self, why: str) -> None:
        self._notify(Notice(level="warning", text=why))
        self._deadline = time.monotonic() + self._terms.grace
        self._packer.terminate()

    def _kill(self, why: str) -> None:
        names = ", ".join(str(member.pid) for member in self._packer.members())
        self._notify(Notice(level="warning", text=f"{why}: killing its processes ({names})."))
        self._deadline = float("inf")
        self._packer.kill()

    def _end_survivors(self, *, cleans_up: bool) -> Generator[None, None, None]:
        """End what a dead Packer left behind; its inner process may still clean up."""
        members = self._packer.members()
        if not members:
            return
        names = ", ".join(f"{member.command} ({member.pid})" for member in members)
        text = f"Packer's outer process has ended, but these live on and are ended: {names}."
        self._notify(Notice(level="warning", text=text))
        self._packer.terminate_members()
        if self._deadline == float("inf") or not cleans_up:
            self._deadline = time.monotonic() + (self._terms.grace if cleans_up else _SURVIVORS)
        while self._packer.members():
            yield
            self._look()
