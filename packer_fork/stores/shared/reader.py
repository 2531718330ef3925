"""Reading the state: the head, then what it names. No lock is needed for it.

What a head names goes only once another head stands: whoever misses a piece looks at
the head again, and takes it for damage only if that is still the same.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from packer_fork.codec import statefile
from packer_fork.codec.lines import read_change, unseal
from packer_fork.codec.statefile import StateFile
from packer_fork.codec.witness import Witness
from packer_fork.errors import DamagedError
from packer_fork.malformed import MALFORMED
from packer_fork.stores.shared import blobs, head, names
from packer_fork.stores.shared.head import Head
from packer_fork.stores.shared.high_water import HighWaterMark
from packer_fork.stores.shared.keys import Item, Keys

_ATTEMPTS = 20


class Seen(NamedTuple):
    """A head as it was read, and the state that it leads to."""

    item: Item
    head: Head
    file: StateFile


class SharedReader:
    """Safe for threads: what is kept is replaced in one step."""

    def __init__(self, keys: Keys, mark: HighWaterMark) -> None:
        self._keys = keys
        self.mark = mark
        self.kept: Seen | None = None

    def read(self) -> StateFile | None:
        seen = self.look()
        return seen.file if seen else None

    def marks(self) -> Hashable:
        item = self._keys.get(names.HEAD)
        return item.modified if item else 0

    def look(self) -> Seen | None:
        """What is proven, or None where no state was ever written. Raises DamagedError."""
        for _ in range(_ATTEMPTS):
            mark = self.mark.read()  # before the head, which another process may move meanwhile
            item, kept = self._keys.get(names.HEAD), self.kept
            if item is None:
                if not self._keys.names(names.CHANGES):
                    self._refuse_lost_state(mark)
                    return None
                if self._keys.get(names.HEAD):
                    continue  # somebody began it, and committed, in between
                what = "it is missing, though changes were committed"
                raise DamagedError(self.where(names.HEAD), 0, what)
            if kept is not None and kept.item == item:
                return kept
            try:
                found = self._follow(item)
                self._refuse_older_copy(found, mark)
                return self.keep(found)
            except DamagedError:
                if self.marks() == item.modified:
                    raise
        raise DamagedError(self.where(names.HEAD), 0, "it never stands still for a reader")

    def keep(self, seen: Seen) -> Seen:
        """What a writer has put there needs not be fetched again."""
        self.kept = seen
        self.mark.lift(seen.head.witness)
        return seen

    def _refuse_lost_state(self, mark: Witness | None) -> None:
        if mark is not None and mark.serial:
            what = f"it is missing, though serial {mark.serial} was acknowledged"
            lost = f"if it was removed on purpose, remove {self.mark.path} on this machine"
            raise DamagedError(self.where(names.HEAD), 0, what, lost=lost)

    def _refuse_older_copy(self, seen: Seen, mark: Witness | None) -> None:
        if mark is None or seen.file.reaches(mark):
            return
        what = f"the server went back in time: it does not have serial {mark.serial} of this state"
        lost = f"serials after {seen.head.serial} up to {mark.serial} are lost"
        if mark.serial <= seen.head.serial:
            lost = f"another change has serial {mark.serial} there"
        raise DamagedError(self.where(names.HEAD), 0, what, lost=lost)

    def where(self, key: str) -> str:
        """A key for messages."""
        return f"{self._keys.location}/{key}"

    def stored(self) -> bytes | None:
        """Every line that is there, also what no head leads to; None if there is nothing."""
        found = [
            blobs.unpack(self._keys, item.key, item.value, statefile.MAX_SIZE)
            for prefix in (names.SNAPSHOTS, names.CHANGES)
            for item in self._keys.items(prefix)
        ]
        return b"".join(found) if found or self._keys.get(names.HEAD) else None

    def _follow(self, item: Item) -> Seen:
        found = head.decode(item, self.where(names.HEAD))
        lines = self._lines_after(found) or self._lines(found)
        file = statefile.decode_file(b"".join(lines), self.where(found.snapshot_key))
        if file.rest or not file.reaches(found.witness) or file.state.serial != found.serial:
            what = file.rest or "the changes do not lead to what was acknowledged"
            lost = f"serials after {file.state.serial} up to {found.serial} are lost"
            raise DamagedError(self.where(found.snapshot_key), file.end, what, lost=lost)
        return Seen(item, found, file)

    def _lines(self, found: Head) -> list[bytes]:
        snapshot = blobs.read(self._keys, found.snapshot_key, statefile.MAX_SIZE)
        if snapshot is None:
            raise DamagedError(self.where(found.snapshot_key), 0, "the snapshot is missing")
        return [snapshot, *self._links(found, found.first)[0]]

    def _lines_after(self, found: Head) -> list[bytes] | None:
        """With those that were read already; None if the head does not go on from there."""
        kept = self.kept
        if kept is None or kept.head.snapshot_key != found.snapshot_key:
            return None
        if found.serial < kept.head.serial:
            return None
        more, before = self._links(found, kept.head.serial)
        if before != kept.head.digest:
            return None
        return [*(bytes(line.data) for line in kept.file.lines), *more]

    def _links(self, found: Head, first: int) -> tuple[list[bytes], str]:
        """The changes after serial `first` up to the head's, and the digest that they follow.

        The way goes backwards, as each names the one before it: a commit that failed may
        have left a change of the same serial, which nothing names.
        """
        start = names.change(first + 1)
        stored = {item.key: item.value for item in self._keys.items(names.CHANGES, start=start)}
        way: list[bytes] = []
        digest = found.digest
        for serial in range(found.serial, first, -1):
            key = names.change(serial, digest)
            lost = f"serials {first + 1} up to {serial} are lost"
            if key not in stored:
                raise DamagedError(self.where(key), 0, "a change is missing", lost=lost)
            data = blobs.unpack(self._keys, key, stored[key], statefile.MAX_SIZE)
            try:
                line = unseal(data)
                digest = read_change(line).prev if line else ""
            except MALFORMED:
                digest = ""
            if not digest:
                what = "a change that does not carry its own digest"
                raise DamagedError(self.where(key), 0, what, lost=lost)
            way.append(data)
        way.reverse()
        return way, digest
