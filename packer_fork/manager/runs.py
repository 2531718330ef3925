"""Runs and their builds out of the history, the newest first, as many as are asked for.

A segment whose summary says that nothing in it is wanted is passed by. A run that goes
over the border of two segments is seen in both: then neither is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from msgspec import Struct

from packer_fork.answers import RunEntry
from packer_fork.codec.builds import decode_once
from packer_fork.codec.segment import runs_of
from packer_fork.model import REMOVED, Build, Change, Run, Summary
from packer_fork.stores.base import Store, Stretch


class Wanted(Struct, frozen=True, kw_only=True):
    """Which runs are asked for; what is empty or None does not matter."""

    status: str = ""
    build: str = ""
    branch: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, entry: RunEntry) -> bool:
        run, builds = entry.run, entry.builds
        if self.build:
            builds = tuple(build for build in builds if build.name == self.build)
            if not builds:
                return False
        statuses = {str(build.status) for build in builds}
        if not self.build:
            statuses.add(str(run.status))
        return (
            (not self.status or self.status in statuses)
            and (not self.branch or (run.git is not None and run.git.branch == self.branch))
            and (self.since is None or run.started >= self.since)
            and (self.until is None or run.started <= self.until)
        )

    def may_be_in(self, summary: Summary) -> bool:
        """Whether a segment without runs over its borders may hold any."""
        return (
            summary.runs > 0
            and (not self.status or self.status in summary.statuses)
            and (not self.build or summary.builds is None or self.build in summary.builds)
            and (not self.branch or self.branch in summary.branches)
            and (self.since is None or summary.latest is None or summary.latest >= self.since)
            and (self.until is None or summary.earliest is None or summary.earliest <= self.until)
        )

    @property
    def is_everything(self) -> bool:
        return self == Wanted()


class Page(Struct, frozen=True, kw_only=True):
    """Part of a list; ``more``: whether there is another page behind it."""

    runs: tuple[RunEntry, ...]
    page: int
    more: bool


def page(store: Store, wanted: Wanted, *, limit: int, number: int) -> Page:
    """Page `number`, from 1 on, of `limit` runs each. Raises DamagedError."""
    skip = (number - 1) * limit
    found = list(islice(runs(store, wanted, skip=skip), limit + 1))
    return Page(runs=tuple(found[:limit]), page=number, more=len(found) > limit)


def runs(store: Store, wanted: Wanted, *, skip: int = 0) -> Iterator[RunEntry]:
    """All that are wanted but the first `skip`, read as they are taken. Raises DamagedError."""
    gathering = _Gathering()
    for stretch in store.history():
        passed = _passed(stretch, wanted, gathering, skip)
        if passed is not None:
            skip -= passed
            continue
        for change, _ in reversed(stretch.read().changes):
            for entry in gathering.take(change):
                if wanted.takes(entry):
                    if skip:
                        skip -= 1
                    else:
                        yield entry
    yield from islice(filter(wanted.takes, gathering.rest()), skip, None)


def _passed(stretch: Stretch, wanted: Wanted, gathering: _Gathering, skip: int) -> int | None:
    """How many wanted runs are skipped by passing this stretch by; None if it must be read."""
    summary = stretch.summary
    if summary is None or summary.spans or gathering.is_under_way:
        return None
    if not wanted.may_be_in(summary):
        return 0
    return summary.runs if wanted.is_everything and summary.runs <= skip else None


class _Gathering:
    """Runs of which the end has been seen, and not yet the beginning."""

    def __init__(self) -> None:
        self._runs: dict[int, Run] = {}
        self._builds: dict[int, dict[str, Build]] = {}

    @property
    def is_under_way(self) -> bool:
        return bool(self._runs or self._builds)

    def take(self, change: Change) -> Iterator[RunEntry]:
        """Add the change before; a run that begins with it is whole."""
        for run in runs_of(change):
            self._runs.setdefault(run.number, run)
        if change.late is not None:
            self._add(change.late.run.number, change.late.builds)
        if change.run is not None:
            number = change.run
            known = self._builds.setdefault(number, {})
            news = {n: raw for n, raw in change.builds.items() if n not in known and raw != REMOVED}
            self._add(number, {name: decode_once(raw) for name, raw in news.items()})
            if change.operation == "start":
                yield self._whole(number)

    def rest(self) -> Iterator[RunEntry]:
        """Runs whose beginning is not kept any more."""
        for number in sorted(self._runs, reverse=True):
            yield self._whole(number)

    def _add(self, number: int, builds: dict[str, Build]) -> None:
        known = self._builds.setdefault(number, {})
        for name, build in builds.items():
            if build.run == number and (name not in known or known[name].item < build.item):
                known[name] = build

    def _whole(self, number: int) -> RunEntry:
        run, builds = self._runs.pop(number), self._builds.pop(number, {})
        order = [*run.builds, *sorted(builds.keys() - set(run.builds))]
        return RunEntry(run=run, builds=tuple(builds[name] for name in order if name in builds))
