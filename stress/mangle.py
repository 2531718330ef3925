"""What disks, editors and attackers make of bytes. Pure: all chance comes from `rng`."""

from __future__ import annotations

import hashlib
import random
import re
import zlib
from collections.abc import Callable, Iterator

from packer_fork.codec.compression import compress
from packer_fork.codec.lines import unseal
from packer_fork.codec.statefile import text_lines

_BLOCK = 128 << 10
_RLE = 1
_DIGITS = re.compile(rb"\d+")
_JUNK = (b"\0", b"\0" * 4096, b"\xff\xfe", b"\xed\xa0\x80", b"\n", b"\r", b"\\", b'"', b",", b"}")
_HUGE = (b"-1", b"0", b"9" * 19, b"9" * 30, b"9" * 5000, b"1e999", b"0.5", b"null", b"\xd9\xa1")
_NESTS = ((b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"${", b"}"), (b"a {\n", b"}\n"))

Way = Callable[[random.Random, bytes], bytes]


def mangled(rng: random.Random, data: bytes) -> bytes:
    """`data` after one to four accidents."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(WAYS)(rng, data)
    return data


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _delete(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 2, 50)) + data[end:]


def _splice(rng: random.Random, data: bytes) -> bytes:
    """Two pieces change places."""
    start, end = _span(rng, data)
    return data[end:] + data[start:end] + data[:start]


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_JUNK) * rng.choice((1, 3)) + data[at:]


def _number(rng: random.Random, data: bytes) -> bytes:
    """One number becomes another, perhaps one that fits into no type."""
    found = list(_DIGITS.finditer(data))
    if not found:
        return data
    start, end = rng.choice(found).span()
    return data[:start] + rng.choice(_HUGE) + data[end:]


def _nest(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    opening, closing = rng.choice(_NESTS)
    depth = rng.choice((2, 150, 700, 3000))
    return data[:start] + opening * depth + data[start:end] + closing * depth + data[end:]


def _stretch(rng: random.Random, data: bytes) -> bytes:
    """One very long line, or name."""
    at = rng.randrange(len(data) + 1)
    long = rng.choice((b"a" * 50_000, b"'" * 50_000, b"\xc3\xa4" * 50_000, b" " * 3_000))
    return data[:at] + long + data[at:]


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 4, 16, 64, len(data))))


WAYS: tuple[Way, ...] = (
    *(_flip, _delete, _repeat, _splice, _truncate),
    *(_insert, _number, _nest, _stretch),
)


def resealed(rng: random.Random, data: bytes) -> bytes:
    """Stored lines whose digests are right, of which one says something else than before."""
    lines = [bytes(line) for line, _ in text_lines(data)]
    at = rng.randrange(len(lines))
    body = mangled(rng, lines[at][: -len(_seal_of(b""))]).replace(b"\n", b"")
    lines[at] = body + _seal_of(body)
    assert unseal(lines[at]) is not None
    return b"".join(lines)


def _seal_of(body: bytes) -> bytes:
    return b',"digest":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def witnessed(rng: random.Random, data: bytes) -> bytes:
    """Another text than that of the witness `data`, with the checksum that it must have."""
    text = mangled(rng, data[:85]).ljust(85)[:85]
    return text + b" %08x\n" % zlib.crc32(text)


def framed(rng: random.Random, lines: bytes) -> bytes:
    """A whole frame of zstd, in which the lines are not what they were."""
    made = rng.choice((mangled, resealed))(rng, lines)
    return b"".join(map(compress, _cut(rng, made)))


def _cut(rng: random.Random, data: bytes) -> Iterator[bytes]:
    """In one piece, or line by line."""
    if rng.random() < 0.5:
        yield data
    else:
        yield from data.splitlines(keepends=True)


def bomb(size: int, byte: bytes = b" ") -> bytes:
    """A frame of zstd that becomes `size` times the same byte (RFC 8878, 3.1.1.2)."""
    blocks, rest = divmod(size, _BLOCK)
    sizes = [*[_BLOCK] * blocks, rest]
    last = len(sizes) - 1
    made = (
        ((at == last) | _RLE << 1 | each << 3).to_bytes(3, "little") + byte
        for at, each in enumerate(sizes)
    )
    return b"\x28\xb5\x2f\xfd\x00\x38" + b"".join(made)
