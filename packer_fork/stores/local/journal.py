"""state.json: read without a lock, changed by appending one line under the mutex.

Reading takes the witness first and then one open of the state, so it sees whatever
was acknowledged before it began. A tail that is not whole belongs to nothing
acknowledged: readers ignore it, the next writer replaces the file. An inode that
gave an error, or whose end is not the end that was acknowledged, is never appended
to: its proven lines go into a new one.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import structs

from packer_fork import codec, durable
from packer_fork.codec import Line, StateFile, Witness
from packer_fork.errors import DamagedError, StateError
from packer_fork.model import REMOVED, Actor, Change, Draft, Sealed, State, apply_changes
from packer_fork.stores.local.layout import Layout

REST_SIZE = 1 << 20
"""Bytes of snapshot up to which a state at rest is one plain document."""

COMPRESSED_SIZE = 10 * 1000 * 1000
"""Bytes of snapshot above which a state file is compressed."""

MAX_STATE_SIZE = 4 << 30
"""Bytes of a state file that are read at the most."""

_ATTEMPTS = 8


class Journal:
    """Reads for anybody at any time; `commit` and `compact` only under the mutex."""

    def __init__(self, layout: Layout, start: Callable[[], State]) -> None:
        """`start` makes the empty state where there is none yet."""
        self._layout = layout
        self._start = start
        self._open: _OpenFile | None = None

    def read(self) -> StateFile | None:
        """What is proven, or None where no state was ever written.

        Raises DamagedError once two reads in a row agree on the damage.
        """
        seen: tuple[bytes | None, bytes | None] | None = None
        for attempt in range(_ATTEMPTS):
            witness = durable.read(self._layout.acked, 4096)
            data = durable.read(self._layout.state, MAX_STATE_SIZE)
            try:
                return _judge(witness, data, self._layout)
            except StateError:
                now = (witness, data and hashlib.sha256(data).digest())
                if now == seen or attempt == _ATTEMPTS - 1:
                    raise
                seen = now
            time.sleep(0.001)
        raise AssertionError

    def commit(self, draft: Draft, *, tenure: int, by: Actor) -> State:
        """One change, durable when this returns. Raises OSError if it could not be made so."""
        file = self._writable()
        change = _change(draft, file, tenure, by)
        line = codec.seal(change)
        state = apply_changes(file.state, [(change, line.digest)])
        try:
            file.append(line, state)
        except OSError:
            self._replace((*file.lines, line), compressed=file.compressed)
        self._acknowledge(Witness(state.serial, line.digest))
        if file.has_outgrown():
            self.compact()
        return state

    def compact(self, *, at_rest: bool = False) -> None:
        """Replace snapshot and changes by one snapshot; the lines go into the history first.

        `at_rest` leaves a state with a large snapshot as it is.
        """
        file = self._writable()
        if len(file.lines) == 1 or (at_rest and len(file.lines[0].data) > REST_SIZE):
            return
        prev = file.lines[-1].digest
        sealed = self._seal(file)
        snapshot = codec.seal(structs.replace(file.state, prev=prev, sealed=sealed))
        self._replace((snapshot,), compressed=len(snapshot.data) > COMPRESSED_SIZE)
        self._acknowledge(Witness(file.state.serial, snapshot.digest))

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _writable(self) -> _OpenFile:
        """The current file, opened for appending, everything in it acknowledged."""
        if self._open is not None and self._open.is_current(self._layout):
            return self._open
        self.close()
        file = self.read()
        if file is None:
            durable.replace(self._layout.acked, codec.encode_witness(Witness(0, "")))
            first = codec.seal(self._start())
            self._replace((first,), compressed=False)
            self._acknowledge(Witness(0, first.digest))
        elif not self._is_clean(file):
            lines = file.lines if file.canonical else (codec.seal(file.state),)
            self._replace(lines, compressed=file.compressed)
            self._acknowledge(Witness(file.state.serial, lines[-1].digest))
        self._open = _OpenFile(self._layout)
        return self._open

    def _is_clean(self, file: StateFile) -> bool:
        """Whether the file ends where the last acknowledged change ends."""
        witness = durable.read(self._layout.acked, codec.WITNESS_SIZE + 1)
        here = codec.encode_witness(Witness(file.state.serial, file.digest))
        return file.canonical and not file.rest and witness == here

    def _replace(self, lines: tuple[Line, ...], *, compressed: bool) -> None:
        self.close()
        data = b"".join(codec.compress(line.data) if compressed else line.data for line in lines)
        durable.replace(self._layout.state, data)

    def _acknowledge(self, witness: Witness) -> None:
        data = codec.encode_witness(witness)
        try:
            durable.overwrite(self._layout.acked, data)
        except OSError:
            self.close()
            durable.replace(self._layout.acked, data)

    def _seal(self, file: _OpenFile) -> Sealed:
        data = codec.compress(b"".join(line.data for line in file.lines))
        name = hashlib.sha256(data).hexdigest()
        durable.make_folder(self._layout.history)
        durable.replace(self._layout.history / f"{name}.zst", data)
        before = file.state.sealed
        return Sealed(
            segment=name, serial=file.state.serial, segments=1 + (before.segments if before else 0)
        )


class _OpenFile:
    """A state file that is open for appending, with what is proven to be in it."""

    def __init__(self, layout: Layout) -> None:
        self._descriptor = os.open(layout.state, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        status = os.fstat(self._descriptor)
        with open(self._descriptor, "rb", closefd=False) as stream:
            data = stream.read()
        file = codec.decode_file(data, str(layout.state))
        self._inode = (status.st_dev, status.st_ino)
        self._size = file.end
        self.state = file.state
        self.lines = list(file.lines)
        self.compressed = file.compressed

    def is_current(self, layout: Layout) -> bool:
        """Whether the path still names this inode, and nobody else has written since."""
        try:
            now = layout.state.stat()
        except FileNotFoundError:
            return False
        if (now.st_dev, now.st_ino) != self._inode or now.st_size != self._size:
            return False
        witness = durable.read(layout.acked, codec.WITNESS_SIZE + 1)
        return witness == codec.encode_witness(Witness(self.state.serial, self.lines[-1].digest))

    def append(self, line: Line, state: State) -> None:
        data = codec.compress(line.data) if self.compressed else line.data
        durable.append(self._descriptor, data)
        self.lines.append(line)
        self.state = state
        self._size += len(data)

    def has_outgrown(self) -> bool:
        changes = sum(len(line.data) for line in self.lines[1:])
        return changes > max(REST_SIZE, len(self.lines[0].data))

    def close(self) -> None:
        os.close(self._descriptor)


def _change(draft: Draft, file: _OpenFile, tenure: int, by: Actor) -> Change:
    return Change(
        serial=file.state.serial + 1,
        id=uuid.uuid4().hex,
        at=datetime.now(UTC),
        tenure=tenure,
        by=by,
        operation=draft.operation,
        why=draft.why,
        run=draft.last_run.number if draft.last_run else None,
        log_offset=draft.last_run.log_offset if draft.last_run else None,
        builds={
            name: REMOVED if build is None else codec.encode_build(build)
            for name, build in draft.builds.items()
        },
        inputs={name: REMOVED if raw is None else raw for name, raw in draft.inputs.items()},
        last_run=draft.last_run,
        late=draft.late,
        prev=file.lines[-1].digest,
    )


def _judge(witness_data: bytes | None, data: bytes | None, layout: Layout) -> StateFile | None:
    """What the two files prove together; raises DamagedError where they contradict."""
    witness = codec.decode_witness(witness_data) if witness_data is not None else None
    if witness_data is not None and witness is None:
        raise DamagedError(str(layout.acked), 0, "the witness of the last change is unreadable")
    if data is None:
        if witness is None or witness.serial == 0:
            return None
        what = f"it is missing, though serial {witness.serial} was acknowledged"
        raise DamagedError(str(layout.state), 0, what)
    file = codec.decode_file(data, str(layout.state))
    if witness is None and file.rest:
        raise DamagedError(str(layout.state), file.end, file.rest, lost="no witness tells more")
    if witness is not None and not file.reaches(witness):
        what = file.rest or "its end is not the one that was acknowledged"
        lost = f"serials after {file.state.serial} up to {witness.serial} are lost"
        if witness.serial <= file.state.serial:
            lost = f"serial {witness.serial} is not the one that was acknowledged"
        raise DamagedError(str(layout.state), file.end, what, lost=lost)
    return file
