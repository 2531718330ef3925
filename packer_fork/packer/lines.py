r"""Packer's machine-readable lines: ``unix_seconds,target,type,arg,arg...``. No I/O.

In arguments Packer writes a comma as ``%!(PACKER_COMMA)``, a line feed as ``\n`` and a
carriage return as ``\r``; a backslash of its own and the target stay as they are. In what a
build says each further line begins as the first does, ``==> NAME: ``, so that a backslash
before an ``n`` can be told from a line feed. In all other texts it cannot; a path of an
artifact is taken as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from packer_fork.model import Artifact

MAX_LINE = 1 << 20
"""Bytes of one line that are read; what is longer is cut."""

CUT = " [cut]"
"""What ends the last argument of a line that was cut."""

_SECONDS = 12
"""Digits that a time may have, at most: more is no line of Packer's."""

_DIGITS = b"0123456789"
_PIECE = MAX_LINE + 2 * _SECONDS
_WRITTEN = str.maketrans({",": "%!(PACKER_COMMA)", "\n": "\\n", "\r": "\\r"})


class Line(Struct, frozen=True):
    """One line; ``target`` is the build it is about, empty for ``ui`` and for Packer itself."""

    at: datetime
    target: str
    type: str
    args: tuple[str, ...]


def parse(raw: bytes) -> Line | None:
    """What `raw` says; None if it is no such line: warnings, panics, what else gets in there.

    Bytes that are not UTF-8 become replacement characters.
    """
    text = raw.removesuffix(b"\n")
    is_cut = len(text) > MAX_LINE
    seconds, *fields = text[:MAX_LINE].decode("utf-8", "replace").split(",")
    if len(fields) < 2 or (at := _time(seconds)) is None:
        return None
    target, kind, *args = fields
    decoded = _decoded(kind, args)
    if is_cut and decoded:
        decoded[-1] += CUT
    return Line(at, target, kind, tuple(decoded))


def encode(line: Line) -> bytes:
    """`line` in Packer's own form, with its line feed."""
    args = (arg.translate(_WRITTEN) for arg in line.args)
    fields = (str(int(line.at.timestamp())), line.target, line.type, *args)
    return f"{','.join(fields)}\n".encode("utf-8", "replace")


def as_decoded(written: str) -> str:
    """What becomes of a text that Packer has printed as an argument, if it holds no backslash."""
    return _with_commas(written).replace("\\n", "\n").replace("\\r", "\r")


_SPOKEN = re.compile(
    r"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d): )?"
    r"(?P<begin>(?:==>|   ) [^\s:](?:.*?[^\s:])??:)(?: |\Z)"
)
"""What a build says, after the time of ``-timestamp-ui``; a name that holds ``: `` is cut there."""


def _decoded(kind: str, args: list[str]) -> list[str]:
    match kind, args:
        case "ui", [tone, text]:
            return [as_decoded(tone), _as_said(text)]
        case "artifact", [number, "file", index, path]:
            return [number, "file", index, _with_commas(path)]
    return [as_decoded(arg) for arg in args]


def _as_said(written: str) -> str:
    """The text of a ``ui`` line, of which only what begins as the first line does is a line."""
    text = _with_commas(written)
    spoken = _SPOKEN.match(text)
    if spoken is None:
        return as_decoded(written)
    begin = spoken["begin"]
    return text.replace(f"\\r\\n{begin}", f"\r\n{begin}").replace(f"\\n{begin}", f"\n{begin}")


def _with_commas(written: str) -> str:
    return written.replace("%!(PACKER_COMMA)", ",")


def split(buffer: bytes) -> tuple[list[bytes], bytes]:
    """The whole lines of `buffer`, each with its line feed, and the rest that waits for more.

    What is longer than any line should be comes in pieces, of which all but the first
    are no lines to `parse`. They are cut at the same places however the bytes arrive.
    """
    whole: list[bytes] = []
    start = 0
    while True:
        stop = buffer.find(b"\n", start, start + _PIECE) + 1
        if not stop and len(buffer) - start >= _PIECE:
            stop = _end_of_piece(buffer, start)
        if not stop:
            return whole, buffer[start:]
        whole.append(buffer[start:stop])
        start = stop


def _end_of_piece(buffer: bytes, start: int) -> int:
    """A place from where nothing can be taken for the time that begins a line.

    Else a script could forge a line of Packer's in the middle of its own.
    """
    last = start + _PIECE - 1
    first = last - _SECONDS
    return next((at for at in range(last, first, -1) if buffer[at] not in _DIGITS), first)


def _time(seconds: str) -> datetime | None:
    if not (seconds.isascii() and seconds.isdecimal() and len(seconds) <= _SECONDS):
        return None
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def of_artifacts(build: str, artifacts: Sequence[Artifact], at: datetime) -> Iterator[Line]:
    """The lines by which Packer would announce `artifacts` of `build`."""
    yield Line(at, build, "artifact-count", (str(len(artifacts)),))
    for number, artifact in enumerate(artifacts):
        facts = [
            ("builder-id", artifact.builder_id),
            ("id", artifact.id),
            ("string", artifact.string),
            ("files-count", str(len(artifact.files))),
            *(("file", str(n), file.path) for n, file in enumerate(artifact.files)),
            ("end",),
        ]
        for fact in facts:
            yield Line(at, build, "artifact", (str(number), *fact))
