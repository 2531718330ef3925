"""Waiting for a shared lock, first come first served.

A waiter's key hangs on its lease; the servers order keys by their making. Each waiter
watches the one before it, the first watches the lock, so that one end wakes one waiter.
"""

from __future__ import annotations

import contextlib
import uuid

import msgspec

from packer_fork import processes
from packer_fork.errors import StoreError
from packer_fork.locks import ProcessId, Waiter
from packer_fork.malformed import MALFORMED
from packer_fork.stores.shared import lock_status, names
from packer_fork.stores.shared.deciding import decide
from packer_fork.stores.shared.keys import Item, Keys, Put, Unchanged
from packer_fork.stores.shared.lease import Lease

_MAX_TICKET = 1 << 20


def tickets(keys: Keys) -> list[Item]:
    """Those whose owners may live, in the order of arrival.

    One of this machine's that is dead is not waited for until its lease has ended.
    """
    found = (item for item in keys.items(names.QUEUE) if item.lease and not _is_dead(item))
    return sorted(found, key=lambda item: item.created)


def waiters(keys: Keys) -> tuple[Waiter, ...]:
    """Who waits, in the order of arrival; a ticket that cannot be read still counts."""
    return tuple(map(_waiter, tickets(keys)))


def sweep(keys: Keys) -> None:
    """Remove the tickets of the dead: with Consul a key outlives its lease."""
    dead = [item.key for item in keys.items(names.QUEUE) if not item.lease or _is_dead(item)]
    if dead:
        keys.remove(dead)


def _waiter(item: Item) -> Waiter:
    with contextlib.suppress(*MALFORMED):
        return msgspec.json.decode(item.value[:_MAX_TICKET], type=Waiter)
    return Waiter()


def _is_dead(item: Item) -> bool:
    holder = _waiter(item).holder
    return holder is not None and _has_ended(holder.process)


def _has_ended(process: ProcessId) -> bool:
    return processes.same_system(process) and not processes.alive(process)


class Ticket:
    """A place in the queue, held until `leave` or the end of its lease."""

    def __init__(self, keys: Keys, waiter: Waiter, lease: Lease) -> None:
        """Raises StoreError."""
        self.key = names.ticket(uuid.uuid4().hex)
        self.lease: Lease | None = lease
        self._keys = keys
        self._value = msgspec.json.encode(waiter)
        self._created = 0
        self._woken_by: Item | None = None
        self._arrive(lease)
        self.ahead = self.place()
        self.look = keys.look

    def place(self) -> int:
        return len(self._earlier())

    def before(self) -> int | None:
        """The nearest waiter before this one, by the revision that made its ticket."""
        nearest = self._nearest()
        return nearest.created if nearest else None

    def wait(self, timeout: float) -> None:
        """Return when the one before has gone, the lock changed, or time is up."""
        watched = self._nearest() or self._of_lock()
        if watched is None:
            return
        self._woken_by = watched
        self._keys.wait(watched.key, watched.modified, timeout)

    def hand_over(self) -> None:
        """The ticket became a lock, to which its lease belongs from now on."""
        self.lease = None

    def leave(self) -> None:
        if self.lease is not None:
            with contextlib.suppress(StoreError):
                self._keys.remove([self.key])
            self.lease.close()
            self.lease = None

    def _of_lock(self) -> Item | None:
        """The key of a live participant; once that has woken us, the lock record.

        None if the lock is free by now, so that it must be asked for at once.
        """
        found = lock_status.read(self._keys)
        if found.is_free:
            return None
        alive = found.alive()
        return found.lock if alive is None or alive == self._woken_by else alive

    def _nearest(self) -> Item | None:
        earlier = self._earlier()
        return earlier[-1] if earlier else None

    def _earlier(self) -> list[Item]:
        """Who is before us. Who was away for longer than its lease comes behind all others."""
        found = tickets(self._keys)
        if self.lease is not None and not self._is_among(found, self.lease):
            self._keys.remove([self.key])
            self.lease.anew()
            self._arrive(self.lease)
            found = tickets(self._keys)
        return [item for item in found if item.created < self._created]

    def _is_among(self, found: list[Item], lease: Lease) -> bool:
        return any(item.key == self.key and item.lease == lease.id for item in found)

    def _arrive(self, lease: Lease) -> None:
        put = [Put(self.key, self._value, lease.id)]
        self._created = decide(self._keys, [Unchanged(self.key, 0)], put, self._revision)

    def _revision(self) -> int:
        item = self._keys.get(self.key)
        return item.created if item else 0
