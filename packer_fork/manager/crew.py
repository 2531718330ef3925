"""What one machine does in a run that many share: take a source, build it, take the next.

What is taken, done or given up is in the share that all see; what came of it is in the
state. A machine that finds nothing left waits for the others.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime

from msgspec import Struct

from packer_fork import sharing
from packer_fork.errors import (
    EXIT_DONE,
    EXIT_LOCK_LOST,
    EXIT_OUTBOX,
    LockLostError,
    PackerForkError,
    StoreError,
)
from packer_fork.events import Elsewhere, Notice, Notify
from packer_fork.locks import Share, Stop, Verdict
from packer_fork.manager import joint, recover, sources
from packer_fork.manager.executor import pause_before
from packer_fork.manager.job import Ended, Job
from packer_fork.manager.run import run
from packer_fork.manager.state_ref import StateRef as Place
from packer_fork.model import BuildStatus
from packer_fork.packer.signals import SignalWatch
from packer_fork.stores.base import Membership

_TICK = 0.05
_IDLE = 0.25
_LOOK = 1.0
"""Seconds between two looks at what others do."""

_EVERYTHING = ""
"""No source is called so: what is due of the run as a whole."""

_NOT_ON_RECORD = (EXIT_LOCK_LOST, EXIT_OUTBOX)

Part = Generator[None, None, None]
"""A source under way here: to be continued every moment."""


class Terms(Struct, frozen=True, kw_only=True):
    """``names``: the sources that this machine may build. ``cancel_all``: a signal ends the
    run for all. ``waits``: also for what others build.
    """

    names: tuple[str, ...]
    cancel_all: bool
    waits: bool


class Crew:
    """This machine's part in run ``number``."""

    def __init__(
        self,
        place: Place,
        tenure: Membership,
        number: int,
        job: Callable[[str, int, set[str]], Job],
        terms: Terms,
        notify: Notify,
    ) -> None:
        """`job` makes that of one source, of a part's number, and of reasons to cancel it."""
        self.codes: list[int] = []
        """Exit codes of what was built here."""
        self._place = place
        self._tenure = tenure
        self._number = number
        self._job = job
        self._terms = terms
        self._notify = notify
        self._under_way: dict[str, Part] = {}
        self._due: dict[str, sharing.Step] = {}
        self._reasons: set[str] = set()
        self._share: Share | None = None
        self._dead: frozenset[int] = frozenset()
        self._look_at = 0.0
        self._told: dict[str, tuple[int, bool]] = {}
        self._orphans: set[str] = set()
        self._error: PackerForkError | None = None
        self._is_away = False

    def work(self, watch: SignalWatch) -> None:
        """Until nothing is left to do, or to wait for, here.

        Raises why nothing more can be done here, once nothing is under way any more.
        """
        while not self._is_over(watch):
            self._advance()
            if watch.signals and self._terms.cancel_all:
                self._stop("cancelled (--cancel-all)")
            if time.monotonic() >= self._look_at:
                self._look()
            self._take_on(watch)
            watch.wait(_TICK if self._under_way else _IDLE)
        if self._error is not None and not self.off_record:
            raise self._error

    def goes_on(self, watch: SignalWatch) -> bool:
        """Whether there is more to do, or to wait for, by a new look; else `work` is over."""
        self._look()
        return self._error is not None or not self._is_over(watch)

    @property
    def off_record(self) -> int:
        """The exit code where something that was built here is not in the state; else 0."""
        return next((code for code in self.codes if code in _NOT_ON_RECORD), EXIT_DONE)

    def _is_over(self, watch: SignalWatch) -> bool:
        if self._under_way:
            return False
        if self._error is not None:
            return True
        if self._share is None or self._due:
            return False
        if watch.signals or self.off_record:
            return True
        if self._free() and not self._reasons:
            return False
        return not (self._terms.waits and self._others())

    def _advance(self) -> None:
        for source, part in tuple(self._under_way.items()):
            try:
                next(part)
            except StopIteration:
                del self._under_way[source]
                self._look_at = 0.0
            except PackerForkError as error:
                del self._under_way[source]
                self._error = self._error or error

    def _look(self) -> None:
        """Hand in what is due, and learn what others have taken, done or given up."""
        self._look_at = time.monotonic() + _LOOK
        with self._patiently():
            for source, step in tuple(self._due.items()):
                self._tenure.update(step)
                del self._due[source]
            self._share, self._dead = self._tenure.look()
            self._tell_of_others()
            if not self._under_way and self._others():
                self._tell_of_orphans()
            if self._share.stop is not None and not self._reasons:
                self._reasons.add(f"{self._share.stop.why}, says {self._share.stop.by}")

    @contextlib.contextmanager
    def _patiently(self) -> Iterator[None]:
        """What runs here goes on while the store is away; a lost lock it notices itself."""
        try:
            yield
        except (StoreError, LockLostError) as error:
            if not self._under_way or isinstance(error, LockLostError):
                self._error = self._error or error
            elif not self._is_away:
                text = f"{error.message} What is built here goes on."
                self._notify(Notice(level="warning", text=text, hint=error.hint))
            self._is_away = True
        else:
            self._is_away = False

    def _tell_of_others(self) -> None:
        for build in joint.builds_now(self._place.store.read(), self._number):
            if build.part and build.by != self._tenure.participant.holder.by:
                news = (build.part, build.status.is_final)
                if self._told.get(build.name) != news:
                    self._notify(Elsewhere(run=self._number, build=build))
                self._told[build.name] = news

    def _tell_of_orphans(self) -> None:
        """What is waited for may never end by itself: leftovers of a Packer, say."""
        for each in self._place.store.status().participants:
            member, verdict = each.participant, each.verdict
            if verdict in (Verdict.HELD, Verdict.ABANDONED) or member.id in self._orphans:
                continue
            self._orphans.add(member.id)
            text = f"What {member.holder.by} had taken is not free: {each.proof}."
            hint = f"If it hangs, there: packer-fork force-unlock {member.id} --kill"
            self._notify(Notice(level="warning", text=text, hint=hint))

    def _take_on(self, watch: SignalWatch) -> None:
        """As many sources as this machine builds at a time, the longest first."""
        if self._reasons or self._error or watch.signals or self.off_record:
            return
        room = self._place.settings.max_sources - len(self._under_way)
        for source in self._free() if room > 0 else ():
            with self._patiently():
                share = self._claim(source)
                if share is not None:
                    part = self._build(source, share.claims[-1].number, watch)
                    self._under_way[source] = part
                    room -= 1
            if room == 0 or self._is_away:
                return

    def _free(self) -> tuple[str, ...]:
        if self._share is None:
            return ()
        free = sources.free(self._share, self._dead, self._tenure.participant.number)
        busy = self._under_way.keys() | self._due.keys()
        ours = [name for name in free if name in self._terms.names and name not in busy]
        return sources.longest_first(ours, self._place.store.read()) if ours else ()

    def _others(self) -> tuple[str, ...]:
        if self._share is None:
            return ()
        return sources.others(self._share, self._dead, self._tenure.participant.number)

    def _claim(self, source: str) -> Share | None:
        number = self._tenure.participant.number
        share = self._tenure.update(lambda s, dead: sharing.claimed(s, source, number, dead))
        if share is None:
            self._look_at = 0.0  # somebody was faster
        else:
            self._share = share
        return share

    def _build(self, source: str, part: int, watch: SignalWatch) -> Part:
        if self._is_built_already(source):
            self._hand_in(source)
            return
        ended = yield from run(self._job(source, part, self._reasons), watch, self._notify)
        for attempt in range(1, self._place.settings.retries + 1):
            if ended.exit_code == EXIT_DONE or ended.cancelled or not ended.failed:
                break
            yield from self._pause(attempt, source, watch)
            share = None if watch.signals or self._reasons else self._claim(source)
            if share is None:
                break
            job = self._job(source, share.claims[-1].number, self._reasons)
            ended = yield from run(job, watch, self._notify)
        self._settle(source, ended)

    def _is_built_already(self, source: str) -> bool:
        """By somebody who died before it was handed in; what its log tells is put on record."""
        store = self._place.store
        for part in recover.unfinished(store.read()):
            if part.part and part.number == self._number and part.builds == (source,):
                reason = f"its machine died; {source} was taken over"
                recover.recover_run(store, self._tenure, part, self._notify, reason)
        builds = joint.builds_now(store.read(), self._number)
        return any(b.name == source and b.status is BuildStatus.COMPLETE for b in builds)

    def _pause(self, attempt: int, source: str, watch: SignalWatch) -> Part:
        settings = self._place.settings
        until = time.monotonic() + pause_before(attempt, (source,), settings, self._notify)
        while time.monotonic() < until and not watch.signals and not self._reasons:
            yield

    def _settle(self, source: str, ended: Ended) -> None:
        """Hand in what has its end; what was cancelled is free for others."""
        self.codes.append(ended.exit_code)
        if ended.exit_code == EXIT_DONE or ended.failed:
            self._hand_in(source)
            if ended.failed and self._place.settings.fail_fast:
                self._stop(f"{source} failed")
        elif ended.exit_code != EXIT_LOCK_LOST:
            number = self._tenure.participant.number
            self._due[source] = lambda share, _: sharing.given_back(share, source, number)

    def _hand_in(self, source: str) -> None:
        number = self._tenure.participant.number
        self._due[source] = lambda share, _: sharing.handed_in(share, source, number)

    def _stop(self, why: str) -> None:
        """Nobody shall go on."""
        if self._reasons:
            return
        self._reasons.add(why)
        stop = Stop(at=datetime.now(UTC), by=self._tenure.participant.holder.by, why=why)
        self._due[_EVERYTHING] = lambda share, _: sharing.stopped(share, stop)
        self._look_at = 0.0
