"""Leases in an object store: an object for each, which only its owner overwrites.

They show who lives; the root alone decides who holds what. A lease has ended once no key in
the root hangs on it any more, and its object is deleted. Before that, it may be ended by anyone
who sees that its object was not overwritten for its time and a margin, by the server's clock:
the time of an object of one's own, written just before, is "now". Whoever ends it reads the
root first, then the leases, and replaces that very root.

So a renewal that came in time counts as soon as it is answered. A late one counts only once
the root was replaced after it: then an end that was decided before it fails.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable

from packer_fork.errors import StoreError
from packer_fork.stores.object_store import ObjectStore
from packer_fork.stores.shared.lease import DANGER

MARGIN = 5.0
"""Seconds after its time for which a lease is not ended: clocks have whole seconds, and a
renewal may be on its way."""

_FORGOTTEN = 24 * 3600.0
"""Seconds after its time after which the object of a lease is deleted by anyone."""

_FOLDER = "leases/"
_CLOCK = "clock-"


class _Own:
    """A lease that this process renews. ``etag`` is that of our last answered write, "" if
    unknown; ``counted`` is when the last renewal that counts was sent.
    """

    def __init__(self, etag: str, counted: float) -> None:
        self.etag = etag
        self.counted = counted


_own: dict[str, _Own] = {}
"""By their names, which are unique. One thread renews a lease, perhaps by several clients."""


class ObjectLeases:
    """Safe for threads."""

    def __init__(self, store: ObjectStore, margin: float) -> None:
        self._store = store
        self._margin = margin
        self._clock = f"{_CLOCK}{uuid.uuid4().hex}"
        self._lives_until: dict[str, float] = {}

    def grant(self, ttl: float) -> str:
        """May be repeated."""
        lease = f"{round(ttl * 1000)}-{uuid.uuid4().hex}"
        sent = time.monotonic()
        _own[lease] = _Own(self._store.put(_FOLDER + lease, _nonce()), sent)
        return lease

    def exists(self, lease: str) -> bool:
        return lease in _own or self._store.get(_FOLDER + lease) is not None

    def renew(self, lease: str, confirm: Callable[[], None]) -> bool:
        """False if it has ended. `confirm` replaces the root, for a renewal that came late."""
        sent = time.monotonic()
        own = _own.setdefault(lease, _Own("", float("-inf")))
        if not self._overwritten(lease, own):
            _own.pop(lease, None)
            return False
        if time.monotonic() - own.counted > ttl_of(lease) * DANGER:
            confirm()
        own.counted = sent
        return True

    def forget(self, leases: Iterable[str]) -> None:
        """Delete the objects of leases that no key hangs on any more. May be repeated."""
        for lease in leases:
            _own.pop(lease, None)
        self._store.delete([_FOLDER + lease for lease in leases])

    def left(self, lease: str) -> float | None:
        """Seconds after which it may be ended; None if it has ended. May be repeated."""
        ages = self._ages()
        if lease not in ages:
            return None
        return max(0.0, ttl_of(lease) + self._margin - ages[lease])

    def overdue(self, leases: frozenset[str]) -> frozenset[str]:
        """Those of `leases` that may be ended, by a look at the server. May be repeated.

        The root must have been read before.
        """
        doubtful = {lease for lease in leases if not self._surely_lives(lease)}
        if not doubtful:
            return frozenset()
        ages = self._ages()
        return frozenset(lease for lease in doubtful if self._is_overdue(lease, ages))

    def close(self) -> None:
        self._store.delete([_FOLDER + self._clock])

    def _surely_lives(self, lease: str) -> bool:
        return time.monotonic() < self._lives_until.get(lease, 0.0)

    def _is_overdue(self, lease: str, ages: dict[str, float]) -> bool:
        return lease not in ages or ages[lease] > ttl_of(lease) + self._margin

    def _ages(self) -> dict[str, float]:
        """Seconds since each lease was renewed, by the server's clock."""
        began = time.monotonic()
        self._store.put(_FOLDER + self._clock, _nonce())
        times = {
            each.name.removeprefix(_FOLDER): each.modified for each in self._store.list(_FOLDER)
        }
        now = times.get(self._clock)
        if now is None:
            raise StoreError(
                f"{self._store.location} does not list an object that was just written.",
                hint="Use an endpoint of one region, with consistent lists.",
            )
        ages = {lease: now - modified for lease, modified in times.items()}
        for lease, age in ages.items():
            self._lives_until[lease] = began + ttl_of(lease) + self._margin - age
        forgotten = [lease for lease, age in ages.items() if age > ttl_of(lease) + _FORGOTTEN]
        if forgotten:
            self._store.delete([_FOLDER + lease for lease in forgotten])
        return ages

    def _overwritten(self, lease: str, own: _Own) -> bool:
        """Only we write it: another ETag is that of a write of ours that was not answered."""
        name = _FOLDER + lease
        etag = self._store.put_if(name, _nonce(), own.etag) if own.etag else None
        if etag is None:
            found = self._store.get(name)
            etag = self._store.put_if(name, _nonce(), found.etag) if found else None
        own.etag = etag or ""
        return etag is not None


def ttl_of(lease: str) -> float:
    """Seconds; it is a part of the name."""
    digits = lease.partition("-")[0]
    return int(digits) / 1000 if digits.isdecimal() else 0.0


def _nonce() -> bytes:
    return uuid.uuid4().hex.encode()
