"""state.json: changed by appending one line under the mutex.

A tail that is not whole belongs to nothing acknowledged: readers ignore it, the next
writer replaces the file. An inode that gave an error, or whose end is not the end that
was acknowledged, is never appended to: its proven lines go into a new one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from msgspec import structs

from packer_fork import durable
from packer_fork.changes import apply_changes
from packer_fork.codec.lines import Line, seal
from packer_fork.codec.statefile import StateFile
from packer_fork.codec.witness import WITNESS_SIZE, Witness, encode_witness
from packer_fork.disk_reserve import DiskReserve
from packer_fork.errors import StateError
from packer_fork.model import FORMAT_VERSION, Actor, Change, PendingChange, State
from packer_fork.stores.archive import backups, history
from packer_fork.stores.archive.next_change import change_of, last_of
from packer_fork.stores.base import Committed
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.reader import Identity, Reader

REST_SIZE = 1 << 20
"""Bytes of snapshot up to which a state at rest is one plain document."""

COMPRESSED_SIZE = 10 * 1000 * 1000
"""Bytes of snapshot above which a state file is compressed."""


class Journal:
    """Everything here only under the mutex; whoever only reads needs but a ``Reader``."""

    def __init__(self, layout: Layout, start: Callable[[], State], reader: Reader) -> None:
        """`start` makes the empty state where there is none yet."""
        self._layout = layout
        self._start = start
        self._reader = reader
        self._open: _OpenFile | None = None

    def commit(self, draft: PendingChange, *, token: int, by: Actor) -> Committed:
        """One change, durable when this returns. Raises OSError if it could not be made so."""
        file = self._writable()
        if token < file.token:
            raise StateError(f"HeldLock {token} is older than {file.token}, which has written.")
        change = change_of(draft, file.last, token, by)
        line = seal(change)
        last = Witness(change.serial, line.digest)
        try:
            file.append(line, change)
        except OSError:
            self._replace((*file.lines, line), compressed=file.compressed)
        self._acknowledge(last)
        if file.has_outgrown():
            with contextlib.suppress(OSError):  # the change is durable; a later one compacts
                self.compact()
        return Committed(change.serial)

    def compact(self, *, at_rest: bool = False) -> None:
        """Replace snapshot and changes by one snapshot; the lines go into the history first.

        `at_rest` leaves a state with a large snapshot as it is.
        """
        file = self._writable()
        if len(file.lines) == 1 or (at_rest and len(file.lines[0].data) > REST_SIZE):
            return
        self._seal_away(file.as_file())

    def put(self, state: State) -> None:
        """Put `state` in the place of one that is missing or damaged, which was kept by then.

        Its serial must be beyond every one that was acknowledged.
        """
        self._replace_by_snapshot(state)
        durable.replace(self._layout.acked, encode_witness(last_of(state)))

    def reserve(self) -> bool:
        """Reserve disk space for changes; False if the disk is full. Needs no mutex."""
        return self._open is None or self._open.reserve.top_up()

    def release_reserve(self) -> None:
        if self._open is not None and self._open.is_current(self._layout):
            self._open.reserve.release()

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def read(self) -> StateFile | None:
        """What is proven now. Raises DamagedError."""
        if self._open is not None and self._open.is_current(self._layout):
            return self._open.as_file()
        return self._reader.read()

    def marks(self) -> tuple[bytes | None, Identity | None]:
        return self._reader.marks()

    def _writable(self) -> _OpenFile:
        """The current file, opened for appending, everything in it acknowledged."""
        if self._open is not None and self._open.is_current(self._layout):
            return self._open
        self.close()
        file = self._reader.read()
        if file is None:
            self._begin()
        elif not file.is_present:
            self._migrate(file)
        elif file.rest or not self._is_acknowledged(file.state):
            self._replace(file.lines, compressed=file.compressed)
            self._acknowledge(last_of(file.state))
        self._open = _OpenFile(self._layout, self._reader)
        return self._open

    def _begin(self) -> None:
        first = self._start()
        durable.replace(self._layout.acked, encode_witness(last_of(first)))
        self._replace_by_snapshot(first)

    def _migrate(self, file: StateFile) -> None:
        """A file of an older format is kept as it is in a backup, and in the history."""
        backups.write(self._layout, file, f"format-{file.version}")
        if file.canonical:
            self._seal_away(file)
        else:
            self._replace_by_snapshot(file.state)
        self._acknowledge(last_of(file.state))

    def _is_acknowledged(self, state: State) -> bool:
        """Whether the last acknowledged change is the last one."""
        witness = durable.read(self._layout.acked, WITNESS_SIZE + 1)
        return witness == encode_witness(last_of(state))

    def _seal_away(self, file: StateFile) -> None:
        sealed, replaced = history.seal(self._layout, file, backups.pinned(self._layout))
        self._replace_by_snapshot(structs.replace(file.state, sealed=sealed))
        if replaced is not None:
            self._layout.segment(replaced.segment).unlink(missing_ok=True)

    def _replace_by_snapshot(self, state: State) -> None:
        snapshot = seal(structs.replace(state, version=FORMAT_VERSION))
        self._replace((snapshot,), compressed=len(snapshot.data) > COMPRESSED_SIZE)

    def _replace(self, lines: tuple[Line, ...], *, compressed: bool) -> None:
        self.close()
        durable.replace(self._layout.state, backups.as_lines(lines, compressed=compressed))

    def _acknowledge(self, last: Witness) -> None:
        data = encode_witness(last)
        try:
            durable.overwrite(self._layout.acked, data)
        except OSError:
            self.close()
            durable.replace(self._layout.acked, data)


class _OpenFile:
    """A state file that is open for appending, with what is proven to be in it."""

    def __init__(self, layout: Layout, reader: Reader) -> None:
        file = reader.read()
        if file is None or not file.is_present or file.rest:
            raise StateError(f"{layout.state} was changed by something else while it was written.")
        self._descriptor = os.open(layout.state, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self.reserve = DiskReserve(self._descriptor)
        status = os.fstat(self._descriptor)
        self._inode = (status.st_dev, status.st_ino)
        self._size = file.end
        self._file = file
        self._outgrown = max(REST_SIZE, len(file.lines[0].data))
        self._added = sum(len(line.data) for line in file.lines[1:])
        self.last = last_of(file.state)
        self.lines = list(file.lines)
        self.changes = list(file.changes)
        self.compressed = file.compressed

    def is_current(self, layout: Layout) -> bool:
        """Whether the path still names this inode, and nobody else has written since."""
        try:
            now = layout.state.stat()
        except FileNotFoundError:
            return False
        if (now.st_dev, now.st_ino) != self._inode or now.st_size != self._size:
            return False
        witness = durable.read(layout.acked, WITNESS_SIZE + 1)
        return witness == encode_witness(self.last)

    def as_file(self) -> StateFile:
        """With what was appended; only then a new state is made of it."""
        known = len(self._file.changes)
        if known < len(self.changes):
            digests = (line.digest for line in self.lines[1 + known :])
            more = zip(self.changes[known:], digests, strict=True)
            self._file = structs.replace(
                self._file,
                state=apply_changes(self._file.state, more),
                lines=tuple(self.lines),
                changes=tuple(self.changes),
                end=self._size,
            )
        return self._file

    @property
    def token(self) -> int:
        """The one that wrote last."""
        return self.changes[-1].token if self.changes else self._file.snapshot.token

    def append(self, line: Line, change: Change) -> None:
        data = backups.as_lines([line], compressed=self.compressed)
        durable.append(self._descriptor, data)
        self.lines.append(line)
        self.changes.append(change)
        self.last = Witness(change.serial, line.digest)
        self._size += len(data)
        self._added += len(line.data)

    def has_outgrown(self) -> bool:
        return self._added > self._outgrown

    def close(self) -> None:
        os.close(self._descriptor)
