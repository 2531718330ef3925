r"""Packer's ``-machine-readable`` lines: ``unix_seconds,target,type,arg,arg...``.

In arguments ``,`` is written ``%!(PACKER_COMMA)``, LF ``\n`` and CR ``\r``; a
backslash itself is not escaped, so that decoding may find a line break where there
was none. The target is not escaped at all.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

MAX_LINE = 1 << 20
"""Bytes of a line that are looked at; the rest of a longer one is dropped."""

_DECODED = (("%!(PACKER_COMMA)", ","), ("\\n", "\n"), ("\\r", "\r"))


class Line(Struct, frozen=True):
    """One line, decoded; what is not UTF-8 in it is replaced."""

    at: datetime
    target: str
    type: str
    args: tuple[str, ...]


def parse(raw: bytes) -> Line | None:
    """The line, or None for what is none of Packer's (a Go panic, a plugin's noise)."""
    seconds, *rest = raw[:MAX_LINE].decode("utf-8", "replace").rstrip("\r\n").split(",")
    if len(rest) < 2 or not (seconds.isascii() and seconds.isdigit() and len(seconds) < 13):
        return None
    at = datetime.fromtimestamp(min(int(seconds), 253402300799), UTC)
    target, kind, *args = rest
    return Line(at, target, kind, tuple(_decode(arg) for arg in args))


def _decode(arg: str) -> str:
    for written, meant in _DECODED:
        arg = arg.replace(written, meant)
    return arg


def split(buffer: bytes) -> tuple[list[bytes], bytes]:
    """Whole lines, their LF included, and what is left.

    A line that is not finished after MAX_LINE bytes is given out in pieces: the first
    is looked at, the others are no lines of Packer's.
    """
    *whole, rest = buffer.split(b"\n")
    lines = [line + b"\n" for line in whole]
    while len(rest) > MAX_LINE:
        lines.append(rest[:MAX_LINE])
        rest = rest[MAX_LINE:]
    return lines, rest
