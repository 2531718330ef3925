"""A sealed piece of the history: its summary, then a snapshot and the changes after it.

The summary is a sealed line in a skippable frame of zstd (RFC 8878, 3.1.2), which
``zstdcat`` passes over; one frame with the lines follows. A segment is known by the
SHA-256 of its bytes. Segments of format 1 have no summary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from msgspec import Struct

from packer_fork.codec.builds import decode_once
from packer_fork.codec.compression import ZSTD_MAGIC, compress, decompress
from packer_fork.codec.lines import Line, read_summary, seal, unseal
from packer_fork.codec.statefile import StateFile, decode_file
from packer_fork.errors import DamagedError
from packer_fork.malformed import MALFORMED
from packer_fork.model import FORMAT_VERSION, REMOVED, Change, Run, SegmentRef, Summary

MAX_SUMMARY = 1 << 20
"""Bytes of a summary at the most."""

MAX_LINES = 4 << 30
"""Bytes of the lines of a segment, decompressed, at the most."""

_SKIPPABLE = b"\x50\x2a\x4d\x18"
_HEAD = len(_SKIPPABLE) + 4
_MOST_BUILDS = 200
"""Names of builds that a summary lists; with more it does not say."""


class Segment(Struct, frozen=True):
    """A segment as bytes, and what its successor says of it."""

    data: bytes
    sealed: SegmentRef


def encode_segment(
    lines: Sequence[Line], changes: Sequence[Change], first: int, before: SegmentRef | None
) -> Segment:
    """Seal `lines`, a snapshot of serial `first` and those of `changes`, behind `before`."""
    text = b"".join(line.data for line in lines)
    summary = seal(summarise(changes, first=first, size=len(text), before=before))
    frame = _SKIPPABLE + len(summary.data).to_bytes(4, "little") + bytes(summary.data)
    data = frame + compress(text)
    sealed = SegmentRef(
        segment=hashlib.sha256(data).hexdigest(),
        serial=first + len(changes),
        segments=1 + (before.segments if before else 0),
        summary=summary.digest,
    )
    return Segment(data, sealed)


def summarise(
    changes: Sequence[Change], *, first: int, size: int, before: SegmentRef | None
) -> Summary:
    """What `changes`, after a snapshot of serial `first`, tell of."""
    runs = _latest(changes)
    started = {change.run for change in changes if change.operation == "start" and change.run}
    told = {change.run for change in changes if change.run} | runs.keys()
    times = [run.started for number, run in runs.items() if number in started]
    names = {name for change in changes for name in change.builds}
    names |= {name for run in runs.values() for name in (*run.builds, *run.up_to_date)}
    return Summary(
        version=FORMAT_VERSION,
        first=first,
        last=first + len(changes),
        size=size,
        before=before,
        runs=len(started),
        numbers=(min(started), max(started)) if started else None,
        spans=bool(told - started),
        earliest=min(times, default=None),
        latest=max(times, default=None),
        statuses=tuple(sorted(_statuses(changes, runs.values()))),
        builds=tuple(sorted(names))
        if len(names) <= _MOST_BUILDS and sum(map(len, names)) <= 100_000
        else None,
        branches=tuple(sorted({run.git.branch for run in runs.values() if run.git})),
    )


def runs_of(change: Change) -> tuple[Run, ...]:
    """The runs that `change` tells of, as they were then."""
    late = change.late.run if change.late else None
    return tuple(run for run in (change.last_run, late) if run is not None)


def _latest(changes: Iterable[Change]) -> dict[int, Run]:
    return {run.number: run for change in changes for run in runs_of(change)}


def _statuses(changes: Iterable[Change], runs: Iterable[Run]) -> set[str]:
    """Those that runs and builds came to, not those that they went through."""
    last = {(change.run, name): raw for change in changes for name, raw in change.builds.items()}
    builds = (decode_once(raw) for raw in last.values() if raw != REMOVED)
    return {str(run.status) for run in runs} | {str(build.status) for build in builds}


def head_size(data: bytes) -> int:
    """Bytes up to the end of the summary; 0 if there is none."""
    if not data.startswith(_SKIPPABLE):
        return 0
    return _HEAD + int.from_bytes(data[len(_SKIPPABLE) : _HEAD], "little")


def read_head(data: bytes, sealed: SegmentRef, path: str) -> Summary | None:
    """The summary at the beginning of `data`, as `sealed` promises; None if it promises none.

    Raises DamagedError if it is another.
    """
    if not sealed.summary:
        return None
    size = int.from_bytes(data[len(_SKIPPABLE) : _HEAD], "little")
    line = unseal(data[_HEAD : _HEAD + size])
    if not data.startswith(_SKIPPABLE) or line is None or line.digest != sealed.summary:
        raise DamagedError(path, 0, "its summary is not the one that was sealed")
    try:
        return read_summary(line)
    except MALFORMED as error:
        raise DamagedError(path, _HEAD, f"its summary cannot be read ({error})") from error


def has_summary(data: bytes) -> bool:
    """Whether `data` begins as a segment with a summary does, whole or not."""
    return data.startswith(_SKIPPABLE)


def peek(data: bytes) -> Summary | None:
    """The summary at the beginning of `data`, proven by itself alone; None if there is none."""
    if not data.startswith(_SKIPPABLE):
        return None
    size = int.from_bytes(data[len(_SKIPPABLE) : _HEAD], "little")
    line = unseal(data[_HEAD : _HEAD + size])
    try:
        return read_summary(line) if line else None
    except MALFORMED:
        return None


def describe(data: bytes, file: StateFile) -> SegmentRef:
    """What a successor says of the segment `data`, which holds `file`."""
    size = int.from_bytes(data[len(_SKIPPABLE) : _HEAD], "little")
    line = unseal(data[_HEAD : _HEAD + size]) if data.startswith(_SKIPPABLE) else None
    before = file.snapshot.sealed
    return SegmentRef(
        segment=hashlib.sha256(data).hexdigest(),
        serial=file.state.serial,
        segments=1 + (before.segments if before else 0),
        summary=line.digest if line else "",
    )


def decode_segment(data: bytes, sealed: SegmentRef, path: str) -> StateFile:
    """The lines of a segment, proven whole. Raises DamagedError or NewerFormatError."""
    if hashlib.sha256(data).hexdigest() != sealed.segment:
        raise DamagedError(path, 0, "its bytes are not those that it is named for")
    file = decode_unnamed(data, path)
    if file.rest or file.state.serial != sealed.serial:
        raise DamagedError(path, file.end, file.rest or "it ends with another serial")
    return file


def decode_unnamed(data: bytes, path: str) -> StateFile:
    """The lines of a segment as far as they prove themselves, whatever its name."""
    start = 0
    if data.startswith(_SKIPPABLE):
        start = _HEAD + int.from_bytes(data[len(_SKIPPABLE) : _HEAD], "little")
    if data[start : start + len(ZSTD_MAGIC)] != ZSTD_MAGIC:
        raise DamagedError(path, start, "no frame of zstd begins here")
    try:
        text = decompress(memoryview(data)[start:], MAX_LINES)
    except ValueError as error:
        raise DamagedError(path, start, f"it cannot be decompressed: {error}") from error
    return decode_file(text, path)
