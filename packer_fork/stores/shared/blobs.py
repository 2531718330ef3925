"""Values of any size: compressed above a few KB, in pieces above what one key may hold.

A blob's key is written once, after all its pieces; it is never written with other bytes.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from packer_fork.codec.compression import compress, decompress
from packer_fork.malformed import MALFORMED
from packer_fork.stores.shared.keys import Keys

COMPRESS_ABOVE = 4 << 10
"""Bytes up to which compressing saves less than it costs."""

_PLAIN, _PACKED, _IN_PIECES = b"=", b"z", b"+"
_PIECES = "pieces/"


class _Pieces(Struct, frozen=True, forbid_unknown_fields=True):
    """How many there are, and the bytes of all together."""

    count: int
    size: int


def write(keys: Keys, key: str, data: bytes | memoryview, *, packed: bool) -> None:
    """Durable when this returns. `packed`: whether compressing is worth a try."""
    worth = packed and len(data) > COMPRESS_ABOVE
    stored = _PACKED + compress(data) if worth else _PLAIN + bytes(data)
    if len(stored) <= keys.most:
        keys.put(key, stored)
        return
    starts = range(0, len(stored), keys.most)
    for number, start in enumerate(starts):
        keys.put(_piece(key, number), stored[start : start + keys.most])
    pieces = _Pieces(count=len(starts), size=len(stored))
    keys.put(key, _IN_PIECES + msgspec.json.encode(pieces))


def read(keys: Keys, key: str, limit: int) -> bytes | None:
    """At most `limit` bytes; None if there is no such key."""
    item = keys.get(key)
    return None if item is None else unpack(keys, key, item.value, limit)


def unpack(keys: Keys, key: str, value: bytes, limit: int) -> bytes:
    """The blob whose key holds `value`. What is damaged ends too early or is not unpacked.

    Whoever reads proves by digests that it is whole, so nothing more is told of it here.
    """
    if value[:1] == _IN_PIECES:
        value = _joined(keys, key, value[1:], limit)
    kind, data = value[:1], value[1:]
    if kind == _PACKED:
        try:
            return decompress(data, limit)
        except ValueError:
            return data
    return data[:limit] if kind == _PLAIN else value[:limit]


def size(keys: Keys, key: str) -> int | None:
    """Bytes as stored; None if there is no such key."""
    item = keys.get(key)
    if item is None:
        return None
    if item.value[:1] != _IN_PIECES:
        return len(item.value)
    try:
        return msgspec.json.decode(item.value[1:], type=_Pieces).size
    except MALFORMED:
        return len(item.value)


def remove(keys: Keys, blobs: list[str]) -> None:
    """The keys first, so that nobody finds one whose pieces are gone."""
    if blobs:
        keys.remove(blobs)
    pieces = [name for key in blobs for name in keys.names(f"{_PIECES}{key}/")]
    if pieces:
        keys.remove(pieces)


def orphans(keys: Keys, prefix: str) -> dict[str, list[str]]:
    """Pieces of blobs below `prefix` whose key never came, by that: their writer was killed."""
    found: dict[str, list[str]] = {}
    for piece in keys.names(f"{_PIECES}{prefix}"):
        found.setdefault(piece.removeprefix(_PIECES).rpartition("/")[0], []).append(piece)
    whole = set(keys.names(prefix)) if found else set()
    return {key: pieces for key, pieces in found.items() if key not in whole}


def _joined(keys: Keys, key: str, value: bytes, limit: int) -> bytes:
    """The pieces up to the first that is missing, or to `limit`."""
    try:
        pieces = msgspec.json.decode(value, type=_Pieces)
    except MALFORMED:
        return b""
    found: list[bytes] = []
    size = 0
    for number in range(pieces.count):
        item = keys.get(_piece(key, number)) if size <= limit else None
        if item is None:
            break
        found.append(item.value)
        size += len(item.value)
    return b"".join(found)


def _piece(key: str, number: int) -> str:
    return f"{_PIECES}{key}/{number:06d}"
