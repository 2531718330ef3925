"""Repair of a damaged state, and putting a whole state where there is no sound one.

Under the mutex only. Present files are copied among the backups first, damaged or not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from msgspec import structs

from packer_fork.codec.lines import seal
from packer_fork.codec.segment import encode_segment
from packer_fork.codec.witness import decode_witness
from packer_fork.errors import DamagedError, StateError
from packer_fork.model import PendingChange, SegmentRef, State
from packer_fork.responses import Problem
from packer_fork.stores.archive import backups, history, recoverable
from packer_fork.stores.archive.files import (
    ACKED,
    BACKUPS,
    MAX_ACKED,
    STATE,
    Files,
    Journal,
    segment,
)
from packer_fork.stores.base import Committed

Commit = Callable[[PendingChange], Committed]


def put(files: Files, journal: Journal, state: State) -> State:
    """Returns `state` as it is stored; present files are kept in a folder of the backups."""
    if _is_in_use(files):
        backups.set_aside(files, (STATE, ACKED))
    with contextlib.suppress(DamagedError):
        journal.read()  # raises NewerFormatError: a newer state is never replaced
    gaps, _ = recoverable.mend(files, state)
    placed = _beyond_witness(files, structs.replace(state, gaps=gaps))
    journal.put(placed)
    return placed


def _beyond_witness(files: Files, state: State) -> State:
    """`state` with a serial beyond every acknowledged one."""
    witness = decode_witness(files.read(ACKED, MAX_ACKED) or b"")
    last = recoverable.furthest(files) if _is_in_use(files) and witness is None else None
    serial, digest = (last.serial, last.prev) if last else witness or (0, "")
    if serial < state.serial or digest == state.prev:
        return state
    return structs.replace(state, serial=serial + 1)


def _is_in_use(files: Files) -> bool:
    return files.size(STATE) is not None or files.size(ACKED) is not None


def repair(files: Files, journal: Journal, commit: Commit) -> Committed:
    """Raises StateError if nothing is recoverable."""
    found = recoverable.find(files, journal)
    if found.state is None or found.trail is None:
        raise StateError(
            f"nothing in {files.location} is recoverable",
            hint="restore a backup: packer-fork state restore FILE",
        )
    broken = (*_damaged_backups(files), *_damaged_segments(files, found.problems))
    aside = backups.set_aside(files, (STATE, ACKED, *broken))
    why = f"lost: {'; '.join(found.lost) or 'nothing'}; damaged files are in {aside}"
    if not _is_sound(journal):
        sealed = _seal_tail(files, found.trail)
        journal.put(_beyond_witness(files, structs.replace(found.state, sealed=sealed)))
    committed = commit(PendingChange(operation="repair", why=why, gaps=found.state.gaps))
    for name in broken:
        files.remove(name)
    return committed


def _is_sound(journal: Journal) -> bool:
    try:
        return journal.read() is not None
    except DamagedError:
        return False


def _damaged_backups(files: Files) -> Iterator[str]:
    for backup in backups.found(files):
        name = backups.name_of(backup)
        try:
            if not backups.read(files, name).rest:
                continue
        except DamagedError:
            pass
        yield f"{BACKUPS}/{name}"


def _damaged_segments(files: Files, problems: Iterable[Problem]) -> Iterator[str]:
    told = {problem.file for problem in problems}
    for name in history.stored(files):
        if files.where(segment(name)) in told or history.prove(files, name) is None:
            yield segment(name)


def _seal_tail(files: Files, trail: recoverable.Trail) -> SegmentRef | None:
    """Put recovered changes that are in no segment into one."""
    if not trail.links:
        return trail.start.sealed
    lines = (seal(trail.start), *(link.line for link in trail.links))
    changes = tuple(link.change for link in trail.links)
    made = encode_segment(lines, changes, trail.start.serial, trail.start.sealed)
    return history.put(files, made.data)


def discard_unused(files: Files, journal: Journal) -> tuple[str, ...]:
    """Remove segments that nothing names. Raises DamagedError where the history is cut off."""
    file = journal.read()
    used = {sealed.segment for sealed in history.chain(files, file.state)} if file else set()
    pins = backups.pinned(files)
    unused = [
        name
        for name in history.stored(files)
        if name not in used and not history.is_pinned(name, pins)
    ]
    for name in unused:
        files.remove(segment(name))
    return tuple(unused)
