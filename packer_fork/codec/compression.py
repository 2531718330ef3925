"""zstd (RFC 8878): level 1, with the checksum, without which flipped bits go unnoticed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from packer_fork.errors import StateError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_IN = 1 << 16
_OUT = 1 << 20


def compress(data: bytes | memoryview) -> bytes:
    """One frame."""
    zstd = _zstd()
    options = {
        zstd.CompressionParameter.compression_level: 1,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    frame: bytes = zstd.compress(data, options=options)
    return frame


def decompress(data: bytes | memoryview, limit: int) -> bytes:
    """Raises ValueError if `data` is not one whole frame, or more than `limit` bytes."""
    found = list(frames(data, limit))
    if len(found) != 1 or found[0][1] != len(data):
        raise ValueError("it is not one whole frame")
    return found[0][0]


def frames(data: bytes | memoryview, limit: int) -> Iterator[tuple[bytes, int]]:
    """Each whole frame, decompressed, with the offset behind it; ends at the first that is not.

    All together are no more than `limit` bytes: what would be more is not whole. Raises
    StateError if memory does not suffice.
    """
    end = 0
    while end < len(data):
        found = _frame(data, end, limit)
        if found is None:
            return
        yield found
        end, limit = found[1], limit - len(found[0])


def _frame(data: bytes | memoryview, start: int, limit: int) -> tuple[bytes, int] | None:
    zstd = _zstd()
    frame, parts, size, fed = zstd.ZstdDecompressor(), [], 0, start
    try:
        while not frame.eof:
            piece = b""
            if frame.needs_input:
                if fed == len(data):
                    return None
                piece = bytes(data[fed : fed + _IN])
                fed += len(piece)
            part = frame.decompress(piece, max_length=_OUT)
            parts.append(part)
            size += len(part)
            if size > limit:
                return None
        return b"".join(parts), fed - len(frame.unused_data)
    except zstd.ZstdError:
        return None
    except MemoryError as error:
        raise StateError(
            f"Decompressed, the data are over {size >> 20} MiB: more than there is memory for.",
            hint="Nothing was changed. If the file is to be trusted, use a larger machine.",
        ) from error


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
