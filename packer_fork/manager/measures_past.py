"""Counting what the history tells: locks, runs, builds, and what was not built again.

Counters that are made anew each time may only ever grow as the history does: so what is
counted of a run never depends on what comes after it.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from math import fsum
from typing import cast

from packer_fork.answers import RunEntry
from packer_fork.codec.builds import decode_once
from packer_fork.manager import skips
from packer_fork.manager.state.history import RunFilter as Wanted
from packer_fork.manager.state.history import runs
from packer_fork.manager.watched import Watched
from packer_fork.metrics.measures import Past
from packer_fork.model import BuildStatus, Change, RunStatus, State
from packer_fork.stores.base import Store
from packer_fork.terminal import clean


def of(store: Store, state: State | None) -> Past:
    """All that is on record. Raises DamagedError, NewerFormatError, StoreError."""
    start = time.perf_counter()
    kept = map(decode_once, state.builds.values()) if state else ()
    watched, tally = Watched(store), _Tally(skips.known_of(kept))
    # The runs of one tenure follow each other: no older tenure commits once a newer one has.
    found = runs(cast("Store", watched), Wanted())
    for _, entries in groupby(found, key=lambda entry: entry.run.tenure):
        tally.add(tuple(entries))
    for change in watched.skips:
        tally.add_skip(change)
    return Past(
        taken=tally.taken(watched.taken_over),
        waited=tuple(tally.waited.values()),
        held=tuple(tally.held.values()),
        abandoned=len(watched.taken_over),
        unlocked=len(watched.unlocked),
        refused=watched.refused,
        commits=tally.commits,
        committing=fsum(tally.committing),
        runs=tally.runs,
        run_took=tally.run_took,
        builds=tally.builds,
        took=tally.took,
        saved=tally.saved(),
        reading=time.perf_counter() - start,
    )


class _Tally:
    """Adds the tenures up, each with all of its runs, the newest first."""

    def __init__(self, known: skips.Known) -> None:
        self.waited: dict[int, float] = {}
        self.held: dict[int, float] = {}
        self.runs: Counter[RunStatus] = Counter()
        self.run_took: list[float] = []
        self.builds: Counter[tuple[str, BuildStatus]] = Counter()
        self.took: defaultdict[tuple[str, BuildStatus], list[float]] = defaultdict(list)
        self.commits = 0
        self.committing: list[float] = []
        self._known = known
        self._skipped: list[skips.Skipped] = []

    def add(self, entries: Sequence[RunEntry]) -> None:
        """Each run tells the wait of its tenure, and how long that held the lock so far."""
        first = entries[-1].run
        self.waited[first.tenure] = max(0.0, first.waited)
        if held := max(entry.run.held for entry in entries):
            self.held[first.tenure] = held
        self._skipped += skips.of_tenure(entries)
        for entry in entries:
            self._add_run(entry)

    def add_skip(self, change: Change) -> None:
        """A tenure that came to no run."""
        if change.skip is not None:
            self.waited[change.tenure] = max(0.0, change.skip.waited)
            self.held[change.tenure] = change.skip.held
            self._skipped += skips.of_nothing_to_do(change.skip)

    def _add_run(self, entry: RunEntry) -> None:
        run = entry.run
        self.commits += run.commits
        self.committing.append(run.committing)
        if run.status is not RunStatus.RUNNING:
            self.runs[run.status] += 1
            if (took := skips.seconds(run.started, run.ended)) is not None:
                self.run_took.append(took)
        for build in entry.builds:
            if build.status.is_final:
                key = (clean(build.name), build.status)
                self.builds[key] += 1
                if (took := skips.seconds(build.started, build.ended)) is not None:
                    self.took[key].append(took)
                    if build.status is BuildStatus.COMPLETE:
                        self._known[build.name][run.number] = took

    def taken(self, taken_over: set[int]) -> Counter[str]:
        """How the tenures came by the lock."""
        return Counter(
            "taken_over" if tenure in taken_over else "waited" if waited else "at_once"
            for tenure, waited in self.waited.items()
        )

    def saved(self) -> Mapping[str, Sequence[float]]:
        """By source, what each skip was worth."""
        found: dict[str, list[float]] = {source: [] for source, _ in self.builds}
        for source, worth in skips.saved(self._skipped, self._known):
            found.setdefault(clean(source), []).append(worth)
        return found
