"""What a shared store needs of its servers: keys, leases, and one kind of transaction.

Keys are relative to the store's own prefix. Each read is linearizable. Reads, `put` and
`remove` are repeated until they are answered or `StoreError` says what was tried; a
transaction is sent once. Everything is safe for threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from msgspec import Struct

from packer_fork.errors import StoreError


class UnsureError(StoreError):
    """A transaction was sent, and nothing tells whether it was done."""


class Item(Struct, frozen=True):
    """A key as it was read.

    ``created`` orders keys by their making, ``modified`` names this version of the key (both
    are the servers' own revisions). ``lease`` is the living lease that it hangs on, "" if none:
    with etcd such a key vanishes with its lease, with Consul it stays, without a lease.
    """

    key: str
    value: bytes
    created: int
    modified: int
    lease: str = ""


class Unchanged(Struct, frozen=True):
    """Holds if the key is still as it was read; `modified` 0: if it does not exist."""

    key: str
    modified: int


class Leased(Struct, frozen=True):
    """Holds if the key exists and hangs on that lease, which lives."""

    key: str
    lease: str


class Put(Struct, frozen=True):
    """Write a key; with a `lease` it hangs on that (and must not hang on another)."""

    key: str
    value: bytes
    lease: str = ""


class Delete(Struct, frozen=True):
    """Remove a key, if it exists."""

    key: str


Condition = Unchanged | Leased
Write = Put | Delete


class Keys(Protocol):
    """A client of one cluster. Every method raises StoreError where the servers fail."""

    @property
    def location(self) -> str:
        """The URL without credentials, for messages."""

    @property
    def kind(self) -> str:
        """What the servers are, for messages: "etcd", "Consul" or "S3"."""

    @property
    def most(self) -> int:
        """Bytes of one value at the most."""

    @property
    def look(self) -> float:
        """Seconds between two looks at the whole lock while one waits for it, at the least."""

    def get(self, key: str) -> Item | None: ...

    def items(self, prefix: str, *, start: str = "") -> Iterator[Item]:
        """All keys that begin with `prefix`, in the order of their names, page by page.

        `start`: only from that key on. What is written meanwhile may be there or not.
        """

    def names(self, prefix: str) -> list[str]:
        """The keys alone, in order, however many."""

    def put(self, key: str, value: bytes) -> None:
        """Write a key that nobody writes anything else to, so that twice is as good as once."""

    def remove(self, keys: Sequence[str]) -> None:
        """Remove keys, however many; what does not exist is removed already."""

    def transact(self, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        """All `writes` if all `conditions` hold, in one step.

        Returns the revision that what was put has by then (its `modified`; if nothing was
        put, any), or 0 if a condition did not hold. Raises UnsureError if it may have been
        done; another StoreError if it was not.
        """

    def grant(self, ttl: float) -> str:
        """A new lease that ends `ttl` seconds after its last renewal (or later)."""

    def renew(self, lease: str) -> bool:
        """Let the lease begin anew. Sent once; False if it has ended."""

    def left(self, lease: str) -> float | None:
        """Seconds that the lease has left, or at the most; None if it has ended."""

    def revoke(self, lease: str) -> None:
        """End a lease; what hangs on it goes as if it had run out."""

    def wait(self, key: str, modified: int, timeout: float) -> None:
        """Return when the key is not any more as it was read, or after `timeout` seconds.

        May return early. Failing servers end the wait at once.
        """

    def close(self) -> None:
        """Let go of all connections."""
