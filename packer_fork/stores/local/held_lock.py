"""A lock that this process holds as one participant: kernel locks, and a place in the record.

A participant holds the lock as long as the record lists it. The record changes only under the
mutex. It may be volatile until the token's first commit or the second participant.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from packer_fork import durable, lock_steps
from packer_fork.errors import LockLostError, StateError, StoreError
from packer_fork.locks import LockRecord, LockStatus, ProcessId, lost
from packer_fork.model import PendingChange, SegmentRef, State
from packer_fork.responses import Backup
from packer_fork.stores import lock_record
from packer_fork.stores.archive import backups, history, repair
from packer_fork.stores.base import Committed
from packer_fork.stores.local import lock_status, mutex
from packer_fork.stores.local.journal import Journal
from packer_fork.stores.local.kernel_locks import KernelLocks
from packer_fork.stores.local.layout import Layout


class LocalLock:
    """Implements ``stores.base.HeldLock``."""

    def __init__(
        self,
        layout: Layout,
        journal: Journal,
        record: LockRecord,
        locks: KernelLocks,
        *,
        replaced: LockStatus | None,
        complain: mutex.Complain,
    ) -> None:
        """For the newest participant that `record` lists."""
        self.record = record
        self.participant = record.participants[-1]
        self.replaced = replaced
        self._layout = layout
        self._journal = journal
        self._locks = locks
        self._complain = complain
        self._seen = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC)
        self._is_durable = False
        self._is_suspect = False
        self._refused = False
        self._handed_over = False
        self._in_process = threading.Lock()

    @property
    def packer_lock(self) -> int:
        return self._locks.packer_descriptor

    def commit(self, draft: PendingChange) -> Committed:
        with as_store_error(self._layout, "make a change durable"), self._exclusively():
            self._check_or_record(draft)
            self._make_durable()
            return self._commit(draft)

    def _make_durable(self) -> None:
        """A change that carries the token must not be durable without the record."""
        if self._is_suspect:
            self._put(self.record)  # into a new inode: the old one gave an error
        if not self._is_durable:
            self._is_suspect = True  # a second sync may succeed although the first lost data
            os.fsync(self._seen)
            durable.sync_folder(self._layout.folder)
            self._is_durable, self._is_suspect = True, False

    def _commit(self, draft: PendingChange) -> Committed:
        by = self.participant.holder.by
        return self._journal.commit(draft, token=self.record.token, by=by)

    def is_open(self) -> bool:
        return self._is_unchanged() or self._is_listed(lock_status.read_record(self._layout).record)

    def _check_or_record(self, draft: PendingChange) -> None:
        """The first refusal is itself a change of the state, under the current token."""
        try:
            self._check()
        except LockLostError as error:
            now = lock_status.read_record(self._layout).record
            if not self._refused and now is not None:
                self._refused = True
                why = f"{draft.operation} of lock {self.record.token}: {error.message}"
                with contextlib.suppress(OSError):
                    refusal = PendingChange(operation="refused", why=why)
                    by = self.participant.holder.by
                    self._journal.commit(refusal, token=now.token, by=by)
            raise

    def update(self, step: lock_steps.Step) -> LockRecord | None:
        with as_store_error(self._layout, "write the lock's record"), self._exclusively():
            self._check()
            after = step(self.record, self._dead(self.record))
            if after is not None:
                self._put(after)
            return after

    def look(self) -> tuple[LockRecord, frozenset[int]]:
        with as_store_error(self._layout, "read the lock's record"):
            record = lock_status.read_record(self._layout).record
            if record is None or not self._is_listed(record):
                raise LockLostError(lost(record, self.record))
            return record, self._dead(record)

    def _dead(self, record: LockRecord) -> frozenset[int]:
        others = (each for each in record.participants if each.number != self.participant.number)
        return lock_steps.dead(
            lock_status.of_participant(self._layout, record.token, each) for each in others
        )

    def note(self, *, run: int, packer: ProcessId | None = None) -> None:
        number = self.participant.number
        self.update(lambda record, _: lock_steps.note(record, number, run=run, packer=packer))

    def reserve(self) -> bool:
        with self._in_process:
            return self._journal.reserve()

    def compact(self, *, fully: bool = False) -> None:
        with as_store_error(self._layout, "compact the state"), self._exclusively():
            self._check()
            self._journal.compact(at_rest=not fully)

    def backup(self, reason: str, *, keep: int) -> Backup:
        with as_store_error(self._layout, "make a backup"), self._exclusively():
            file = self._journal.read()
            if file is None:
                raise StateError(f"There is no state in {self._layout.folder} yet.")
            made = backups.write(self._layout, file, reason)
            backups.rotate(self._layout, keep)
            return made

    def put(self, state: State) -> State:
        with as_store_error(self._layout, "put a state in place"), self._exclusively():
            self._check()
            self._make_durable()
            return repair.put(self._layout, self._journal, state)

    def put_segment(self, data: bytes) -> SegmentRef:
        with as_store_error(self._layout, "write a segment"), self._exclusively():
            self._check()
            return history.put(self._layout, data)

    def repair(self) -> Committed:
        with as_store_error(self._layout, "repair the state"), self._exclusively():
            self._check()
            self._make_durable()
            return repair.repair(self._layout, self._journal, self._commit)

    def discard_unused(self) -> tuple[str, ...]:
        with as_store_error(self._layout, "remove unused segments"), self._exclusively():
            self._check()
            return repair.discard_unused(self._layout, self._journal)

    def hand_over(self) -> None:
        self._locks.hand_over()
        self._handed_over = True

    def close(self) -> None:
        """Release even where the record cannot be written: the kernel locks go.

        Then the lock files stay, so that the lock is found abandoned.
        """
        if self._handed_over:
            return
        try:
            with contextlib.suppress(OSError, StoreError), self._exclusively():
                self._journal.release_reserve()  # the new lock record may need the space
                self._leave()
                self._locks.release()
                self._locks.remove()
        finally:
            self._locks.release()
            self._journal.close()
            os.close(self._seen)

    def _leave(self) -> None:
        with contextlib.suppress(LockLostError):
            self._check()
            ours = self.participant
            self._put(lock_steps.leave(self.record, ours.number, ours.holder.by))

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Raises StoreError where the mutex cannot be had."""
        with self._in_process, contextlib.ExitStack() as stack:
            with as_store_error(self._layout, "take the mutex"):
                stack.enter_context(mutex.held(self._layout.mutex, self._complain))
            yield

    def _put(self, record: LockRecord) -> None:
        """Replace the record. After an OSError it may be there or not, and is looked for."""
        is_durable = self._is_durable or len(record.participants) > 1
        try:
            durable.replace(self._layout.lock, lock_record.encode(record), durable=is_durable)
        except OSError:
            self._is_durable, self._is_suspect = False, True
            if lock_status.read_record(self._layout).record == record:
                self._recognise(record)
            raise
        self._recognise(record)
        self._is_durable = is_durable

    def _recognise(self, record: LockRecord) -> None:
        os.close(self._seen)
        self._seen = os.open(self._layout.lock, os.O_RDONLY | os.O_CLOEXEC)
        self.record = record

    def _check(self) -> None:
        """Raise LockLostError unless the record lists us; learn what others changed in it."""
        if self._is_unchanged():
            return
        record = lock_status.read_record(self._layout).record
        if record is None or not self._is_listed(record):
            raise LockLostError(lost(record, self.record))
        self._recognise(record)
        self._is_durable, self._is_suspect = False, False

    def _is_unchanged(self) -> bool:
        """Whether the lock file is the very one that we wrote or read last.

        It is replaced by rename only, and while we hold it open its inode is not reused.
        """
        with contextlib.suppress(FileNotFoundError):
            now, ours = self._layout.lock.stat(), os.fstat(self._seen)
            return (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino)
        return False

    def _is_listed(self, record: LockRecord | None) -> bool:
        if record is None or record.id != self.record.id:
            return False
        return record.lists(self.participant.number)


@contextlib.contextmanager
def as_store_error(layout: Layout, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot(layout, what, error) from error


def cannot(layout: Layout, what: str, error: OSError) -> StoreError:
    """`error` as a sentence that says which folder, what, and what to do."""
    if isinstance(error, FileNotFoundError) and not layout.folder.exists():
        return StoreError(
            f"Cannot {what}: {layout.folder} was removed.",
            hint="keep the folder while packer-fork runs: `git clean -fdx` removes it",
        )
    place = error.filename or layout.folder
    return StoreError(
        f"Cannot {what} in {layout.folder}: {error.strerror} ({place}).",
        hint="Make room or make the folder writable, or choose another one with --state DIR.",
    )
