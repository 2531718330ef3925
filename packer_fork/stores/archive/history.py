"""history/: sealed segments, and the way from one to the one before.

The newest segment takes in what follows it until it is large enough, so that a state
of a million runs has thousands of files and not a million; but not while a backup
names it. Only who holds the mutex writes or removes segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from packer_fork.codec import segment as codec
from packer_fork.codec.compression import ZSTD_MAGIC, decompress
from packer_fork.codec.lines import Line
from packer_fork.codec.statefile import StateFile
from packer_fork.errors import DamagedError
from packer_fork.model import Change, SegmentRef, State, Summary
from packer_fork.stores.archive.files import HISTORY, Files
from packer_fork.stores.archive.files import segment as named

SEGMENT_SIZE = 1 << 20
"""Bytes of lines up to which the newest segment takes in more."""

_HEAD = 4096
"""Bytes that nearly every summary fits into."""

MAX_FILE = 4 << 30
"""Bytes of a segment's file that are read at the most."""


_PINNED = 16
"""Digits of a segment's name by which a backup pins it."""


class MissingError(DamagedError):
    """A segment that is named is not there; a writer may have replaced it just now."""


def pin(segment: str) -> str:
    """How a backup says which segment it names."""
    return segment[:_PINNED]


def is_pinned(segment: str, pins: frozenset[str]) -> bool:
    return pin(segment) in pins


def seal(
    files: Files, file: StateFile, pinned: frozenset[str]
) -> tuple[SegmentRef, SegmentRef | None]:
    """Write the lines of `file` into a segment; also the segment that it takes the place of."""
    newest = file.state.sealed
    grown = _grown(files, newest, file) if newest and _may_grow(newest, file, pinned) else None
    if grown is not None:
        lines, changes, first, before = grown
        made = codec.encode_segment(lines, changes, first, before)
    else:
        made = codec.encode_segment(file.lines, file.changes, file.first_serial, newest)
    files.replace(named(made.sealed.segment), made.data)
    return made.sealed, newest if grown is not None else None


def _may_grow(newest: SegmentRef, file: StateFile, pinned: frozenset[str]) -> bool:
    """Not what a backup names, and not what was pruned."""
    return newest.segment not in file.state.gaps and not is_pinned(newest.segment, pinned)


def _grown(
    files: Files, newest: SegmentRef, file: StateFile
) -> tuple[tuple[Line, ...], tuple[Change, ...], int, SegmentRef | None] | None:
    """The newest segment with the changes of `file` behind its own; None if that is too much."""
    added = sum(len(line.data) for line in file.lines[1:])
    try:
        summary = read_summary(files, newest)
        if (
            summary is None
            or summary.size + added > SEGMENT_SIZE
            or summary.last != file.first_serial
        ):
            return None
        old = read(files, newest)
    except DamagedError:
        return None  # it stays as it is, to be told of and repaired
    if old.state.prev != file.first_links[0] or not file.is_present:
        return None
    lines = (*old.lines, *file.lines[1:])
    return lines, (*old.changes, *file.changes), old.first_serial, summary.before


def read_summary(files: Files, sealed: SegmentRef) -> Summary | None:
    """Only the head of the segment is read. Raises DamagedError; None for those without one."""
    name = named(sealed.segment)
    data = _bytes(files, name, _HEAD)
    if codec.head_size(data) > len(data):
        data = _bytes(files, name, codec.MAX_SUMMARY)
    return codec.read_head(data, sealed, files.where(name))


def read(files: Files, sealed: SegmentRef) -> StateFile:
    """A segment, proven. Raises DamagedError or NewerFormatError."""
    name = named(sealed.segment)
    return codec.decode_segment(_bytes(files, name, MAX_FILE), sealed, files.where(name))


def read_bytes(files: Files, sealed: SegmentRef) -> bytes:
    """The bytes of a segment, proven as well."""
    name = named(sealed.segment)
    data = _bytes(files, name, MAX_FILE)
    codec.decode_segment(data, sealed, files.where(name))
    return data


def put(files: Files, data: bytes) -> SegmentRef:
    """Write a segment under the name that its bytes have. Raises DamagedError."""
    file = codec.decode_unnamed(data, "a segment that was brought here")
    sealed = codec.describe(data, file)
    name = named(sealed.segment)
    if codec.has_summary(data) and codec.peek(data) is None:
        raise DamagedError("a segment that was brought here", 0, "its summary is not whole")
    if files.read(name, MAX_FILE) != data:
        files.replace(name, data)
    return sealed


def _bytes(files: Files, name: str, limit: int) -> bytes:
    data = files.read(name, limit)
    if data is None:
        raise MissingError(files.where(name), 0, "it is missing, though the history goes on in it")
    return data


def before(files: Files, sealed: SegmentRef) -> SegmentRef | None:
    """The segment before this one, whatever state of repair the rest of it is in."""
    summary = read_summary(files, sealed)
    return summary.before if summary else read(files, sealed).state.sealed


def chain(files: Files, state: State) -> Iterator[SegmentRef]:
    """All segments, the newest first. Raises DamagedError where the way cannot be found."""
    sealed = uncut(state.gaps, state.sealed)
    while sealed is not None:
        yield sealed
        sealed = uncut(state.gaps, before(files, sealed))


def uncut(gaps: Mapping[str, SegmentRef | None], sealed: SegmentRef | None) -> SegmentRef | None:
    """`sealed`, or what stands in for it where it was pruned or lost."""
    while sealed is not None and sealed.segment in gaps:
        sealed = gaps[sealed.segment]
    return sealed


class Sound(Struct, frozen=True):
    """A segment that was proven by itself, whoever names it."""

    sealed: SegmentRef
    file: StateFile


def sound(files: Files) -> Iterator[Sound]:
    """All segments that can be read, the one that reaches furthest first."""
    heads = [(last, name) for name in stored(files) if (last := _last(files, name)) is not None]
    for _, name in sorted(heads, reverse=True):
        found = prove(files, name)
        if found is not None:
            yield found


def prove(files: Files, name: str) -> Sound | None:
    """The segment of that name if it is whole, whoever names it."""
    data = files.read(named(name), MAX_FILE)
    if data is None:
        return None
    try:
        file = codec.decode_unnamed(data, files.where(named(name)))
    except DamagedError:
        return None
    sealed = codec.describe(data, file)
    return Sound(sealed, file) if sealed.segment == name and not file.rest else None


def _last(files: Files, name: str) -> int | None:
    """The last serial that the summary of a segment tells of; without one it comes first."""
    head = files.read(named(name), codec.MAX_SUMMARY)
    if head is None:
        return None
    summary = codec.peek(head)
    return summary.last if summary else 1 << 62


def stored(files: Files) -> tuple[str, ...]:
    """Names of all segments that are there."""
    names = (name.removesuffix(".zst") for name in files.names(HISTORY) if name[0] != ".")
    return tuple(sorted(names))


def text(files: Files, name: str) -> bytes:
    """The lines of a segment that is not whole, if they can be decompressed."""
    data = files.read(named(name), MAX_FILE) or b""
    start = data.find(ZSTD_MAGIC)
    try:
        return decompress(memoryview(data)[start:], codec.MAX_LINES) if start >= 0 else b""
    except ValueError:
        return b""
