"""One pass over the history of a state: runs, builds, steps, locks, skips and commits.

``statistics`` and ``metrics`` are two views of what is collected here. Counters of metrics are
computed anew each time and must never fall: nothing that a run counts for depends on a later
change.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from math import fsum
from typing import cast

from msgspec import Struct, structs

from packer_fork import failures
from packer_fork.codec.builds import decode_once
from packer_fork.manager.build import results
from packer_fork.manager.state.history import RunFilter, runs
from packer_fork.model import Build, BuildStatus, Change, RunStatus, Skip, State, Step, StepStatus
from packer_fork.responses import RunEntry
from packer_fork.statistics import BuildPoint, RunPoint
from packer_fork.stores.base import SegmentContents, SegmentRange, Store

KINDS = ("provisioner", "post-processor")
"""Of steps, in the order in which a build goes through them."""

StepKey = tuple[str, int, str, str]
"""Kind, position, type and name: they identify a step from run to run."""


class Window(Struct, frozen=True, kw_only=True):
    """Which runs count: the ``last`` ones (0: all), and of these those started ``since``."""

    last: int = 0
    since: datetime | None = None


class LockUse(Struct, frozen=True, kw_only=True, gc=False):
    """A lock that a build acquired: seconds ``waited`` and ``held``, None if that is not known.

    ``is_taken_over``: its former holder was dead.
    """

    waited: float
    held: float | None
    is_taken_over: bool


class StepRecord(Struct, frozen=True):
    """A step in all runs: seconds of its complete executions, and how often it failed."""

    seconds: list[float]
    failed: int


class SourceRecord(Struct, frozen=True, kw_only=True):
    """A source in all runs. ``builds``: those that have ended, the newest first.

    ``saved`` has, for each skip, the seconds that the skipped build would have taken.
    """

    builds: Sequence[BuildPoint]
    steps: Mapping[StepKey, StepRecord]
    saved: Sequence[float]


class Collected(Struct, frozen=True, kw_only=True):
    """What the history tells within a window.

    ``runs``: those that have ended, the newest first. ``sources`` stand in the order of the
    state, then by name. ``locks`` are those whose runs are all within the window. ``commits``
    and ``commit_seconds`` are of runs, without the final commit of each. ``abandoned``: locks
    taken over from a dead holder; ``force_unlocked`` and ``refused``: locks that were
    force-unlocked, and that had a commit refused afterwards. ``earlier``: runs before these do
    not count.
    """

    runs: Sequence[RunPoint]
    sources: Mapping[str, SourceRecord]
    locks: Sequence[LockUse]
    commits: int
    commit_seconds: float
    abandoned: int
    force_unlocked: int
    refused: int
    earlier: bool


def collect(store: Store, state: State | None, window: Window) -> Collected:
    """Read the history of `state`. Raises DamagedError, NewerFormatError, StoreError."""
    history, collector = _History(store), _Collector()
    for group in _groups(runs(cast("Store", history), RunFilter()), window):
        collector.add_lock(group)
    for change in history.skips:
        if change.skip is not None and (window.since is None or change.at >= window.since):
            collector.add_skip(change.skip, change.token)
    standing = [decode_once(raw) for raw in state.builds.values()] if state else []
    return collector.collected(history, standing)


def seconds_between(started: datetime | None, ended: datetime | None) -> float | None:
    """None if one is missing. A clock that was set back makes no negative duration."""
    return max(0.0, (ended - started).total_seconds()) if started and ended else None


class _Group(Struct, frozen=True):
    """The runs of one lock that are within the window, the newest first.

    ``whole``: these are all of its runs. ``full``: the window takes no further run.
    """

    entries: Sequence[RunEntry]
    whole: bool
    full: bool


def _groups(found: Iterable[RunEntry], window: Window) -> Iterator[_Group]:
    """Group `found` by lock, up to the first group that is not wholly within the window.

    The runs of one lock follow each other: a released lock commits nothing.
    """
    left = window.last or sys.maxsize
    for _, group in groupby(found, key=lambda entry: entry.run.token):
        entries = list(group)
        recent = [e for e in entries if window.since is None or e.run.started >= window.since]
        within = recent[:left]
        left -= len(within)
        yield _Group(within, len(within) == len(entries), not left)
        if len(within) < len(entries):
            return


class _History:
    """The history of a store that also collects changes that belong to no run.

    ``taken_over``: tokens of locks that were taken over. ``unlocked``: tokens and reasons, since
    one force-unlock makes a change for each run that it interrupts. ``skips``: changes of builds
    with nothing to do, the newest segment first.
    """

    def __init__(self, store: Store) -> None:
        self.taken_over: set[int] = set()
        self.unlocked: set[tuple[int, str]] = set()
        self.refused = 0
        self.skips: list[Change] = []
        self._store = store

    def history(self) -> Iterator[SegmentRange]:
        """Without summaries, so that the reader skips no segment."""
        for stretch in self._store.history():
            yield structs.replace(stretch, summary=None, read=partial(self._read, stretch))

    def _read(self, stretch: SegmentRange) -> SegmentContents:
        passage = stretch.read()
        for change, _ in passage.changes:
            if change.operation == "take-over":
                self.taken_over.add(change.token)
            elif change.operation == "force-unlock":
                self.unlocked.add((change.token, change.why))
            elif change.operation == "refused":
                self.refused += 1
            elif change.skip is not None:
                self.skips.append(change)
        return passage


class _Source:
    """A source while its builds are added, the newest first."""

    def __init__(self) -> None:
        self.builds: list[BuildPoint] = []
        self.complete: dict[int, float] = {}
        """Seconds by run."""
        self.oldest: Build | None = None
        self._took: defaultdict[StepKey, list[float]] = defaultdict(list)
        self._failed: Counter[StepKey] = Counter()

    def add(self, build: Build) -> None:
        self.oldest = build
        if not build.status.is_final:
            return
        took = seconds_between(build.started, build.ended)
        self.builds.append(
            BuildPoint(
                run=build.run,
                started=build.started,
                status=build.status,
                seconds=took,
                cause=_cause(build),
            )
        )
        if build.status is BuildStatus.COMPLETE and took is not None:
            self.complete[build.run] = took
        for kind, steps in zip(KINDS, (build.provisioners, build.post_processors), strict=True):
            for position, step in enumerate(steps, 1):
                self._add_step((kind, position, step.type, step.name), step)

    def _add_step(self, key: StepKey, step: Step) -> None:
        took = seconds_between(step.started, step.ended)
        if step.status is StepStatus.COMPLETE and took is not None:
            self._took[key].append(took)
        elif step.status is StepStatus.FAILED:
            self._failed[key] += 1

    def record(self, saved: Sequence[float]) -> SourceRecord:
        keys = sorted({*self._took, *self._failed}, key=lambda key: (KINDS.index(key[0]), key))
        steps = {key: StepRecord(self._took[key], self._failed[key]) for key in keys}
        return SourceRecord(builds=self.builds, steps=steps, saved=saved)


class _Skipped(Struct, frozen=True, gc=False):
    """A source that was up to date when run number ``run`` began, or would have begun."""

    source: str
    run: int


class _Collector:
    """Adds up locks with their runs, the newest first, then skips that came to no run."""

    def __init__(self) -> None:
        self._runs: list[RunPoint] = []
        self._sources: defaultdict[str, _Source] = defaultdict(_Source)
        self._waited: dict[int, float] = {}
        self._held: dict[int, float] = {}
        """Both by token."""
        self._skipped: list[_Skipped] = []
        self._commits = 0
        self._commit_seconds: list[float] = []
        self._earlier = False
        self._first = 0
        """The number of the oldest run that counts, if the window takes no further one."""

    def add_lock(self, group: _Group) -> None:
        """Wait and skips count only where all runs of the lock do."""
        self._earlier = not group.whole
        if group.full and group.entries:
            self._first = group.entries[-1].run.number
        if group.whole:
            first = group.entries[-1].run
            self._waited[first.token] = max(0.0, first.waited)
            if held := max(entry.run.held for entry in group.entries):
                self._held[first.token] = held
            self._skipped += _up_to_date(group.entries)
        for number, entry in enumerate(group.entries, 1):
            is_first = group.whole and number == len(group.entries)
            self._add_run(entry, max(0.0, entry.run.waited) if is_first else 0.0)

    def add_skip(self, skip: Skip, token: int) -> None:
        """A build that came to no run; it does not count before all runs of a full window."""
        if skip.after >= self._first:
            self._waited[token] = max(0.0, skip.waited)
            self._held[token] = skip.held
            self._skipped += (_Skipped(source, skip.after + 1) for source in skip.builds)

    def _add_run(self, entry: RunEntry, waited: float) -> None:
        run = entry.run
        self._commits += run.commits
        self._commit_seconds.append(run.committing)
        if run.status is not RunStatus.RUNNING:
            point = RunPoint(
                run=run.number,
                started=run.started,
                status=run.status,
                seconds=seconds_between(run.started, run.ended),
                waited=waited,
                log=f"{run.number}-1.log",
            )
            self._runs.append(point)
        for build in entry.builds:
            self._sources[build.name].add(build)

    def collected(self, history: _History, standing: Sequence[Build]) -> Collected:
        """`standing`: the builds of the state, which remember results of earlier runs."""
        saved = self._saved(standing)
        names = dict.fromkeys([*(build.name for build in standing), *sorted(self._sources)])
        return Collected(
            runs=self._runs,
            sources={
                name: self._sources[name].record(saved[name])
                for name in names
                if self._sources[name].builds or saved[name]
            },
            locks=[
                LockUse(
                    waited=waited,
                    held=self._held.get(token),
                    is_taken_over=token in history.taken_over,
                )
                for token, waited in self._waited.items()
            ],
            commits=self._commits,
            commit_seconds=fsum(self._commit_seconds),
            abandoned=len(history.taken_over),
            force_unlocked=len(history.unlocked),
            refused=history.refused,
            earlier=self._earlier,
        )

    def _saved(self, standing: Iterable[Build]) -> defaultdict[str, list[float]]:
        """By source, for each skip the seconds of the newest complete build before it.

        A skip whose build is forgotten does not count.
        """
        known = self._durations(standing)
        numbers = {source: sorted(durations) for source, durations in known.items()}
        found: defaultdict[str, list[float]] = defaultdict(list)
        for skipped in self._skipped:
            before = bisect_left(numbers.get(skipped.source, []), skipped.run)
            if before:
                run = numbers[skipped.source][before - 1]
                found[skipped.source].append(known[skipped.source][run])
        return found

    def _durations(self, standing: Iterable[Build]) -> defaultdict[str, dict[int, float]]:
        """Seconds of complete builds by source and run, also of runs before the window."""
        oldest = [source.oldest for source in self._sources.values() if source.oldest]
        known: defaultdict[str, dict[int, float]] = defaultdict(dict)
        for build in (*standing, *oldest):
            for result in results.complete(build):
                took = seconds_between(result.started, result.ended)
                if took is not None:
                    known[build.name][result.run] = took
        for name, source in self._sources.items():
            known[name] |= source.complete
        return known


def _cause(build: Build) -> str:
    is_at_will = build.status in (BuildStatus.CANCELLED, BuildStatus.SKIPPED)
    return "" if is_at_will else failures.cause(build)


def _up_to_date(entries: Sequence[RunEntry]) -> Iterator[_Skipped]:
    """What all runs of one lock skipped: each calls up to date what another one builds."""
    skipped = set.intersection(*(set(entry.run.up_to_date) for entry in entries))
    built = {name for entry in entries for name in entry.run.builds}
    first = entries[-1].run
    for source in skipped - built:
        yield _Skipped(source, first.number)
