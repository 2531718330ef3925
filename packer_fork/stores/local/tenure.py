"""One holding of the local lock: two kernel locks and a record that says whose they are.

The files of a tenure are locked before the record names them and removed after it
is closed, so whoever reads an open record can always ask the kernel about it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from msgspec import structs

from packer_fork import durable
from packer_fork.errors import LockLostError, StateError, StoreError
from packer_fork.locks import Closing, LockRecord, LockStatus, ProcessId, lost
from packer_fork.model import Draft, Sealed, State
from packer_fork.responses import Backup
from packer_fork.stores.archive import backups, history, restoring
from packer_fork.stores.base import Committed
from packer_fork.stores.local import mutex, probe
from packer_fork.stores.local.journal import Journal
from packer_fork.stores.local.layout import Layout


@contextlib.contextmanager
def _without_metadata() -> Iterator[None]:
    """Import a package that looks up its own version, which packer-fork does not use.

    ``importlib.metadata`` brings email, zipfile and socket, twice what a build that is up to
    date imports besides.
    """
    name = "importlib.metadata"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]


with _without_metadata():
    import portalocker


class KernelLocks:
    """The two locked files of a tenure, open for as long as this object is."""

    def __init__(self, layout: Layout, tenure: int, member: int = 0) -> None:
        wrapper = _locked(layout.wrapper(tenure, member))
        try:
            self.packer_descriptor = _locked(layout.packer(tenure, member))
        except BaseException:
            os.close(wrapper)
            raise
        self._held: tuple[int, ...] = (self.packer_descriptor, wrapper)

    def hand_over(self) -> None:
        """Let go without unlocking: what Packer's processes inherited stays locked."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held = ()

    def release(self) -> None:
        """Free both, the copies that Packer's processes inherited included."""
        for descriptor in self._held:
            portalocker.unlock(descriptor)
            os.close(descriptor)
        self._held = ()


def _locked(path: Path) -> int:
    """A descriptor that holds the lock on a new file."""
    descriptor = durable.create(path)
    try:
        # Only who looks at it, shared and for microseconds, can be in the way.
        portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_tenure(layout: Layout, record: LockRecord, member: int = 0) -> KernelLocks:
    """Lock the files of the tenure, then write its record. Under the mutex only."""
    locks = KernelLocks(layout, record.tenure, member)
    try:
        durable.replace(layout.lock, probe.encode_record(record), durable=False)
    except BaseException:
        locks.release()
        remove(layout, record.tenure, member)
        raise
    return locks


def forget(layout: Layout, number: int) -> None:
    """Remove the files of a closed tenure, unless something still holds one of them."""
    if not probe.is_alive(layout, number):
        for path in layout.files_of(number):
            path.unlink(missing_ok=True)


def remove(layout: Layout, number: int, member: int = 0) -> None:
    """Remove the files of a tenure, or of one member, that nobody needs any more."""
    for path in (layout.wrapper(number, member), layout.packer(number, member)):
        path.unlink(missing_ok=True)


class LocalTenure:
    """Implements ``stores.base.Tenure``."""

    number = 0
    """Of the member, where there are many."""

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
        self.record = record
        self.replaced = replaced
        self._layout = layout
        self._journal = journal
        self._locks = locks
        self._complain = complain
        self._seen = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC)
        self._token_is_durable = False
        self._is_suspect = False
        self._refused = False
        self._handed_over = False
        self._in_process = threading.Lock()

    @property
    def marker(self) -> str:
        return self.record.id

    @property
    def packer_lock(self) -> int:
        return self._locks.packer_descriptor

    def commit(self, draft: Draft) -> Committed:
        with as_store_error(self._layout, "make a change durable"), self._exclusively():
            self._check_or_record(draft)
            self._make_durable()
            return self._commit(draft)

    def _make_durable(self) -> None:
        """What is fenced by the token must not be there without it."""
        if self._is_suspect:
            self._put(self.record)  # into a new inode: the old one gave an error
        if not self._token_is_durable:
            self._is_suspect = True  # a second sync may succeed although the first lost data
            os.fsync(self._seen)
            durable.sync_folder(self._layout.folder)
            self._token_is_durable, self._is_suspect = True, False

    def _commit(self, draft: Draft) -> Committed:
        return self._journal.commit(draft, tenure=self.record.tenure, by=self.record.holder.by)

    def is_open(self) -> bool:
        try:
            self._check()
        except LockLostError:
            return False
        return True

    def _check_or_record(self, draft: Draft) -> None:
        """The first refusal is itself a change of the state, in the name of the tenure that is."""
        try:
            self._check()
        except LockLostError as error:
            now = probe.read_record(self._layout).record
            if not self._refused and now is not None:
                self._refused = True
                why = f"{draft.operation} of tenure {self.record.tenure}: {error.message}"
                with contextlib.suppress(OSError):
                    refusal = Draft(operation="refused", why=why)
                    self._journal.commit(refusal, tenure=now.tenure, by=self.record.holder.by)
            raise

    def note(self, *, run: int, packer: ProcessId | None = None) -> None:
        with as_store_error(self._layout, "write the lock's record"), self._exclusively():
            self._check()
            self._put(structs.replace(self.record, run=run, packer=packer))

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
            return restoring.put(self._layout, self._journal, state)

    def put_segment(self, data: bytes) -> Sealed:
        with as_store_error(self._layout, "write a segment"), self._exclusively():
            self._check()
            return history.put(self._layout, data)

    def repair(self) -> Committed:
        with as_store_error(self._layout, "repair the state"), self._exclusively():
            self._check()
            self._make_durable()
            return restoring.repair(self._layout, self._journal, self._commit)

    def discard_unused(self) -> tuple[str, ...]:
        with as_store_error(self._layout, "remove unused segments"), self._exclusively():
            self._check()
            return restoring.discard_unused(self._layout, self._journal)

    def hand_over(self) -> None:
        self._locks.hand_over()
        self._handed_over = True

    def close(self) -> None:
        """Ends the tenure even where its record cannot be written: the kernel locks go.

        Then its files stay, so that the lock is found abandoned, which is the truth.
        """
        if self._handed_over:
            return
        try:
            with contextlib.suppress(OSError, StoreError), self._exclusively():
                self._close_record()
                self._locks.release()
                remove(self._layout, self.record.tenure, self.number)
        finally:
            self._locks.release()
            self._journal.close()
            os.close(self._seen)

    def _close_record(self) -> None:
        with contextlib.suppress(LockLostError):
            self._check()
            closing = Closing(at=datetime.now(UTC), by=self.record.holder.by)
            self._put(structs.replace(self.record, closed=closing))

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Raises StoreError where the mutex cannot be had."""
        with self._in_process, contextlib.ExitStack() as stack:
            with as_store_error(self._layout, "take the mutex"):
                stack.enter_context(mutex.held(self._layout.mutex, self._complain))
            yield

    def _put(self, record: LockRecord) -> None:
        """Replace the record. After an OSError it may be there or not, and is looked for."""
        data = probe.encode_record(record)
        try:
            durable.replace(self._layout.lock, data, durable=self._token_is_durable)
        except OSError:
            self._token_is_durable, self._is_suspect = False, True
            if probe.read_record(self._layout).record == record:
                self._recognise(record)
            raise
        self._recognise(record)

    def _recognise(self, record: LockRecord) -> None:
        os.close(self._seen)
        self._seen = os.open(self._layout.lock, os.O_RDONLY | os.O_CLOEXEC)
        self.record = record

    def _check(self) -> None:
        """Raise LockLostError unless the lock file is the very one that we wrote.

        It is replaced by rename only, and while we hold it open its inode is not reused.
        """
        with contextlib.suppress(FileNotFoundError):
            now, ours = self._layout.lock.stat(), os.fstat(self._seen)
            if (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino):
                return
        raise LockLostError(lost(probe.read_record(self._layout).record, self.record))


@contextlib.contextmanager
def as_store_error(layout: Layout, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot(layout, what, error) from error


def cannot(layout: Layout, what: str, error: OSError) -> StoreError:
    """`error` as a sentence that says which folder, what, and what to do."""
    place = error.filename or layout.folder
    return StoreError(
        f"Cannot {what} in {layout.folder}: {error.strerror} ({place}).",
        hint="Make room or make the folder writable, or choose another one with --state DIR.",
    )
