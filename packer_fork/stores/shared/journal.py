"""Changing the state: what is new is put first, then one transaction moves the head.

The transaction holds only while the head is the one that was built upon, and while the
token is open: a head that somebody moved is built upon anew, a closed token is final.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from msgspec import structs

from packer_fork.changes import apply_changes
from packer_fork.codec.lines import Line, seal
from packer_fork.codec.statefile import StateFile
from packer_fork.codec.witness import Witness
from packer_fork.errors import LockLostError, StateError, StoreError
from packer_fork.model import FORMAT_VERSION, Actor, Change, PendingChange, State
from packer_fork.stores.archive import backups, history
from packer_fork.stores.archive.files import segment
from packer_fork.stores.archive.next_change import change_of
from packer_fork.stores.archive.segment_ranges import segment_ranges
from packer_fork.stores.base import Committed
from packer_fork.stores.shared import blobs, head, names
from packer_fork.stores.shared.deciding import decide
from packer_fork.stores.shared.files import SharedFiles
from packer_fork.stores.shared.head import Head
from packer_fork.stores.shared.keys import Condition, Delete, Item, Keys, Put, Unchanged
from packer_fork.stores.shared.reader import Seen, SharedReader

REST_SIZE = 1 << 20
"""Bytes of snapshot up to which a state at rest is one snapshot, without changes."""

_ATTEMPTS = 100
"""How often a change is built upon another head before it is given up."""


class Fence(Protocol):
    """What a transaction is held back by once the token is closed."""

    def conditions(self) -> Sequence[Condition]:
        """What must hold in the transaction."""

    def check(self) -> None:
        """Raises LockLostError if the conditions will never hold again."""


class SharedJournal:
    """The state, changed behind one fence; whoever only reads needs but a ``SharedReader``."""

    def __init__(
        self, keys: Keys, start: Callable[[], State], reader: SharedReader, fence: Fence
    ) -> None:
        """`start` makes the empty state where there is none yet."""
        self._keys = keys
        self._start = start
        self._reader = reader
        self._fence = fence
        self._files = SharedFiles(keys, reader)

    def read(self) -> StateFile | None:
        return self._reader.read()

    def marks(self) -> Hashable:
        return self._reader.marks()

    def commit(self, draft: PendingChange, *, token: int, by: Actor) -> Committed:
        """One change, durable when this returns.

        Raises LockLostError, or StoreError if it could not be made durable.
        """
        seen = self._reader.kept or self._begun()
        for _ in range(_ATTEMPTS):
            if token < seen.head.token:
                self._fence.check()  # it knows who closed it
                raise LockLostError(f"HeldLock {seen.head.token} has written after {token}.")
            change = change_of(draft, seen.head.witness, token, by)
            if self._append(seen, change):
                self._compact_if_outgrown()
                return Committed(change.serial)
            self._fence.check()
            seen = self._begun()
        raise StoreError(f"{self._keys.location} never stands still for a commit.")

    def compact(self, *, at_rest: bool = False) -> None:
        """Replace snapshot and changes by one snapshot; the lines go into the history first.

        `at_rest` leaves a state with a large snapshot as it is. Where somebody commits at the
        same time, nothing is done.
        """
        seen = self._begun()
        lines = seen.file.lines
        if len(lines) == 1 or (at_rest and len(lines[0].data) > REST_SIZE):
            return
        pins = backups.pinned(self._files)
        sealed, replaced = history.seal(self._files, seen.file, pins)
        placed = self._snapshot(structs.replace(seen.file.state, sealed=sealed), seen.head.token)
        gone = [Delete(f"{names.FILES}{segment(replaced.segment)}")] if replaced else []
        self._place(placed, seen.item.modified, gone)

    def put(self, state: State) -> None:
        """In the place of one that is missing, or damaged and kept by then.

        Its serial must be beyond every one that was acknowledged.
        """
        item = self._keys.get(names.HEAD)
        if not self._place(self._snapshot(state, state.token), item.modified if item else 0):
            self._fence.check()
            raise StateError(f"{self._keys.location} was changed by somebody else meanwhile.")

    def _append(self, seen: Seen, change: Change) -> bool:
        line = seal(change)
        key = names.change(change.serial, line.digest)
        blobs.write(self._keys, key, line.data, packed=True)
        moved = structs.replace(
            seen.head, serial=change.serial, digest=line.digest, token=change.token
        )
        revision = self._move(moved, seen.item.modified, lambda: self._revision_with(moved.witness))
        if not revision:
            blobs.remove(self._keys, [key])
        elif self._reader.kept is seen:
            # Else it was looked up, or read by another thread: what stands now may be newer.
            self._reader.keep(_grown(seen, moved, revision, line, change))
        return revision > 0

    def _begun(self) -> Seen:
        """The head that is built upon; an empty state is begun where there is none."""
        for _ in range(_ATTEMPTS):
            seen = self._reader.look()
            if seen is not None:
                return seen
            state = self._start()
            if not self._place(self._snapshot(state, state.token), 0):
                self._fence.check()
        raise StoreError(f"{self._keys.location} takes no state.")

    def _snapshot(self, state: State, token: int) -> Head:
        """The head of a state that is one snapshot, which is put there."""
        line = seal(structs.replace(state, version=FORMAT_VERSION))
        placed = Head(
            serial=state.serial,
            digest=state.prev,
            first=state.serial,
            snapshot=line.digest,
            token=token,
        )
        blobs.write(self._keys, placed.snapshot_key, line.data, packed=True)
        return placed

    def _place(self, placed: Head, modified: int, gone: Sequence[Delete] = ()) -> bool:
        """Let the head lead to a snapshot, and remove what no head can lead to any more.

        What is `gone` goes in the same step: later somebody may have put it there again.
        """
        done = self._move(placed, modified, lambda: self._revision_of(placed), gone) > 0
        if done:
            self._collect(placed)
        return done

    def _move(
        self, moved: Head, modified: int, done: Callable[[], int], gone: Sequence[Delete] = ()
    ) -> int:
        conditions = (*self._fence.conditions(), Unchanged(names.HEAD, modified))
        return decide(self._keys, conditions, [Put(names.HEAD, head.encode(moved)), *gone], done)

    def _revision_of(self, placed: Head) -> int:
        item = self._keys.get(names.HEAD)
        return item.modified if item and item.value == head.encode(placed) else 0

    def _revision_with(self, witness: Witness) -> int:
        """The head's, if the state has that change, in its lines or in its history."""
        seen = self._reader.look()
        for stretch in segment_ranges(self._files, self._reader, seen.file if seen else None):
            if stretch.first < witness.serial <= stretch.last:
                found = any(digest == witness.digest for _, digest in stretch.read().changes)
                return seen.item.modified if found and seen else 0
            if stretch.last <= witness.serial:
                break
        return 0

    def _compact_if_outgrown(self) -> None:
        seen = self._reader.kept
        if seen is not None:
            snapshot, *changes = (len(line.data) for line in seen.file.lines)
            if sum(changes) > max(REST_SIZE, snapshot):
                self.compact()

    def _collect(self, placed: Head) -> None:
        """What is older than the snapshot that stands: no head leads to it, none ever will.

        Whoever still wants to move the head to something of it fails, as the head has moved.
        Another snapshot of the same serial stays: whoever had the lock after us may have put
        it there, before we came to this.
        """
        changes, snapshots = (self._keys.names(p) for p in (names.CHANGES, names.SNAPSHOTS))
        old = [key for key in changes if names.serial_of(key) <= placed.first]
        old += [key for key in snapshots if names.serial_of(key) < placed.first]
        blobs.remove(self._keys, old)
        for prefix in (names.CHANGES, names.SNAPSHOTS):
            for key, pieces in blobs.orphans(self._keys, prefix).items():
                if names.serial_of(key) <= placed.first:
                    self._keys.remove(pieces)


def _grown(seen: Seen, moved: Head, revision: int, line: Line, change: Change) -> Seen:
    """What was seen, with one more change, that needs not be fetched."""
    item = Item(names.HEAD, head.encode(moved), seen.item.created, revision)
    file = structs.replace(
        seen.file,
        state=apply_changes(seen.file.state, [(change, line.digest)]),
        lines=(*seen.file.lines, line),
        changes=(*seen.file.changes, change),
        end=seen.file.end + len(line.data),
    )
    return Seen(item, moved, file)
