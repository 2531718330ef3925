"""The witness: what a state file must at least reach, in one small write."""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

WITNESS_SIZE = 20 + 1 + 64 + 1 + 8 + 1
"""Bytes of an encoded witness."""


_TEXT = re.compile(rb"([0-9]{20}) ([0-9a-f]{0,64}) *")


class Witness(NamedTuple):
    """The last acknowledged change: its serial and the digest of its line."""

    serial: int
    digest: str


def encode_witness(witness: Witness) -> bytes:
    """Of fixed size, so that one small write replaces it whole."""
    text = f"{witness.serial:020d} {witness.digest:64s}".encode()
    return text + b" %08x\n" % zlib.crc32(text)


def decode_witness(data: bytes) -> Witness | None:
    """None unless every byte is as it was written."""
    text, crc = data[: WITNESS_SIZE - 10], data[WITNESS_SIZE - 10 :]
    if len(data) != WITNESS_SIZE or crc != b" %08x\n" % zlib.crc32(text):
        return None
    told = _TEXT.fullmatch(text)
    return Witness(int(told[1]), told[2].decode()) if told else None
