"""One holding of a shared lock: a key that hangs on a lease, and kernel locks on this machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from msgspec import structs

from packer_fork.errors import LockLostError, StateError, StoreError
from packer_fork.locks import Closing, LockRecord, LockStatus, ProcessId, lost
from packer_fork.model import Draft, Sealed, State
from packer_fork.responses import Backup
from packer_fork.stores.archive import backups, history, restoring
from packer_fork.stores.base import Committed
from packer_fork.stores.shared import blobs, names, probe
from packer_fork.stores.shared.companion import Held
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
)
from packer_fork.stores.shared.lease import Lease
from packer_fork.stores.shared.reader import SharedReader

_ATTEMPTS = 10
"""How often a record is written anew, each time after the lease was taken back."""

_PAUSE = 0.5
"""Seconds between two looks at a tenure's key, however often they wake."""


class Hold:
    """The fence of one tenure: its key, as long as that hangs on our lease.

    A lease that has ended is taken back if nobody had the lock since; else the lock is lost.
    """

    def __init__(self, keys: Keys, record: LockRecord, lease: Lease, member: int = 0) -> None:
        self.record = record
        self._keys = keys
        self._key = names.tenure(record.tenure, member)
        self._lease = lease
        self._lost = ""
        self._in_process = threading.RLock()
        self._closed = threading.Event()
        lease.watch(self._take_back)
        threading.Thread(target=self._watch, name="tenure", daemon=True).start()

    def conditions(self) -> Sequence[Condition]:
        return (Leased(self._key, self._lease.id),)

    def check(self) -> None:
        """Raises LockLostError if the lock is lost; takes a lease back that has ended."""
        with self._in_process:
            if not self._lost and not self._closed.is_set():
                item = self._keys.get(self._key)
                if item is None or item.lease != self._lease.id:
                    self._take_back()
            if self._lost:
                raise LockLostError(self._lost)

    def is_open(self, *, surely: bool) -> bool:
        """As far as is known here, without asking; `surely`: also not in danger of being lost."""
        return not self._lost and not (surely and self._lease.is_in_danger)

    def note(self, record: LockRecord) -> None:
        """Replace the record. Raises LockLostError, StoreError."""
        writes = [Put(names.LOCK, probe.encode_record(record))]
        with self._in_process:
            for _ in range(_ATTEMPTS):
                item = self._keys.get(names.LOCK)
                unchanged = Unchanged(names.LOCK, item.modified if item else 0)
                conditions = (*self.conditions(), unchanged)
                if decide(self._keys, conditions, writes, lambda: self._written(record)):
                    self.record = record
                    return
                self.check()
        raise StoreError(f"{self._keys.location}/{names.LOCK} cannot be written.")

    def close(self) -> None:
        """End the tenure, unless somebody else did. Suppresses StoreError: the lease ends."""
        self._closed.set()
        with self._in_process:
            self._lease.watch(None)
            with contextlib.suppress(StoreError):
                if not self._lost:
                    self._leave()
            self._lost = self._lost or f"The lock {self.record.id} was given back."
        self._lease.close()

    def _leave(self) -> None:
        closing = Closing(at=datetime.now(UTC), by=self.record.holder.by)
        closed = structs.replace(self.record, closed=closing)
        put, delete = Put(names.LOCK, probe.encode_record(closed)), Delete(self._key)
        decide(self._keys, self.conditions(), (put, delete), lambda: self._written(closed))

    def hand_over(self) -> None:
        self._closed.set()
        self._lease.watch(None)
        self._lease.stop()

    def _watch(self) -> None:
        """Learn at once that somebody closed the tenure; its end by ourselves wakes this too."""
        while not self._closed.is_set():
            with contextlib.suppress(StoreError):
                item = self._keys.get(self._key)
                if item is None or item.lease != self._lease.id:
                    with contextlib.suppress(LockLostError):
                        self.check()
                    if self._lost:
                        return
                else:
                    self._keys.wait(self._key, item.modified, self._lease.ttl)
            self._closed.wait(_PAUSE)

    def _take_back(self) -> None:
        with self._in_process, contextlib.suppress(UnsureError):
            found = probe.look(self._keys)
            lease = found.tenure.lease if found.tenure else ""
            if found.record is None or found.id != self.record.id or found.record.closed:
                self._lost = lost(found.record, self.record)
            elif lease and lease != self._lease.id:
                # of a taking back whose answer never came, so that another was tried
                self._lease.adopt(lease)
            elif not lease:
                self._lease.anew()
                writes = [Put(self._key, self.record.id.encode(), self._lease.id)]
                if not decide(self._keys, found.still, writes, self._leased):
                    self._take_back()

    def _written(self, record: LockRecord) -> int:
        item = self._keys.get(names.LOCK)
        return item.modified if item and item.value == probe.encode_record(record) else 0

    def _leased(self) -> int:
        item = self._keys.get(self._key)
        return item.modified if item and item.lease == self._lease.id else 0


class Unfenced:
    """For what is put on record although its tenure is closed: that it was refused."""

    def conditions(self) -> Sequence[Condition]:
        return ()

    def check(self) -> None:
        """Nothing holds it back for good."""


class SharedTenure:
    """Implements ``stores.base.Tenure``."""

    def __init__(
        self,
        keys: Keys,
        hold: Hold,
        held: Held,
        reader: SharedReader,
        start: Callable[[], State],
        *,
        replaced: LockStatus | None,
        surely: bool,
    ) -> None:
        """`surely`: a lease in danger counts as lost."""
        self.replaced = replaced
        self._keys = keys
        self._hold = hold
        self._held = held
        self._reader = reader
        self._start = start
        self._files = SharedFiles(keys, reader)
        self._journal = SharedJournal(keys, start, reader, hold)
        self._surely = surely
        self._refused = False
        self._handed_over = False
        self._in_process = threading.Lock()

    @property
    def record(self) -> LockRecord:
        return self._hold.record

    @property
    def marker(self) -> str:
        return self.record.id

    @property
    def packer_lock(self) -> int:
        return self._held.packer_lock

    def commit(self, draft: Draft) -> Committed:
        with self._in_process, self._recorded(draft):
            return self._commit(draft)

    def is_open(self) -> bool:
        return self._hold.is_open(surely=self._surely)

    def note(self, *, run: int, packer: ProcessId | None = None) -> None:
        record = structs.replace(self.record, run=run, packer=packer)
        self._held.note(record)
        self._hold.note(record)

    def compact(self, *, fully: bool = False) -> None:
        with self._in_process:
            self._journal.compact(at_rest=not fully)

    def backup(self, reason: str, *, keep: int) -> Backup:
        with self._in_process:
            self._hold.check()
            file = self._reader.read()
            if file is None:
                raise StateError(f"There is no state in {self._keys.location} yet.")
            made = backups.write(self._files, file, reason)
            backups.rotate(self._files, keep)
            return made

    def put(self, state: State) -> State:
        with self._in_process:
            self._hold.check()
            return restoring.put(self._files, self._journal, state)

    def put_segment(self, data: bytes) -> Sealed:
        with self._in_process:
            self._hold.check()
            return history.put(self._files, data)

    def repair(self) -> Committed:
        with self._in_process:
            self._hold.check()
            return restoring.repair(self._files, self._journal, self._commit)

    def discard_unused(self) -> tuple[str, ...]:
        with self._in_process:
            self._hold.check()
            for pieces in blobs.orphans(self._keys, names.FILES).values():
                self._keys.remove(pieces)
            return restoring.discard_unused(self._files, self._journal)

    def hand_over(self) -> None:
        """The lease is left to end by itself: nobody is there to renew it."""
        self._held.hand_over()
        self._hold.hand_over()
        self._handed_over = True

    def close(self) -> None:
        if self._handed_over:
            return
        self._handed_over = True
        try:
            self._hold.close()
        finally:
            self._held.release()

    def _commit(self, draft: Draft) -> Committed:
        number = self.record.tenure
        return self._journal.commit(draft, tenure=number, by=self.record.holder.by)

    @contextlib.contextmanager
    def _recorded(self, draft: Draft) -> Iterator[None]:
        """What is refused because the lock was lost is on record, once."""
        try:
            yield
        except LockLostError as error:
            now = probe.look(self._keys).record
            if not self._refused and now is not None and now.tenure >= self.record.tenure:
                self._refused = True
                why = f"{draft.operation} of tenure {self.record.tenure}: {error.message}"
                refusal = Draft(operation="refused", why=why)
                journal = SharedJournal(self._keys, self._start, self._reader, Unfenced())
                with contextlib.suppress(StoreError, LockLostError):
                    journal.commit(refusal, tenure=now.tenure, by=self.record.holder.by)
            raise
