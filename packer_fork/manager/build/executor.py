"""Carries out the work items of a run: what to build next, how many at a time, what again.

Where the sources come from is a matter of ``Sources``: a run of one participant has all of them
(``OwnSources``), one that many share claims them one by one (``shared_run``).
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from msgspec import Struct

from packer_fork import config
from packer_fork.errors import EXIT_DONE, LockLostError, PackerForkError, StoreError
from packer_fork.events import Notice, Notify
from packer_fork.manager.build.work_item import (
    Claim,
    Context,
    ItemInProgress,
    ItemResult,
    carry_out,
)
from packer_fork.model import Run, RunStatus

_TICK = 0.05
_IDLE = 0.25
_LOOK = 1.0
"""Seconds between two looks at what other participants do."""

_LONGEST_PAUSE = 300.0
"""Seconds between two attempts at the most."""

_FINE = (RunStatus.COMPLETE, RunStatus.UNVERIFIED, RunStatus.RUNNING)
"""Of a run whose items here did not fail, unless others of it did."""


class Sources(Protocol):
    """Where the executor gets sources from, and where it says what became of them.

    Methods raise StoreError, or LockLostError where nothing may be built here any more.
    """

    @property
    def room(self) -> int:
        """How many items are built here at a time."""

    @property
    def is_due(self) -> bool:
        """Whether other participants are yet to learn what became of an item here."""

    @property
    def waits(self) -> bool:
        """Whether other participants build what is waited for here."""

    def is_any_free(self, busy: Collection[str]) -> bool:
        """Whether `claim` might find sources."""

    def look(self, *, is_idle: bool) -> str:
        """Learn what other participants do; why nobody shall go on, "" if that is not so.

        `is_idle`: nothing is built here.
        """

    def claim(self, busy: Collection[str]) -> Claim | None:
        """Sources that nobody else has, none of them `busy` here; None if there are none now."""

    def claim_again(self, claim: Claim, sources: tuple[str, ...]) -> Claim | None:
        """A retry of `sources`, which `claim` failed to build; None if it is too late for it."""

    def settle(self, result: ItemResult) -> None:
        """An item has come to its end, and is not tried again."""

    def stop(self, why: str) -> None:
        """Nobody shall go on."""

    def interrupt(self) -> None:
        """A signal ends what is built here."""


class OwnSources:
    """Groups of sources, each for one Packer, of a run that nobody else takes part in."""

    is_due = False
    waits = False

    def __init__(self) -> None:
        self.room = 1
        self._groups: deque[tuple[str, ...] | None] = deque()
        self._items = 0

    def add(self, groups: Iterable[tuple[str, ...] | None], *, room: int) -> None:
        """`groups`: None is for all that Packer finds."""
        self._groups.extend(groups)
        self.room = room

    def is_any_free(self, busy: Collection[str]) -> bool:  # noqa: ARG002 (all groups differ)
        return bool(self._groups)

    def look(self, *, is_idle: bool) -> str:  # noqa: ARG002 (nobody else takes part)
        return ""

    def claim(self, busy: Collection[str]) -> Claim | None:  # noqa: ARG002 (all groups differ)
        return self._numbered(self._groups.popleft(), 1) if self._groups else None

    def claim_again(self, claim: Claim, sources: tuple[str, ...]) -> Claim | None:
        return self._numbered(sources, claim.attempt + 1)

    def settle(self, result: ItemResult) -> None:
        """Nobody waits for it."""

    def stop(self, why: str) -> None:  # noqa: ARG002 (nobody else asks why)
        self._groups.clear()

    def interrupt(self) -> None:
        self._groups.clear()

    def _numbered(self, sources: tuple[str, ...] | None, attempt: int) -> Claim:
        self._items += 1
        return Claim(number=self._items, sources=sources, attempt=attempt)


class _Retry(Struct, frozen=True):
    """Sources that are built again once it is ``due``, by the monotonic clock."""

    result: ItemResult
    due: float


class Executor:
    """What one participant builds of run ``run``."""

    def __init__(self, context: Context, run: Run, sources: Sources) -> None:
        self.context = context
        """May be replaced between two calls of `work`."""
        self.results: list[ItemResult] = []
        self._run = run
        self._sources = sources
        self._watch = context.watch
        self._notify = context.notify
        self._settings = context.place.settings
        self._in_progress: dict[int, tuple[Claim, ItemInProgress]] = {}
        self._retries: list[_Retry] = []
        self._retried: set[int] = set()
        self._reasons: set[str] = set()
        self._error: PackerForkError | None = None
        self._is_away = False
        self._look_at = 0.0

    def work(self) -> None:
        """Build until there is nothing left to do, or to wait for, here.

        Raises why nothing more can be done here, once no item is under way any more.
        """
        try:
            while True:
                self._look()
                self._take_on()
                self._advance()
                if self._is_over():
                    break
                self._watch.wait(_TICK if self._in_progress else _IDLE)
        finally:
            for _, item in self._in_progress.values():
                item.close()
        if self._error is not None and not self.is_off_record:
            raise self._error

    def look_again(self) -> bool:
        """Whether there is more to do, or to wait for, by a new look; else `work` is over."""
        self._look_at = 0.0
        self._look()
        return self._error is not None or not self._is_over()

    @property
    def is_off_record(self) -> bool:
        """Whether something that was built here is not in the state."""
        return any(result.unsaved is not None for result in self.results)

    @property
    def goes_on(self) -> bool:
        """Whether anything more may be begun here."""
        return not (self._reasons or self._error or self._watch.signals or self.is_off_record)

    @property
    def failed(self) -> set[str]:
        """Builds that failed here for good."""
        failed = (each for each in self._standing() if each.exit_code != EXIT_DONE)
        return {name for result in failed for name in result.failed}

    def exit_code(self, run: Run) -> int:
        """Of this participant, by the whole `run` and by what was built here."""
        codes = [result.exit_code for result in self._standing()]
        for result in self.results:
            if result.unsaved is not None:
                return result.exit_code
        if self._watch.signals and run.status is not RunStatus.COMPLETE:
            return 128 + self._watch.signals[0]
        code = next((code for code in codes if code != EXIT_DONE), EXIT_DONE)
        return code if run.status in _FINE else max(code, 1)

    def _standing(self) -> Iterator[ItemResult]:
        return (each for each in self.results if each.claim.number not in self._retried)

    def _is_over(self) -> bool:
        if self._in_progress:
            return False
        if self._error is not None:
            return True
        if self._sources.is_due:
            return False
        if self._watch.signals or self.is_off_record:
            return True
        if self.goes_on and (self._retries or self._sources.is_any_free(self._busy())):
            return False
        return not self._sources.waits

    def _look(self) -> None:
        if self._watch.signals:
            self._sources.interrupt()
        is_urgent = self._sources.is_due and not self._is_away
        if time.monotonic() < self._look_at and not is_urgent:
            return
        self._look_at = time.monotonic() + _LOOK
        with self._patiently():
            why = self._sources.look(is_idle=not self._in_progress)
            if why and not self._reasons:
                self._reasons.add(why)

    @contextlib.contextmanager
    def _patiently(self) -> Iterator[None]:
        """What is built here goes on while the store is away; a lost lock it notices itself."""
        try:
            yield
        except (StoreError, LockLostError) as error:
            if not self._in_progress or isinstance(error, LockLostError):
                self._error = self._error or error
            elif not self._is_away:
                text = f"{error.message} What is built here goes on."
                self._notify(Notice(level="warning", text=text, hint=error.hint))
            self._is_away = True
        else:
            self._is_away = False

    def _take_on(self) -> None:
        """As many items as are built here at a time, those first that are tried again."""
        if not self.goes_on:
            for retry in self._retries:
                self._settle(retry.result)
            self._retries.clear()
            return
        for retry in [each for each in self._retries if each.due <= time.monotonic()]:
            if self._has_room:
                self._retries.remove(retry)
                self._retry(retry.result)
        while self._has_room:
            claim = None
            with self._patiently():
                claim = self._sources.claim(self._busy())
            if claim is None:
                return
            self._begin(claim)

    @property
    def _has_room(self) -> bool:
        return len(self._in_progress) < self._sources.room

    def _busy(self) -> set[str]:
        claims = [claim for claim, _ in self._in_progress.values()]
        claims += [retry.result.claim for retry in self._retries]
        return {name for claim in claims for name in claim.sources or ()}

    def _retry(self, failed: ItemResult) -> None:
        claim = None
        with self._patiently():
            claim = self._sources.claim_again(failed.claim, failed.failed)
        if claim is None:
            self._settle(failed)
        else:
            self._retried.add(failed.claim.number)
            self._begin(claim)

    def _begin(self, claim: Claim) -> None:
        is_last_attempt = claim.attempt > self._settings.retries
        fail_fast = self._settings.fail_fast and is_last_attempt
        item = carry_out(self.context, self._run, claim, self._reasons, fail_fast=fail_fast)
        self._in_progress[claim.number] = claim, item

    def _advance(self) -> None:
        for number, (_, item) in tuple(self._in_progress.items()):
            try:
                next(item)
            except StopIteration as end:
                del self._in_progress[number]
                self._look_at = 0.0
                self._ended(end.value)
            except PackerForkError as error:
                del self._in_progress[number]
                self._error = self._error or error

    def _ended(self, result: ItemResult) -> None:
        self.results.append(result)
        attempt = result.claim.attempt
        is_worth_it = result.exit_code != EXIT_DONE and result.failed and not result.is_cancelled
        if is_worth_it and self.goes_on and attempt <= self._settings.retries:
            pause = _pause_before(attempt, result.failed, self._settings, self._notify)
            self._retries.append(_Retry(result, time.monotonic() + pause))
        else:
            self._settle(result)

    def _settle(self, result: ItemResult) -> None:
        with self._patiently():
            self._sources.settle(result)
        has_failed = result.exit_code != EXIT_DONE and result.failed
        if has_failed and self._settings.fail_fast:
            why = f"{', '.join(result.failed)} failed"
            self._reasons.add(why)
            self._sources.stop(why)


def _pause_before(
    attempt: int, failed: tuple[str, ...], settings: config.Settings, notify: Notify
) -> float:
    """Seconds of a back-off with jitter, told: whatever failed may be a neighbour's load."""
    longest = min(_LONGEST_PAUSE, settings.retry_pause * 2 ** (attempt - 1))
    seconds = random.uniform(longest / 2, longest)  # noqa: S311 (spreads load, no secret)
    text = f"Attempt {attempt} of {settings.retries} to build again: {', '.join(failed)}"
    notify(Notice(level="info", text=f"{text}; in {seconds:.0f} s."))
    return seconds
