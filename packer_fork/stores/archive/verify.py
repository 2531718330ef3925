"""Checking every stored byte for damage.

The state file is checked against the high-water mark; each segment against its name, its
summary and the state that follows it; each backup against its name. An unused segment is
reported, and is no damage.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, structs

from packer_fork.codec import segment as segments
from packer_fork.codec.statefile import StateFile
from packer_fork.errors import DamagedError
from packer_fork.model import SegmentRef, State
from packer_fork.responses import Backup, Problem, Verified
from packer_fork.stores.archive import backups, history
from packer_fork.stores.archive.files import ATTEMPTS, BACKUPS, STATE, Files, Reader, segment


class Walked(Struct, frozen=True, kw_only=True):
    """A segment of the history: what it holds, or the problem that keeps it from being read."""

    sealed: SegmentRef
    file: StateFile | None
    problem: Problem | None


def verify(files: Files, reader: Reader) -> Verified:
    """Raises NewerFormatError. Reads again if a writer replaced files meanwhile."""
    for _ in range(ATTEMPTS):
        before = reader.marks()
        found = _verify(files, reader)
        if not found.problems or before == reader.marks():
            break
    return found


def _verify(files: Files, reader: Reader) -> Verified:
    problems: list[Problem] = []
    file = None
    try:
        file = reader.read()
    except DamagedError as error:
        problems.append(_problem(error, "all that is not in the history or in a backup"))
    changes = len(file.changes) if file else 0
    named, oldest, size = set(), file.first_serial if file else None, _size(files, STATE)
    for walked in walk(files, file) if file else _by_name(files):
        named.add(walked.sealed.segment)
        size += _size(files, segment(walked.sealed.segment))
        if walked.problem:
            problems.append(walked.problem)
        if walked.file:
            changes += len(walked.file.changes)
            first = walked.file.first_serial
            oldest = first if oldest is None else min(oldest, first)
    kept = backups.found(files)
    problems += [found for each in kept if (found := _of_backup(files, each))]
    pins = backups.pinned(files)
    problems += [
        Problem(
            file=files.where(segment(name)),
            offset=0,
            what="it is not the segment that it is named for",
            affected="the history of a backup",
        )
        for name in history.stored(files)
        if file
        and name not in named
        and history.is_pinned(name, pins)
        and history.prove(files, name) is None
    ]
    return Verified(
        location=files.location,
        bytes=size + sum(each.size for each in kept),
        serial=file.state.serial if file else None,
        oldest=oldest,
        changes=changes,
        segments=len(named),
        backups=len(kept),
        unused=tuple(
            files.where(segment(name))
            for name in history.stored(files)
            if file and name not in named and not history.is_pinned(name, pins)
        ),
        problems=tuple(problems),
    )


def walk(files: Files, newest: StateFile) -> Iterator[Walked]:
    """Every segment before `newest`, the newest first, until the way back is lost."""
    state = newest.state
    after: StateFile | None = newest
    sealed = history.uncut(state.gaps, state.sealed)
    while sealed is not None:
        file, problem = None, None
        try:
            file = history.read(files, sealed)
            problem = _of_segment(files, sealed, file, after)
        except DamagedError as error:
            problem = _problem(error, _serials(files, sealed))
        yield Walked(sealed=sealed, file=file, problem=problem)
        older = _before(files, sealed, file)
        after = file
        sealed = history.uncut(state.gaps, older)


def _by_name(files: Files) -> Iterator[Walked]:
    """Every segment that is there, where no state says which of them count."""
    for name in history.stored(files):
        each = history.prove(files, name)
        problem = Problem(
            file=files.where(segment(name)),
            offset=0,
            what="it is not the segment that it is named for",
            affected="the history in it",
        )
        yield Walked(
            sealed=each.sealed if each else SegmentRef(segment=name, serial=0, segments=0),
            file=each.file if each else None,
            problem=None if each else problem,
        )


def _of_segment(
    files: Files, sealed: SegmentRef, file: StateFile, after: StateFile | None
) -> Problem | None:
    """Whether a segment that reads well says what its summary and its successor say."""
    path = files.where(segment(sealed.segment))

    def wrong(what: str) -> Problem:
        affected = f"serials {file.first_serial} to {file.state.serial}"
        return Problem(file=path, offset=0, what=what, affected=affected)

    summary = history.read_summary(files, sealed)
    size = sum(len(line.data) for line in file.lines)
    if summary is not None and summary != segments.summarise(
        file.changes, first=file.first_serial, size=size, before=file.snapshot.sealed
    ):
        return wrong("its summary does not say what is in it")
    if after is not None and not _is_followed(file, after):
        return wrong("the state that follows it is not the one that it leads to")
    return None


def _is_followed(file: StateFile, after: StateFile) -> bool:
    """Whether `after` begins with `state`, or behind a gap that a repair left."""
    state = file.state
    if state.serial != after.first_serial:
        return state.serial < after.first_serial
    same = _without_links(state) == _without_links(after.snapshot)
    return same and (file.version == 1 or state.prev in after.first_links)


def _without_links(state: State) -> State:
    return structs.replace(state, sealed=None, version=0, prev="", gaps={})


def _before(files: Files, sealed: SegmentRef, file: StateFile | None) -> SegmentRef | None:
    if file is not None:
        return file.snapshot.sealed
    try:
        return history.before(files, sealed)
    except DamagedError:
        return None


def _serials(files: Files, sealed: SegmentRef) -> str:
    try:
        summary = history.read_summary(files, sealed)
    except DamagedError:
        return f"serials up to {sealed.serial}, and all before them"
    return f"serials {summary.first} to {summary.last}" if summary else ""


def _of_backup(files: Files, backup: Backup) -> Problem | None:
    lost, name = "this backup; nothing else", backups.name_of(backup)
    try:
        file = backups.read(files, name)
    except DamagedError as error:
        is_gone = files.size(f"{BACKUPS}/{name}") is None  # another took its place
        return None if is_gone else _problem(error, lost)
    short = file.state.serial != backup.serial
    what = file.rest or ("it ends before the serial in its name" if short else "")
    return Problem(file=backup.path, offset=file.end, what=what, affected=lost) if what else None


def _problem(error: DamagedError, affected: str) -> Problem:
    return Problem(
        file=error.path, offset=error.offset, what=error.what, affected=error.lost or affected
    )


def _size(files: Files, name: str) -> int:
    return files.size(name) or 0
