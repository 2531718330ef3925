"""Adding up what the history tells of the last runs, or of those since some time."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from math import fsum
from typing import cast

from msgspec import Struct, structs

from packer_fork.answers import RunEntry
from packer_fork.codec.builds import decode_once
from packer_fork.manager import results, skips
from packer_fork.manager.state.history import RunFilter as Wanted
from packer_fork.manager.state.history import runs
from packer_fork.manager.watched import Watched
from packer_fork.model import Build, BuildStatus, RunStatus, Skip, State, Step, StepStatus
from packer_fork.statistics import (
    BuildPoint,
    Figures,
    Latest,
    RunPoint,
    SourceFigures,
    StepFigures,
    spread,
    success,
)
from packer_fork.stores.base import Store

_KINDS = ("provisioner", "post-processor")

StepKey = tuple[str, int, str, str]
"""Kind, place, type and name: what is the same step from run to run."""


class Window(Struct, frozen=True, kw_only=True):
    """Which runs count: so many of the last (0: all), and of these those begun ``since``."""

    last: int = 0
    since: datetime | None = None


def of(store: Store, window: Window) -> Figures:
    """Raises DamagedError, NewerFormatError, StoreError."""
    state, tally, watched = store.read(), _Tally(), Watched(store)
    for cut in _recent(runs(cast("Store", watched), Wanted()), window):
        tally.add(cut)
    for change in watched.skips:
        if change.skip is not None and (window.since is None or change.at >= window.since):
            tally.add_skip(change.skip)
    return tally.figures(list(_builds(state)))


def _builds(state: State | None) -> Iterator[Build]:
    return map(decode_once, state.builds.values()) if state else iter(())


class _Cut(Struct, frozen=True):
    """Those runs of a tenure that are within the window, the newest first; ``whole``: all.

    ``full``: the window has as many runs as it may have.
    """

    entries: Sequence[RunEntry]
    whole: bool
    full: bool


def _recent(found: Iterable[RunEntry], window: Window) -> Iterator[_Cut]:
    """Tenure by tenure, up to the first one that is not all within the window."""
    left = window.last or sys.maxsize
    for _, group in groupby(found, key=lambda entry: entry.run.tenure):
        entries = list(group)
        recent = [e for e in entries if window.since is None or e.run.started >= window.since]
        within = recent[:left]
        left -= len(within)
        yield _Cut(within, len(within) == len(entries), not left)
        if len(within) < len(entries):
            return


class _Source:
    """What is known of one source, the newest first."""

    def __init__(self) -> None:
        self.builds: list[BuildPoint] = []
        self.took: defaultdict[StepKey, list[float]] = defaultdict(list)
        self.failed: Counter[StepKey] = Counter()
        self.complete: dict[int, float] = {}
        """Seconds by run."""
        self.oldest: Build | None = None

    def add(self, build: Build) -> None:
        self.oldest = build
        if not build.status.is_final:
            return
        took = skips.seconds(build.started, build.ended)
        point = BuildPoint(run=build.run, started=build.started, status=build.status, seconds=took)
        self.builds.append(point)
        if build.status is BuildStatus.COMPLETE and took is not None:
            self.complete[build.run] = took
        for kind, steps in zip(_KINDS, (build.provisioners, build.post_processors), strict=True):
            for place, step in enumerate(steps, 1):
                self._add_step((kind, place, step.type, step.name), step)

    def _add_step(self, key: StepKey, step: Step) -> None:
        took = skips.seconds(step.started, step.ended)
        if step.status is StepStatus.COMPLETE and took is not None:
            self.took[key].append(took)
        elif step.status is StepStatus.FAILED:
            self.failed[key] += 1

    def figures(self, name: str, saved: Sequence[float]) -> SourceFigures:
        ends = Counter(point.status for point in self.builds)
        return SourceFigures(
            name=name,
            ends=ends,
            success=success(ends),
            took=spread(self.complete.values()),
            skips=len(saved),
            saved=fsum(saved),
            builds=tuple(reversed(self.builds)),
            steps=tuple(self._steps()),
        )

    def _steps(self) -> Iterator[StepFigures]:
        for key in sorted({*self.took, *self.failed}, key=_step_order):
            kind, place, type_, name = key
            yield StepFigures(
                kind=kind,
                place=place,
                type=type_,
                name=name,
                failed=self.failed[key],
                took=spread(self.took[key]),
            )


class _Tally:
    """Adds the tenures up, the newest first."""

    def __init__(self) -> None:
        self._runs: list[RunPoint] = []
        self._waited: list[float] = []
        self._sources: defaultdict[str, _Source] = defaultdict(_Source)
        self._skipped: list[skips.Skipped] = []
        self._earlier = False
        self._first = 0
        """The number of the oldest run that counts, if no more may."""

    def add(self, cut: _Cut) -> None:
        """What a tenure waited and left out is told by all of its runs together."""
        self._earlier = not cut.whole
        if cut.full and cut.entries:
            self._first = cut.entries[-1].run.number
        waited = max(0.0, cut.entries[-1].run.waited) if cut.whole else 0.0
        if cut.whole:
            self._waited.append(waited)
            self._skipped += skips.of_tenure(cut.entries)
        for number, entry in enumerate(cut.entries, 1):
            self._add_run(entry, waited if number == len(cut.entries) else 0.0)

    def add_skip(self, skip: Skip) -> None:
        """A build that came to no run, unless all runs that count came after it."""
        if skip.after >= self._first:
            self._waited.append(max(0.0, skip.waited))
            self._skipped += skips.of_nothing_to_do(skip)

    def _add_run(self, entry: RunEntry, waited: float) -> None:
        run = entry.run
        if run.status is not RunStatus.RUNNING:
            point = RunPoint(
                run=run.number,
                started=run.started,
                status=run.status,
                seconds=skips.seconds(run.started, run.ended),
                waited=waited,
            )
            self._runs.append(point)
        for build in entry.builds:
            self._sources[build.name].add(build)

    def figures(self, standing: Sequence[Build]) -> Figures:
        """With what the state keeps of its builds, in their order."""
        saved = self._saved(standing)
        names = dict.fromkeys([*(build.name for build in standing), *sorted(self._sources)])
        sources = [
            self._sources[name].figures(name, saved[name])
            for name in names
            if self._sources[name].builds or saved[name]
        ]
        ends = Counter(point.status for point in self._runs)
        return Figures(
            earlier=self._earlier,
            ends=ends,
            success=success(ends),
            built=fsum(_taken(point for each in sources for point in each.builds)),
            skips=sum(each.skips for each in sources),
            saved=fsum(each.saved for each in sources),
            locks=len(self._waited),
            waits=spread(seconds for seconds in self._waited if seconds),
            runs=tuple(reversed(self._runs)),
            sources=tuple(sources),
            artifacts=tuple(_latest(standing)),
        )

    def _saved(self, standing: Sequence[Build]) -> defaultdict[str, list[float]]:
        """A skip rests on a run of the window, or on one that a build in it remembers."""
        oldest = [source.oldest for source in self._sources.values() if source.oldest]
        known = skips.known_of([*standing, *oldest])
        for name, source in self._sources.items():
            for run, took in source.complete.items():
                known[name][run] = took
        found: defaultdict[str, list[float]] = defaultdict(list)
        for name, worth in skips.saved(self._skipped, known):
            found[name].append(worth)
        return found


def _taken(points: Iterable[BuildPoint]) -> Iterator[float]:
    return (point.seconds for point in points if point.seconds is not None)


def _step_order(key: StepKey) -> tuple[int, StepKey]:
    return _KINDS.index(key[0]), key


def _latest(builds: Iterable[Build]) -> Iterator[Latest]:
    for build in builds:
        if complete := results.complete(structs.replace(build, revoked={})):
            newest = complete[-1]
            yield Latest(
                build=build.name,
                run=newest.run,
                ended=newest.ended,
                artifacts=tuple(
                    dict.fromkeys(a.id or a.string for a in newest.artifacts if a.id or a.string)
                ),
                revoked=build.revoked.get(str(newest.run)),
            )
