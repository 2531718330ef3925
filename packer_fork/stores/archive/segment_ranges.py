"""Reading the history backwards: the state file first, then segment by segment.

A writer may replace the newest segment by a larger one meanwhile; then reading goes on
from the state as it is by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from packer_fork.changes import apply_changes
from packer_fork.codec.statefile import StateFile
from packer_fork.model import SegmentRef, State
from packer_fork.stores.archive import history
from packer_fork.stores.archive.files import Files, Reader
from packer_fork.stores.archive.history import MissingError
from packer_fork.stores.base import SegmentContents, SegmentRange


def segment_ranges(
    files: Files, reader: Reader, newest: StateFile | None
) -> Iterator[SegmentRange]:
    """The history that leads to `newest`, what `reader` read. Raises DamagedError where it ends."""
    if newest is None:
        return
    file = newest
    yield SegmentRange(file.first_serial, file.state.serial, "", None, partial(_contents, file))
    below, state = file.first_serial, file.state
    sealed = history.uncut(state.gaps, state.sealed)
    pruned: list[State] = []
    while sealed is not None:
        try:
            summary = history.read_summary(files, sealed)
            older = summary.before if summary else history.read(files, sealed).state.sealed
            first = summary.first if summary else history.read(files, sealed).first_serial
        except MissingError as error:
            state = _moved_on(reader, state, error)
            sealed = history.uncut(state.gaps, state.sealed)
            continue
        last = min(sealed.serial, below)
        if first < last:
            read = partial(_read, files, reader, sealed, first, last, pruned)
            told = summary if last == sealed.serial else None
            yield SegmentRange(first, last, sealed.segment, told, read)
            below = first
        if pruned:  # the range was pruned before it was read
            state, older = pruned[-1], pruned.pop().sealed
        sealed = history.uncut(state.gaps, older)


def _moved_on(reader: Reader, state: State, error: MissingError) -> State:
    """The state by now, if its history is another one. Raises `error` if not."""
    file = reader.read()
    if file is None or (file.state.sealed, file.state.gaps) == (state.sealed, state.gaps):
        raise error
    return file.state


def _read(
    files: Files, reader: Reader, sealed: SegmentRef, first: int, last: int, pruned: list[State]
) -> SegmentContents:
    """Adds to `pruned` the state whose history lacks this range."""
    try:
        return _between(history.read(files, sealed), first, last)
    except MissingError as error:
        before, missing = None, error
    while True:
        file = reader.read()
        if file is None or file.state.sealed == before:
            raise missing
        before = file.state.sealed
        try:
            for each in history.chain(files, file.state):
                if each.serial >= last:
                    found = history.read(files, each)
                    if found.first_serial <= first:
                        return _between(found, first, last)
        except MissingError as error:
            missing = error
        else:
            pruned.append(file.state)
            return SegmentContents(file.state, ())


def _between(file: StateFile, first: int, last: int) -> SegmentContents:
    contents = _contents(file)
    before = [pair for pair in contents.changes if pair[0].serial <= first]
    state = apply_changes(contents.state, before) if before else contents.state
    wanted = (pair for pair in contents.changes if first < pair[0].serial <= last)
    return SegmentContents(state, tuple(wanted))


def _contents(file: StateFile) -> SegmentContents:
    digests = (line.digest for line in file.lines[1:])
    return SegmentContents(file.snapshot, tuple(zip(file.changes, digests, strict=True)))
