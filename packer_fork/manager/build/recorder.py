"""One work item on record: Packer's output is folded into it, and each phase committed.

A live item and the recovery of a dead one read Packer's output by the same code, so that both
come to the same result; the fold itself is ``packer.outcome``.

Packer's lines carry whole seconds. In a live item a line counts as of the moment when it
arrived, within its second; a recovery has the seconds alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from msgspec import Raw, structs

from packer_fork.errors import LockLostError, StoreError
from packer_fork.events import BuildChanged, MachineLine, Notice, Notify, Output
from packer_fork.manager.build.log_files import ItemLog
from packer_fork.model import Build, PendingChange, WorkItem
from packer_fork.packer import lines, outcome
from packer_fork.packer.mask import Mask
from packer_fork.packer.outcome import Outcome
from packer_fork.packer.sources import event_of
from packer_fork.stores.base import HeldLock
from packer_fork.stores.retry import Breaker

_LAST_OF_SECOND = timedelta(milliseconds=999)


def moment(stamp: datetime, arrived: datetime | None, latest: datetime | None) -> datetime:
    """When a line was written, in milliseconds as far as that is known.

    `stamp`: the second that Packer put on it. `arrived`: when it was read, later than that if
    packer-fork was held up; None in a recovery. Then it is no earlier than `latest`, the moment
    that the live run knew last, if that is of the same second.
    """
    if arrived is not None:
        milliseconds = arrived.replace(microsecond=arrived.microsecond // 1000 * 1000)
        return min(max(milliseconds, stamp), stamp + _LAST_OF_SECOND)
    is_same_second = latest is not None and stamp <= latest <= stamp + _LAST_OF_SECOND
    return latest if latest is not None and is_same_second else stamp


def _latest(outcome: Outcome) -> datetime | None:
    """The last moment that is known of any build."""
    known: list[datetime | None] = []
    for build in outcome.builds.values():
        known += (build.started, build.ended)
        for step in (*build.provisioners, *build.post_processors):
            known += (step.started, step.ended)
    return max((at for at in known if at is not None), default=None)


class Transcript:
    """What Packer writes: masked into the log, told to the view, and folded line by line."""

    def __init__(self, start: Outcome, mask: Mask, log: ItemLog, notify: Notify) -> None:
        """`start` rests on ``item.log_offset`` bytes of the raw log, which are not folded again."""
        self.outcome = start
        self._mask = mask
        self._notify = notify
        self._log = log
        self._latest = _latest(start)
        self._folded = start.item.log_offset
        self._offset = 0
        self._buffer = b""
        self._stderr = b""

    def feed(self, data: bytes, arrived: datetime | None = None) -> None:
        """Take the next bytes of the raw log.

        `arrived`: when they were read, if Packer has just written them.
        """
        whole, self._buffer = lines.split(self._buffer + data)
        before = self.outcome
        for raw in whole:
            self._offset += len(raw)
            self._take(raw, arrived, fold=self._offset > self._folded)
        self._tell(before)

    def feed_stderr(self, data: bytes) -> None:
        """Take bytes of Packer's standard error: shown and logged, never interpreted."""
        whole, self._stderr = lines.split(self._stderr + data)
        for raw in whole:
            self._take_stderr(raw.removesuffix(b"\n"))

    def end(self, how: outcome.Ended, exit_code: int | None) -> None:
        """Judge the item. A last line that was not finished proves nothing."""
        if self._stderr:
            self._take_stderr(self._stderr)
        before = self.outcome
        self.outcome = outcome.conclude(
            before, at=datetime.now(UTC), exit_code=exit_code, ended=how
        )
        self._tell(before)

    def shown(self) -> Outcome:
        """The outcome as it may be shown: the fold itself needs Packer's words unmasked."""
        builds = {name: self._mask.document(build) for name, build in self.outcome.builds.items()}
        return Outcome(self._mask.document(self._on_record()), builds)

    def _on_record(self) -> WorkItem:
        offset = max(self._offset, self._folded)
        return structs.replace(self.outcome.item, log_offset=offset)

    def _take(self, raw: bytes, arrived: datetime | None, *, fold: bool) -> None:
        self._notify(MachineLine(line=self._mask.line(raw).decode("utf-8", "replace").rstrip("\n")))
        line = lines.parse(raw)
        if line is None:
            return
        line = structs.replace(line, at=moment(line.at, arrived, self._latest))
        event = event_of(self.outcome.item.sources, line)
        if line.type == "ui" and len(line.args) > 1:
            text = self._mask.text(line.args[1])
            self._log.write(text)
            build = event.name if event.name in self.outcome.builds else ""
            self._notify(Output(at=line.at, kind=line.args[0], text=text, build=build))
        if fold:
            self.outcome = outcome.apply(self.outcome, event)

    def _take_stderr(self, raw: bytes) -> None:
        text = self._mask.text(raw.decode("utf-8", "replace"))
        self._log.write(text)
        self._notify(Output(at=datetime.now(UTC), kind="stderr", text=text))

    def _tell(self, before: Outcome) -> None:
        for name, build in _changed(before.builds, self.outcome.builds).items():
            known = before.builds.get(name)
            # `places` is dropped at the end: only the fold needs it, so that is no news.
            if known is None or structs.replace(known, places=build.places) != build:
                self._notify(BuildChanged(build=self._mask.document(build)))


class Recorder(Transcript):
    """Commits what Packer writes. Failing commits are told once and made up for later."""

    def __init__(
        self,
        start: Outcome,
        lock: HeldLock,
        mask: Mask,
        log: ItemLog,
        notify: Notify,
        keep: Callable[[Outcome | None], None] = lambda _: None,
        guard: Breaker | None = None,
    ) -> None:
        """`keep` is given what could not be committed, and None once it could be. `guard` is asked
        before progress is committed; the beginning and the end of an item are so in any case.
        """
        super().__init__(start, mask, log, notify)
        self.unsaved: StoreError | LockLostError | None = None
        self.commits = 0
        self.committing = 0.0
        """Seconds that all commits took that were made."""
        self.documents: dict[str, Raw | None] = {}
        """What the state is to keep with the next change that it takes."""
        self._kept: Outcome | None = None
        self._committed: dict[str, Build] = {}
        self._lock = lock
        self._keep = keep
        self._guard = guard

    def feed(self, data: bytes, arrived: datetime | None = None) -> None:
        """The same, and commit if that moved a build on."""
        before = self.outcome
        super().feed(data, arrived)
        if self.outcome is not before:
            self.commit("progress")

    def commit(self, operation: str) -> None:
        """Commit what changed since the last time.

        A store that is away, or a lock that is lost, does not stop Packer: see `unsaved`.
        """
        if isinstance(self.unsaved, LockLostError):
            return
        item, changed = self._on_record(), _changed(self._committed, self.outcome.builds)
        draft = PendingChange(
            operation=operation,
            builds={
                **{name: self._mask.document(build) for name, build in changed.items()},
                **_gone(self._committed, self.outcome.builds),
            },
            inputs=self.documents,
            items=(self._mask.document(item),),
        )
        try:
            self._commit(draft)
        except (StoreError, LockLostError) as error:
            if self.unsaved is None:
                text = f"{error.message} What Packer comes to is kept."
                self._notify(Notice(level="warning", text=text, hint=error.hint))
            self.unsaved = error
            if self._kept is not self.outcome:
                self._kept = self.outcome
                self._keep(self.shown())
        else:
            if self.unsaved is not None:
                self._kept = None
                self._keep(None)
            self.unsaved = None
            self.documents = {}
            self.outcome = structs.replace(self.outcome, item=item)
            self._committed = self.outcome.builds

    def _commit(self, draft: PendingChange) -> None:
        """The guard learns only of failures, and of the first success after them."""
        begun = time.monotonic()
        self._guarded(draft)
        self.committing += time.monotonic() - begun
        self.commits += 1

    def _guarded(self, draft: PendingChange) -> None:
        if self._guard is None:
            self._lock.commit(draft)
            return
        if self.unsaved is not None and draft.operation == "progress":
            self._guard.before()
        try:
            self._lock.commit(draft)
        except StoreError as error:
            self._guard.failed(error.message)
            raise
        if self.unsaved is not None:
            self._guard.succeeded()

    def look_at_lock(self) -> None:
        """Find out, and tell, that the lock was closed under us, even if there is no news.

        What the store did not take is offered to it again.
        """
        if isinstance(self.unsaved, StoreError) or self.is_lost:
            self.commit("progress")

    def reserve(self) -> bool:
        """Reserve disk space for what is yet to be committed; False if the disk is full."""
        return self._lock.reserve()

    @property
    def is_lost(self) -> bool:
        """Whether the lock is lost, or by the settings is taken for it, as far as is known here."""
        return isinstance(self.unsaved, LockLostError) or not self._lock.is_open()

    def raise_unsaved(self) -> None:
        """Raise why the last commit failed, if it did."""
        if self.unsaved is not None:
            raise self.unsaved


def _gone(before: dict[str, Build], after: dict[str, Build]) -> dict[str, None]:
    return dict.fromkeys(name for name in before if name not in after)


def _changed(before: dict[str, Build], after: dict[str, Build]) -> dict[str, Build]:
    return {name: build for name, build in after.items() if before.get(name) is not build}
