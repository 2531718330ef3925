"""Contending for a lock as a build does, every step on record."""

from __future__ import annotations

import os
from typing import NamedTuple

from packer_fork.errors import LockLostError
from packer_fork.locks import Holder, LockStatus
from packer_fork.manager.lock.acquire import look_after
from packer_fork.model import Build, PendingChange
from packer_fork.stores.base import HeldLock, Store
from packer_fork.stores.local.queue import Ticket
from stress.checker import Acquired, Committed, Released
from stress.recorder import Recorder, now
from tests.support.local_store import holder


class Got(NamedTuple):
    """A lock, when it was asked for, and the ticket that it was got with (0: none)."""

    lock: HeldLock
    asked: int
    ticket: int


def queue_up(store: Store, asking: Holder) -> Got:
    """The lock, in the order of arrival, however long it takes."""
    asked = now()
    ticket = store.join_queue(asking)
    try:
        while isinstance(found := store.try_acquire(asking, ticket=ticket), LockStatus):
            ticket.wait(look_after(ticket.ahead))
    finally:
        ticket.leave()
    # Only those of the local lock are numbered for good.
    return Got(found, asked, ticket.number if isinstance(ticket, Ticket) else 0)


class Contender:
    """One process that gets the lock again and again, and notes what it was promised."""

    def __init__(
        self, store: Store, record: Recorder, asking: Holder | None = None, *, name: str = ""
    ) -> None:
        self.name = name or f"{os.getpid()}.{now()}"
        self.store = store
        self._holder = asking or holder("contend")
        self._record = record
        self._changes = 0

    def enter(self, *, queue: bool = True) -> HeldLock | None:
        """A lock; without `queue` None where somebody else has it or waits for it."""
        if queue:
            got = queue_up(self.store, self._holder)
        else:
            asked = now()
            found = self.store.try_acquire(self._holder)
            if isinstance(found, LockStatus):
                return None
            got = Got(found, asked, 0)
        self._record.note(
            Acquired(
                token=got.lock.record.token,
                lock=got.lock.record.id,
                process=self.name,
                asked=got.asked,
                got=now(),
                ticket=got.ticket,
            )
        )
        return got.lock

    def change(self, lock: HeldLock) -> bool:
        """Commit once; False if the lock was closed meanwhile."""
        mark, begun = f"{self.name}.{self._changes}", now()
        self._changes += 1
        draft = PendingChange(
            operation="contend", why=mark, builds={"b": Build(name="b", error=mark)}
        )
        try:
            serial = lock.commit(draft).serial
        except LockLostError:
            return False
        number = lock.record.token
        self._record.note(
            Committed(token=number, serial=serial, mark=mark, begun=begun, acknowledged=now())
        )
        return True

    def leave(self, lock: HeldLock) -> None:
        self._record.note(Released(token=lock.record.token, at=now()))
        lock.close()
