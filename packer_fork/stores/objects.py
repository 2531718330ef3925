"""Keys of a shared store in an object store that has nothing but conditional writes.

    root            every key that a transaction has touched, replaced as a whole
    blobs/KEY       a key that was only `put`
    leases/ID       see `object_leases`

Transactions are replacements of the root, each built on the one that was read. When the outcome
of a replacement is unknown, the root is read: another revision tells whether ours came before
it; while it is the same, the same bytes are sent again, as they may still arrive.

`put` is for names that are never used again: a transaction, or `remove`, deletes their objects
a moment after its replacement of the root.
"""

from __future__ import annotations

import random
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from packer_fork.errors import StoreError
from packer_fork.stores import object_root
from packer_fork.stores.object_leases import MARGIN, ObjectLeases
from packer_fork.stores.object_root import Root, key_of, stored_name
from packer_fork.stores.object_store import ObjectStore
from packer_fork.stores.retry import Retry, UnavailableError
from packer_fork.stores.shared.keys import Condition, Delete, Item, Put, UnsureError, Write

MOST = 8 << 20
"""Bytes of a value."""

POLL = 0.5
"""Seconds between the first two reads of the root while one waits for a change of it."""

_LONGEST_POLL = 5.0

LOOK = 10.0
"""See ``Keys.look``: one takes more than a dozen requests, each of which is paid for."""

_ATTEMPTS = 100
"""Conflicting replacements in a row after which a transaction is given up."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
"""Seconds between two replacements that met conflicts, at most."""

_RESENT = 10
"""How often a replacement of unknown outcome is sent."""

_ROOT = "root"
_BLOBS = "blobs/"
_STAMPS = struct.Struct(">QQ")
"""Before the value of a blob: when it was created and modified, in nanoseconds."""

T = TypeVar("T")


class Call(Protocol):
    """How a request that may be carried out twice is made: until it is answered, or once."""

    def __call__(self, attempt: Callable[[], T]) -> T: ...


class _Seen(NamedTuple):
    """The root as it was read; no ETag: there is none yet."""

    root: Root
    etag: str


class ObjectKeys:
    """Implements ``stores.shared.keys.Keys``. Safe for threads."""

    most = MOST
    look = LOOK

    def __init__(
        self, store: ObjectStore, retry: Retry, *, margin: float = MARGIN, poll: float = POLL
    ) -> None:
        """`margin`: seconds after its time for which a lease is not ended. `poll`: see POLL."""
        self._store = store
        self._retry = retry
        self._poll = poll
        self._leases = ObjectLeases(store, margin)
        self._seen: _Seen | None = None
        self._replacing = threading.Lock()
        self._closed = threading.Event()

    @property
    def location(self) -> str:
        return self._store.location

    @property
    def kind(self) -> str:
        return self._store.kind

    def get(self, key: str) -> Item | None:
        return self._get(key, self._repeat)

    def items(self, prefix: str, *, start: str = "") -> Iterator[Item]:
        stored = stored_name(prefix)
        root = self._without_overdue(lambda each: each.startswith(stored), self._repeat)
        for key in self._names(root, prefix):
            if key >= start and (item := object_root.item(root, key) or self._blob(key)):
                yield item

    def names(self, prefix: str) -> list[str]:
        return self._names(self._read().root, prefix)

    def put(self, key: str, value: bytes) -> None:
        if stored_name(key) in (self._seen or self._read()).root.keys:
            self.transact([], [Put(key, value)])
            return
        name, now = _blob_name(key), time.time_ns()
        if self._repeat(lambda: self._store.put_new(name, _STAMPS.pack(now, now) + value)):
            return
        before = self._blob(key)
        if before is None or before.value != value:
            created = before.created if before else now
            modified = max(now, before.modified + 1) if before else now
            data = _STAMPS.pack(created, modified) + value
            self._repeat(lambda: self._store.put(name, data))

    def remove(self, keys: Sequence[str]) -> None:
        root = self._read().root
        in_root = [key for key in keys if stored_name(key) in root.keys]
        if in_root:
            self.transact([], [Delete(key) for key in in_root])
        self._delete_blobs([key for key in keys if key not in in_root])

    def transact(self, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        leases = {write.lease for write in writes if isinstance(write, Put) and write.lease}
        if not self._repeat(lambda: all(map(self._leases.exists, leases))):
            return 0
        blobs: dict[str, Item] = {}
        named = [each.key for each in (*conditions, *writes) if not isinstance(each, Delete)]

        def step(root: Root) -> Root | None:
            """The next root; the same if there is nothing to write, None if a condition fails."""
            apart = [key for key in named if stored_name(key) not in root.keys]
            blobs.clear()
            blobs.update({key: blob for key in apart if (blob := self._blob(key))})
            for each in conditions:
                found = object_root.item(root, each.key) or blobs.get(each.key)
                if not object_root.holds(each, found):
                    return None
            return object_root.written(root, writes, blobs.get) if writes else root

        before, after = self._replace(step)
        if after is None:
            return 0
        moved = [each.key for each in writes if isinstance(each, Put) and each.key in blobs]
        gone = [each.key for each in writes if isinstance(each, Delete)]
        self._delete_blobs(moved + [key for key in gone if stored_name(key) not in before.keys])
        return max(after.revision, 1)

    def grant(self, ttl: float) -> str:
        return self._repeat(lambda: self._leases.grant(ttl))

    def renew(self, lease: str) -> bool:
        return self._retry.call(lambda: self._leases.renew(lease, lambda: self._confirm(lease)))

    def left(self, lease: str) -> float | None:
        return self._repeat(lambda: self._leases.left(lease))

    def revoke(self, lease: str) -> None:
        self._end(frozenset({lease}))

    def wait(self, key: str, modified: int, timeout: float) -> None:
        deadline, pause = time.monotonic() + timeout, self._poll
        while True:
            item = self._get(key, _once)
            if (item.modified if item else 0) != modified:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if self._closed.wait(min(pause, left)):
                raise StoreError(f"{self.location} was let go of.")
            pause = min(2 * pause, max(self._poll, _LONGEST_POLL))

    def close(self) -> None:
        self._closed.set()
        self._store.close()

    def _get(self, key: str, call: Call) -> Item | None:
        name = stored_name(key)
        root = self._without_overdue(lambda each: each == name, call)
        return object_root.item(root, key) or self._blob(key, call)

    def _read(self, call: Call | None = None) -> _Seen:
        found = (call or self._repeat)(lambda: self._store.get(_ROOT))
        if found is None:
            self._seen = _Seen(Root(), "")
        elif self._seen is None or self._seen.etag != found.etag:
            where = f"{self.location}/{_ROOT}"
            self._seen = _Seen(object_root.decode(found.data, where), found.etag)
        return self._seen

    def _replace(self, step: Callable[[Root], Root | None]) -> tuple[Root, Root | None]:
        """Replace the root by what `step` makes of it: the root before, and the one after.

        Raises UnsureError if it may have been replaced.
        """
        with self._replacing:
            pause = _FIRST_PAUSE
            for _ in range(_ATTEMPTS):
                seen = self._read()
                after = step(seen.root)
                if after is None or after is seen.root or self._replaced(seen, after):
                    return seen.root, after
                _pause(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        raise StoreError(
            f"{self.location} could not be changed: {_ATTEMPTS} conflicting writes in a row."
        )

    def _replaced(self, seen: _Seen, after: Root) -> bool:
        """False if another client was faster."""
        if not seen.etag:
            self._probe_conditions()
        data, is_unknown = object_root.encode(after), False
        for _ in range(_RESENT):
            try:
                etag = self._retry.call(lambda: self._put_root(data, seen.etag))
            except UnsureError:
                etag, is_unknown = None, True
            except StoreError as error:
                if is_unknown:
                    raise self._unknown(after, error) from error
                raise
            if etag is not None:
                self._seen = _Seen(after, etag)
                return True
            try:
                now = self._read()
            except StoreError as error:
                raise self._unknown(after, error) from error
            if now.etag != seen.etag:
                return bool(now.etag) and now.root.follows(after)
            _pause(_FIRST_PAUSE)
        raise self._unknown(after, StoreError("No answer came."))

    def _unknown(self, after: Root, error: StoreError) -> UnsureError:
        what = f"{self.location} may have been changed to revision {after.revision}, or not"
        return UnsureError(f"{what}: {error.message}", hint=error.hint)

    def _put_root(self, data: bytes, etag: str) -> str | None:
        if etag:
            return self._store.put_if(_ROOT, data, etag)
        return self._store.put_new(_ROOT, data)

    def _without_overdue(self, wanted: Callable[[str], bool], call: Call) -> Root:
        """The root, once the overdue leases that `wanted` keys hang on are ended."""
        while True:
            seen = self._read(call)
            entries = seen.root.keys.items()
            leases = frozenset(
                entry.lease for name, entry in entries if entry.lease and wanted(name)
            )
            overdue = self._overdue(leases, call)
            if not overdue:
                return seen.root
            with self._replacing:
                is_ended = self._replaced(seen, object_root.without_leases(seen.root, overdue))
            if is_ended:
                self._forget(overdue)

    def _overdue(self, leases: frozenset[str], call: Call) -> frozenset[str]:
        return call(lambda: self._leases.overdue(leases))

    def _forget(self, leases: frozenset[str]) -> None:
        self._repeat(lambda: self._leases.forget(leases))

    def _end(self, leases: frozenset[str]) -> None:
        def step(root: Root) -> Root:
            hangs = any(entry.lease in leases for entry in root.keys.values())
            return object_root.without_leases(root, leases) if hangs else root

        self._replace(step)
        self._forget(leases)

    def _confirm(self, lease: str) -> None:
        """Make what was decided on the present root fail, if a key hangs on the lease."""

        def step(root: Root) -> Root:
            hangs = any(entry.lease == lease for entry in root.keys.values())
            return object_root.touched(root) if hangs else root

        self._replace(step)

    def _names(self, root: Root, prefix: str) -> list[str]:
        stored = {name for name in root.keys if name.startswith(stored_name(prefix))}
        listed = self._repeat(lambda: self._store.list(_blob_name(prefix)))
        stored |= {each.name.removeprefix(_BLOBS) for each in listed}
        return sorted(map(key_of, stored))

    def _blob(self, key: str, call: Call | None = None) -> Item | None:
        found = (call or self._repeat)(lambda: self._store.get(_blob_name(key)))
        if found is None or len(found.data) < _STAMPS.size:
            return None
        created, modified = _STAMPS.unpack_from(found.data)
        return Item(key, found.data[_STAMPS.size :], created, modified)

    def _delete_blobs(self, keys: Sequence[str]) -> None:
        if keys:
            self._repeat(lambda: self._store.delete([_blob_name(key) for key in keys]))

    def _probe_conditions(self) -> None:
        """Raises StoreError if the object store ignores conditions of writes."""
        name = f"probe-{uuid.uuid4().hex}"
        self._repeat(lambda: self._store.put(name, b"1"))
        ignored = self._repeat(
            lambda: self._store.put_new(name, b"2") or self._store.put_if(name, b"3", '"none"')
        )
        self._repeat(lambda: self._store.delete([name]))
        if ignored:
            raise StoreError(
                f"{self.location} ignores the conditions of writes, so it cannot hold a lock.",
                hint="Use an object store that honours If-Match and If-None-Match.",
            )

    def _repeat(self, attempt: Callable[[], T]) -> T:
        """The result of what may be carried out twice."""

        def once() -> T:
            try:
                return attempt()
            except UnsureError as error:
                raise UnavailableError(error.message, hint=error.hint) from error

        return self._retry.call(once)


def _once(attempt: Callable[[], T]) -> T:
    return attempt()


def _pause(longest: float) -> None:
    time.sleep(random.uniform(0, longest))  # noqa: S311 (spreads clients, no secret)


def _blob_name(key: str) -> str:
    return _BLOBS + stored_name(key)
