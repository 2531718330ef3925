"""One of many that hold a shared lock at once: a key and a lease of its own, in a common record.

Every step is one transaction on the record as it was read. Who is let go of as dead loses
its key in the same step; and who takes its place back, after its lease has ended, writes the
record anew with it. So both cannot happen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import cast

from msgspec import structs

from packer_fork import sharing
from packer_fork.errors import LockLostError, StoreError
from packer_fork.locks import Holder, LockRecord, ProcessId, Share, lost
from packer_fork.model import Actor
from packer_fork.stores.shared import names, probe
from packer_fork.stores.shared.companion import Companion
from packer_fork.stores.shared.deciding import decide
from packer_fork.stores.shared.keys import (
    Condition,
    Delete,
    Keys,
    Put,
    Unchanged,
    UnsureError,
    Write,
)
from packer_fork.stores.shared.lease import Lease
from packer_fork.stores.shared.tenure import Hold, SharedTenure

_ATTEMPTS = 200
"""How often a step is made anew on a record that somebody else has changed."""


class MemberHold(Hold):
    """The fence of one member."""

    def __init__(self, keys: Keys, record: LockRecord, lease: Lease, companion: Companion) -> None:
        """`record` is the common one, of which we are the newest member."""
        member = sharing.newest(record)
        self.number = member.number
        self.id = member.id
        self._companion = companion
        super().__init__(keys, structs.replace(record, holder=member.holder), lease, self.number)

    def update(self, step: sharing.Step) -> Share | None:
        """Raises LockLostError, StoreError."""
        after: Share | None = None

        def change(record: LockRecord, share: Share, found: probe.Found) -> LockRecord | None:
            nonlocal after
            after = step(share, self._dead(found))
            return None if after is None else sharing.recorded(record, after)

        self._change(change)
        return after

    def look(self) -> tuple[Share, frozenset[int]]:
        """Raises LockLostError, StoreError."""
        found, _, share = self._common()
        return share, self._dead(found)

    def _dead(self, found: probe.Found) -> frozenset[int]:
        statuses = probe.statuses(self._keys, found, self._companion, closely=False)
        return sharing.dead(statuses) - {self.number}

    def _leave(self) -> None:
        by = self.record.holder.by
        with contextlib.suppress(LockLostError):  # it was done, and the answer was lost
            self._change(lambda record, share, _: sharing.left(record, share, self.number, by))

    def _change(
        self, change: Callable[[LockRecord, Share, probe.Found], LockRecord | None]
    ) -> None:
        for _ in range(_ATTEMPTS):
            found, record, share = self._common()
            after = change(record, share, found)
            if after is None or self._write(found, share, after):
                return
            if not self._closed.is_set():
                self.check()
        raise StoreError(f"{self._keys.location}/{names.LOCK} never stands still for a change.")

    def _write(self, found: probe.Found, before: Share, after: LockRecord) -> bool:
        kept = {member.number for member in after.share.members} if after.share else set()
        gone = [member.number for member in before.members if member.number not in kept]
        writes: list[Write] = [Put(names.LOCK, probe.encode_record(after))]
        writes += [Delete(names.tenure(after.tenure, number)) for number in gone]
        conditions = (*self.conditions(), *found.still)
        return decide(self._keys, conditions, writes, lambda: self._written(after)) > 0

    def _common(self) -> tuple[probe.Found, LockRecord, Share]:
        """The record as it stands. Raises LockLostError if we are not in it any more."""
        with self._in_process:
            found = probe.look(self._keys)
            record = found.record
            if record is None or record.share is None or not self._is_in(record):
                self._lost = self._lost or lost(record, self.record)
                raise LockLostError(self._lost)
            return found, record, record.share

    def _is_in(self, record: LockRecord) -> bool:
        return sharing.has(record, self.record.id, self.number)

    def _take_back(self) -> None:
        with self._in_process, contextlib.suppress(UnsureError):
            found = probe.look(self._keys)
            item = found.members.get(self.number)
            lease = item.lease if item else ""
            if found.record is None or not self._is_in(found.record):
                self._lost = lost(found.record, self.record)
            elif lease and lease != self._lease.id:
                self._lease.adopt(lease)
            elif not lease:
                self._lease.anew()
                mine = Put(self._key, self.record.id.encode(), self._lease.id)
                writes = [mine, Put(names.LOCK, probe.encode_record(found.record))]
                if not decide(self._keys, found.still, writes, self._leased):
                    self._take_back()


class SharedMembership(SharedTenure):
    """Implements ``stores.base.Membership``."""

    @property
    def marker(self) -> str:
        return self._member.id

    @property
    def number(self) -> int:
        return self._member.number

    def update(self, step: sharing.Step) -> Share | None:
        return self._member.update(step)

    def look(self) -> tuple[Share, frozenset[int]]:
        return self._member.look()

    def note(self, *, run: int, packer: ProcessId | None = None) -> None:
        number = self.number
        self._member.update(lambda share, _: sharing.noted(share, number, run, packer))
        self._held.note(structs.replace(self.record, run=run))

    @property
    def _member(self) -> MemberHold:
        return cast("MemberHold", self._hold)


def expel(keys: Keys, lock_id: str, member: int, by: Actor) -> LockRecord | None:
    """Let go of a member; the record by then, None if it is none any more. Raises StoreError."""
    for _ in range(_ATTEMPTS):
        found = probe.look(keys)
        record = found.record
        if record is None or record.share is None or not sharing.has(record, lock_id, member):
            return None
        after = sharing.left(record, record.share, member, by)
        if _put_out(keys, found.still, after, member):
            return after
    raise StoreError(f"{keys.location}/{names.LOCK} never stands still for a change.")


def _put_out(keys: Keys, still: list[Condition], after: LockRecord, member: int) -> bool:
    data = probe.encode_record(after)
    writes: list[Write] = [Put(names.LOCK, data), Delete(names.tenure(after.tenure, member))]

    def done() -> int:
        item = keys.get(names.LOCK)
        return item.modified if item and item.value == data else 0

    return decide(keys, still, writes, done) > 0


def join(
    keys: Keys, companion: Companion, holder: Holder, lease: Lease, *, lock_id: str, inputs: str
) -> LockRecord | None:
    """The common record with us as its newest member; None if it is not open to us.

    Raises StoreError.
    """
    for _ in range(_ATTEMPTS):
        found = probe.look(keys)
        record = found.record
        if record is None or record.share is None or record.closed or record.id != lock_id:
            return None
        dead = sharing.dead(probe.statuses(keys, found, companion, closely=False))
        share = sharing.joined(record.share, holder, inputs, dead)
        if share is None:
            return None
        common = structs.replace(record, share=share)
        if _enter(keys, found.still, common, lease):
            return common
    raise StoreError(f"{keys.location}/{names.LOCK} never stands still for a new member.")


def _enter(keys: Keys, still: list[Condition], common: LockRecord, lease: Lease) -> bool:
    key = names.tenure(common.tenure, sharing.newest(common).number)
    mine = Put(key, common.id.encode(), lease.id)
    writes = [mine, Put(names.LOCK, probe.encode_record(common))]

    def done() -> int:
        item = keys.get(key)
        return item.modified if item and item.lease == lease.id else 0

    return decide(keys, [*still, Unchanged(key, 0)], writes, done) > 0
