"""A store's history for one reader of all of it, that notes what changes tell besides runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from msgspec import structs

from packer_fork.model import Change
from packer_fork.stores.base import SegmentContents, SegmentRange, Store


class Watched:
    """``taken_over``: tenures that found the lock abandoned; ``unlocked``: by whom, and why: one
    unlocking may be several changes, one for each run that it interrupts. ``skips``: the changes
    of builds that found nothing to do, the newest stretch of the history first.
    """

    def __init__(self, store: Store) -> None:
        self.taken_over: set[int] = set()
        self.unlocked: set[tuple[int, str]] = set()
        self.refused = 0
        self.skips: list[Change] = []
        self._store = store

    def history(self) -> Iterator[SegmentRange]:
        """Without summaries: nothing is to be passed by."""
        for stretch in self._store.history():
            yield structs.replace(stretch, summary=None, read=partial(self._read, stretch))

    def _read(self, stretch: SegmentRange) -> SegmentContents:
        passage = stretch.read()
        for change, _ in passage.changes:
            if change.operation == "take-over":
                self.taken_over.add(change.tenure)
            elif change.operation == "force-unlock":
                self.unlocked.add((change.tenure, change.why))
            elif change.operation == "refused":
                self.refused += 1
            elif change.skip is not None:
                self.skips.append(change)
        return passage
