"""The lock record as bytes, in a file or under a key."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from packer_fork.locks import LockRecord
from packer_fork.malformed import MALFORMED

MAX_SIZE = 1 << 20
"""Bytes of a record that are read."""

_decoder = msgspec.json.Decoder(LockRecord)
_encoder = msgspec.json.Encoder()


class Found(Struct, frozen=True):
    """A lock record, or why it cannot be read. Neither: the lock was never held.

    ``id`` also names an unreadable record, for force-unlock.
    """

    record: LockRecord | None = None
    id: str = ""
    error: str = ""


def encode(record: LockRecord) -> bytes:
    return _encoder.encode(record) + b"\n"


def decode(data: bytes | None, where: str) -> Found:
    """`where`: the file or key, for the message."""
    if data is None:
        return Found()
    try:
        record = _decoder.decode(data[:MAX_SIZE])
    except MALFORMED as error:
        import hashlib

        surrogate = f"unreadable-{hashlib.sha256(data).hexdigest()[:12]}"
        return Found(id=surrogate, error=f"{where} cannot be read as a lock record ({error})")
    return Found(record=record, id=record.id)
