"""One of many that hold the local lock at once: its own kernel locks, in a common record.

A member is in as long as the record names it. Whoever changes the record does that under
the mutex, durably, and lets go of no member but with proof that it is dead.
"""

from __future__ import annotations

from msgspec import structs

from packer_fork import durable, sharing
from packer_fork.errors import LockLostError
from packer_fork.locks import Holder, LockRecord, LockStatus, ProcessId, Share, lost
from packer_fork.model import Actor
from packer_fork.stores.local import mutex, probe
from packer_fork.stores.local.journal import Journal
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.tenure import KernelLocks, LocalTenure, as_store_error


class LocalMembership(LocalTenure):
    """Implements ``stores.base.Membership``."""

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
        """`record` is the common one, of which we are the newest member."""
        super().__init__(layout, journal, record, locks, replaced=replaced, complain=complain)
        member = sharing.newest(record)
        self.number = member.number
        self._id = member.id
        self.record = structs.replace(record, holder=member.holder)

    @property
    def marker(self) -> str:
        return self._id

    def update(self, step: sharing.Step) -> Share | None:
        with as_store_error(self._layout, "write the lock's record"), self._exclusively():
            record, share = self._common()
            dead = sharing.dead(probe.members(self._layout, record))
            after = step(share, dead)
            if after is not None:
                self._write(sharing.recorded(record, after))
            return after

    def look(self) -> tuple[Share, frozenset[int]]:
        with as_store_error(self._layout, "read the lock's record"):
            record, share = self._common()
            return share, sharing.dead(probe.members(self._layout, record))

    def note(self, *, run: int, packer: ProcessId | None = None) -> None:
        self.update(lambda share, _: sharing.noted(share, self.number, run, packer))

    def _common(self) -> tuple[LockRecord, Share]:
        """The record as it stands. Raises LockLostError if we are not in it any more."""
        record = probe.read_record(self._layout).record
        if record is None or record.share is None or not self._is_in(record):
            raise LockLostError(lost(record, self.record))
        return record, record.share

    def _is_in(self, record: LockRecord) -> bool:
        return sharing.has(record, self.record.id, self.number)

    def _check(self) -> None:
        self._common()

    def _make_durable(self) -> None:
        """The first record was not written durably; all that came after it were."""
        if not self._token_is_durable:
            self._write(self._common()[0])
            self._token_is_durable = True

    def _close_record(self) -> None:
        record = probe.read_record(self._layout).record
        if record is None or record.share is None or not self._is_in(record):
            return
        self._write(sharing.left(record, record.share, self.number, self.record.holder.by))

    def _write(self, record: LockRecord) -> None:
        durable.replace(self._layout.lock, probe.encode_record(record))


def expel(layout: Layout, lock_id: str, member: int, by: Actor) -> LockRecord | None:
    """Let go of a member, under the mutex; the record by then, None if it is none any more."""
    record = probe.read_record(layout).record
    if record is None or record.share is None or not sharing.has(record, lock_id, member):
        return None
    after = sharing.left(record, record.share, member, by)
    durable.replace(layout.lock, probe.encode_record(after))
    return after


def join(
    layout: Layout, holder: Holder, lock_id: str, inputs: str
) -> tuple[LockRecord, KernelLocks] | None:
    """Become a member of a lock that is shared, under the mutex; None if it is not open to us."""
    record = probe.read_record(layout).record
    if record is None or record.id != lock_id or record.closed or record.share is None:
        return None
    dead = sharing.dead(probe.members(layout, record))
    share = sharing.joined(record.share, holder, inputs, dead)
    if share is None:
        return None
    common = structs.replace(record, share=share)
    locks = KernelLocks(layout, record.tenure, sharing.newest(common).number)
    try:
        durable.replace(layout.lock, probe.encode_record(common))
    except BaseException:
        locks.release()
        raise
    return common, locks
