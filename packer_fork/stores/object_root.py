"""The root: the one object that a transaction on an object store replaces. Pure functions.

It holds every key that a transaction has touched. Each replacement has the next revision and
a fresh transaction id, so that no two roots have equal bytes (nor, therefore, equal ETags),
and so that a client finds out whether a replacement of unknown outcome was its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from urllib.parse import quote, unquote

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from packer_fork.errors import DamagedError, NewerFormatError
from packer_fork.malformed import MALFORMED
from packer_fork.stores.shared.keys import (
    Condition,
    Item,
    Leased,
    Put,
    Unchanged,
    UnsureError,
    Write,
)

VERSION = 1

REMEMBERED = 256
"""Transactions whose ids a root remembers, the newest last."""


class Entry(Struct, frozen=True, omit_defaults=True):
    """A key; ``created`` and ``modified`` are revisions of the root."""

    value: bytes
    created: int
    modified: int
    lease: str = ""


class Root(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Revision 0 is the root of an object store that has none yet."""

    version: int = VERSION
    revision: int = 0
    transactions: list[str] = []
    keys: dict[str, Entry] = {}

    @property
    def transaction(self) -> str:
        return self.transactions[-1]

    def follows(self, other: Root) -> bool:
        """Whether `other` was stored, and this root after it, or is `other`.

        Raises UnsureError if that was too long ago.
        """
        age = self.revision - other.revision
        if age >= len(self.transactions):
            raise UnsureError(f"Nobody knows any more what became of revision {other.revision}.")
        return age >= 0 and self.transactions[-1 - age] == other.transaction


class _Versioned(Struct, frozen=True):
    version: int


def stored_name(key: str) -> str:
    """The key as a part of names of objects, and in the root: in ASCII, prefixes kept."""
    return quote(key, errors="surrogateescape")


def key_of(name: str) -> str:
    return unquote(name, errors="surrogateescape")


def encode(root: Root) -> bytes:
    return msgspec.json.encode(root)


def decode(data: bytes, where: str) -> Root:
    """Raises DamagedError, or NewerFormatError if a newer packer-fork wrote it."""
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version > VERSION:
            raise NewerFormatError(where, version, VERSION)
        return msgspec.json.decode(data, type=Root)
    except MALFORMED as error:
        raise DamagedError(where, 0, f"the root of the keys is unreadable ({error})") from error


def item(root: Root, key: str) -> Item | None:
    entry = root.keys.get(stored_name(key))
    if entry is None:
        return None
    return Item(key, entry.value, entry.created, entry.modified, entry.lease)


def holds(condition: Condition, found: Item | None) -> bool:
    """`found`: the key of the condition, as it is."""
    match condition:
        case Unchanged(modified=modified):
            return (found.modified if found else 0) == modified
        case Leased(lease=lease):
            return found is not None and found.lease == lease


def written(root: Root, writes: Sequence[Write], blobs: Callable[[str], Item | None]) -> Root:
    """The next root. `blobs` finds a key that is an object of its own until now."""
    revision, keys = root.revision + 1, dict(root.keys)
    for write in writes:
        name = stored_name(write.key)
        if isinstance(write, Put):
            before = keys.get(name) or blobs(write.key)
            created = before.created if before else revision
            keys[name] = Entry(write.value, created, revision, write.lease)
        else:
            keys.pop(name, None)
    return _next(root, keys)


def without_leases(root: Root, leases: frozenset[str]) -> Root:
    """The next root, in which no key hangs on `leases`: they have ended."""
    revision = root.revision + 1
    ended = {
        name: replace(entry, lease="", modified=revision)
        for name, entry in root.keys.items()
        if entry.lease in leases
    }
    return _next(root, root.keys | ended)


def touched(root: Root) -> Root:
    """The next root, with the same keys: what was decided on this one fails."""
    return _next(root, root.keys)


def _next(root: Root, keys: dict[str, Entry]) -> Root:
    transactions = [*root.transactions, secrets.token_hex(8)][-REMEMBERED:]
    return Root(revision=root.revision + 1, transactions=transactions, keys=keys)
