"""A shared lock that this process holds as one participant: a leased key, and kernel locks here.

Every step is one transaction on the lock record as it was read. It removes the key of each
participant that it removes. A participant whose lease has ended takes its key back only
together with the record, written anew: so nobody judges it dead and it is back as well.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from packer_fork import lock_steps
from packer_fork.errors import LockLostError, StateError, StoreError
from packer_fork.locks import LockRecord, LockStatus, Participant, ProcessId, lost
from packer_fork.model import PendingChange, SegmentRef, State
from packer_fork.responses import Backup
from packer_fork.stores import lock_record
from packer_fork.stores.archive import backups, history, repair
from packer_fork.stores.base import Committed
from packer_fork.stores.local.kernel_locks import KernelLocks
from packer_fork.stores.shared import blobs, lock_status, names
from packer_fork.stores.shared.companion import Companion
from packer_fork.stores.shared.deciding import decide
from packer_fork.stores.shared.files import SharedFiles
from packer_fork.stores.shared.journal import SharedJournal
from packer_fork.stores.shared.keys import (
    Condition,
    Delete,
    Keys,
    Leased,
    Put,
    Unchanged,
    UnsureError,
    Write,
)
from packer_fork.stores.shared.lease import Lease
from packer_fork.stores.shared.lock_status import Found
from packer_fork.stores.shared.reader import SharedReader

_ATTEMPTS = 200
"""How often a step is tried again on a record that another participant has changed."""

_PAUSE = 0.5
"""Seconds between two reads of a participant's key, however often they wake."""


def enter(
    keys: Keys, found: Found, record: LockRecord, lease: Lease, gone: Sequence[str] = ()
) -> int:
    """Write `record` with the leased key of its newest participant; remove the keys `gone`.

    The revision of both, 0 if the lock has changed since it was `found`. Raises StoreError.
    """
    key = names.participant(record.token, record.participants[-1].number)
    writes: list[Write] = [Put(names.LOCK, lock_record.encode(record))]
    writes += map(Delete, gone)
    writes.append(Put(key, record.id.encode(), lease.id))
    return decide(keys, [found.unchanged], writes, lambda: _revision(keys, key, lease))


def expel(keys: Keys, found: Found, after: LockRecord, number: int) -> bool:
    """Write a record without that participant, and remove its key. Raises StoreError."""
    key = names.participant(after.token, number)
    writes: list[Write] = [Put(names.LOCK, lock_record.encode(after)), Delete(key)]
    return decide(keys, [found.unchanged], writes, lambda: _written(keys, after)) > 0


def _revision(keys: Keys, key: str, lease: Lease) -> int:
    item = keys.get(key)
    return item.modified if item and item.lease == lease.id else 0


def _written(keys: Keys, record: LockRecord) -> int:
    item = keys.get(names.LOCK)
    return item.modified if item and item.value == lock_record.encode(record) else 0


class ParticipantKey:
    """The leased key of one participant, which fences its changes, and its steps of the record.

    A lease that has ended is taken back as long as the record lists the participant; else the
    lock is lost.
    """

    def __init__(
        self, keys: Keys, record: LockRecord, revision: int, lease: Lease, companion: Companion
    ) -> None:
        """For the newest participant of `record`, which stands under the lock's `revision`."""
        self.participant: Participant = record.participants[-1]
        self._seen = record, revision
        self.keys = keys
        self.companion = companion
        self._key = names.participant(record.token, self.participant.number)
        self._lease = lease
        self._lost = ""
        self._in_process = threading.RLock()
        self._closed = threading.Event()
        lease.watch(self._take_back)
        threading.Thread(target=self._watch, name="lock", daemon=True).start()

    @property
    def record(self) -> LockRecord:
        return self._seen[0]

    def conditions(self) -> Sequence[Condition]:
        return (Leased(self._key, self._lease.id),)

    def check(self) -> None:
        """Raises LockLostError if the lock is lost; takes a lease back that has ended."""
        with self._in_process:
            if not self._lost and not self._closed.is_set():
                item = self.keys.get(self._key)
                if item is None or item.lease != self._lease.id:
                    self._take_back()
            if self._lost:
                raise LockLostError(self._lost)

    def is_open(self, *, surely: bool) -> bool:
        """As far as is known here, without asking; `surely`: also not in danger of being lost."""
        return not self._lost and not (surely and self._lease.is_in_danger)

    def update(self, step: lock_steps.Step) -> LockRecord | None:
        """Raises LockLostError, StoreError."""
        return self._step(step, self.conditions)

    def look(self) -> tuple[LockRecord, frozenset[int]]:
        """Raises LockLostError, StoreError."""
        found, record = self._read()
        return record, self._dead(found)

    def close(self) -> bool:
        """Leave the lock. False if that is not certain: the servers were away."""
        self._closed.set()
        number, by = self.participant.number, self.participant.holder.by
        has_left = False
        with self._in_process:
            self._lease.watch(None)
            with contextlib.suppress(StoreError):
                with contextlib.suppress(LockLostError):
                    if not self._lost:
                        self._step(lambda record, _: lock_steps.leave(record, number, by), list)
                has_left = True
            self._lost = self._lost or f"The lock {self.record.id} was given back."
        self._lease.close()
        return has_left

    def hand_over(self) -> None:
        self._closed.set()
        self._lease.watch(None)
        self._lease.stop()

    def _step(
        self, step: lock_steps.Step, conditions: Callable[[], Sequence[Condition]]
    ) -> LockRecord | None:
        """Nobody else steps an exclusive lock, so its record is read again only if it changed."""
        record, revision = self._seen
        if record.max_participants == 1:
            after = step(record, frozenset())
            if after is not None and self._write(record, revision, after, conditions()):
                return after
        for _ in range(_ATTEMPTS):
            found, record = self._read()
            after = step(record, self._dead(found))
            if after is None:
                return None
            if self._write(record, found.unchanged.modified, after, conditions()):
                return after
            if not self._closed.is_set():
                self.check()
        raise StoreError(f"{self.keys.location}/{names.LOCK} never stands still for a change.")

    def _write(
        self,
        before: LockRecord,
        revision: int,
        after: LockRecord,
        conditions: Sequence[Condition],
    ) -> bool:
        numbers = [each.number for each in before.participants if not after.lists(each.number)]
        writes: list[Write] = [Put(names.LOCK, lock_record.encode(after))]
        writes += [Delete(names.participant(after.token, number)) for number in numbers]
        holding = (*conditions, Unchanged(names.LOCK, revision))
        written = decide(self.keys, holding, writes, lambda: _written(self.keys, after))
        if written:
            self._seen = after, written
        return written > 0

    def _read(self) -> tuple[Found, LockRecord]:
        """The record as it stands. Raises LockLostError if it does not list us any more."""
        with self._in_process:
            found = lock_status.read(self.keys)
            record = found.record
            if record is None or not self._is_listed(record):
                self._lost = self._lost or lost(record, self.record)
                raise LockLostError(self._lost)
            return found, record

    def _dead(self, found: Found) -> frozenset[int]:
        if found.record is None or len(found.record.participants) == 1:
            return frozenset()
        evidence = lock_status.evidence(self.keys, found, self.companion, closely=False)
        return lock_steps.dead(evidence) - {self.participant.number}

    def _is_listed(self, record: LockRecord) -> bool:
        return record.id == self.record.id and record.lists(self.participant.number)

    def _watch(self) -> None:
        """Learn at once that the lock was taken away; our own leaving wakes this too."""
        while not self._closed.is_set():
            with contextlib.suppress(StoreError):
                item = self.keys.get(self._key)
                if item is None or item.lease != self._lease.id:
                    with contextlib.suppress(LockLostError):
                        self.check()
                    if self._lost:
                        return
                else:
                    self.keys.wait(self._key, item.modified, self._lease.ttl)
            self._closed.wait(_PAUSE)

    def _take_back(self) -> None:
        with self._in_process, contextlib.suppress(UnsureError):
            found = lock_status.read(self.keys)
            item = found.leased.get(self.participant.number)
            lease = item.lease if item else ""
            if found.record is None or not self._is_listed(found.record):
                self._lost = lost(found.record, self.record)
            elif lease and lease != self._lease.id:
                # of a taking back whose answer never came, so that another was tried
                self._lease.adopt(lease)
            elif not lease:
                self._lease.anew()
                if not self._put_back(found, found.record):
                    self._take_back()

    def _put_back(self, found: Found, record: LockRecord) -> bool:
        ours = Put(self._key, record.id.encode(), self._lease.id)
        writes = [ours, Put(names.LOCK, lock_record.encode(record))]
        revision = decide(
            self.keys,
            [found.unchanged],
            writes,
            lambda: _revision(self.keys, self._key, self._lease),
        )
        if revision:
            self._seen = record, revision
        return revision > 0


class Unfenced:
    """For a change that needs no lock: that another change was refused, or an expulsion."""

    def conditions(self) -> Sequence[Condition]:
        return ()

    def check(self) -> None:
        """Nothing holds it back for good."""


class SharedLock:
    """Implements ``stores.base.HeldLock``."""

    def __init__(
        self,
        key: ParticipantKey,
        kernel_locks: KernelLocks,
        reader: SharedReader,
        start: Callable[[], State],
        *,
        replaced: LockStatus | None,
        surely: bool,
    ) -> None:
        """`surely`: a lease in danger counts as lost."""
        self.replaced = replaced
        self._key = key
        self._keys = key.keys
        self._kernel_locks = kernel_locks
        self._reader = reader
        self._start = start
        self._files = SharedFiles(key.keys, reader)
        self._journal = SharedJournal(key.keys, start, reader, key)
        self._surely = surely
        self._refused = False
        self._handed_over = False
        self._in_process = threading.Lock()

    @property
    def record(self) -> LockRecord:
        return self._key.record

    @property
    def participant(self) -> Participant:
        return self._key.participant

    @property
    def packer_lock(self) -> int:
        return self._kernel_locks.packer_descriptor

    def commit(self, draft: PendingChange) -> Committed:
        with self._in_process, self._recorded(draft):
            return self._commit(draft)

    def is_open(self) -> bool:
        return self._key.is_open(surely=self._surely)

    def update(self, step: lock_steps.Step) -> LockRecord | None:
        return self._key.update(step)

    def look(self) -> tuple[LockRecord, frozenset[int]]:
        return self._key.look()

    def note(self, *, run: int, packer: ProcessId | None = None) -> None:
        def step(record: LockRecord, _: frozenset[int]) -> LockRecord:
            return lock_steps.note(record, self.participant.number, run=run, packer=packer)

        self._key.companion.note(step(self.record, frozenset()))
        self.update(step)

    def compact(self, *, fully: bool = False) -> None:
        with self._in_process:
            self._journal.compact(at_rest=not fully)

    def backup(self, reason: str, *, keep: int) -> Backup:
        with self._in_process:
            self._key.check()
            file = self._reader.read()
            if file is None:
                raise StateError(f"There is no state in {self._keys.location} yet.")
            made = backups.write(self._files, file, reason)
            backups.rotate(self._files, keep)
            return made

    def put(self, state: State) -> State:
        with self._in_process:
            self._key.check()
            return repair.put(self._files, self._journal, state)

    def put_segment(self, data: bytes) -> SegmentRef:
        with self._in_process:
            self._key.check()
            return history.put(self._files, data)

    def repair(self) -> Committed:
        with self._in_process:
            self._key.check()
            return repair.repair(self._files, self._journal, self._commit)

    def discard_unused(self) -> tuple[str, ...]:
        with self._in_process:
            self._key.check()
            for pieces in blobs.orphans(self._keys, names.FILES).values():
                self._keys.remove(pieces)
            return repair.discard_unused(self._files, self._journal)

    def reserve(self) -> bool:
        """Changes go to servers, whose disk is their own matter."""
        return True

    def hand_over(self) -> None:
        """The lease is left to end by itself: nobody is there to renew it."""
        self._kernel_locks.hand_over()
        self._key.hand_over()
        self._handed_over = True

    def close(self) -> None:
        """If the servers cannot be told, the lock files stay: free, they prove our end here."""
        if self._handed_over:
            return
        self._handed_over = True
        has_left = False
        try:
            has_left = self._key.close()
        finally:
            self._kernel_locks.release()
            if has_left:
                with contextlib.suppress(OSError):
                    self._kernel_locks.remove()

    def _commit(self, draft: PendingChange) -> Committed:
        by = self.participant.holder.by
        return self._journal.commit(draft, token=self.record.token, by=by)

    @contextlib.contextmanager
    def _recorded(self, draft: PendingChange) -> Iterator[None]:
        """What is refused because the lock was lost is on record, once."""
        try:
            yield
        except LockLostError as error:
            now = lock_status.read(self._keys).record
            if not self._refused and now is not None and now.token >= self.record.token:
                self._refused = True
                why = f"{draft.operation} of lock {self.record.token}: {error.message}"
                refusal = PendingChange(operation="refused", why=why)
                journal = SharedJournal(self._keys, self._start, self._reader, Unfenced())
                with contextlib.suppress(StoreError, LockLostError):
                    journal.commit(refusal, token=now.token, by=self.participant.holder.by)
            raise
