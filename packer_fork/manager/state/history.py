"""The history of a state: its changes, its runs, and the state as it was at an earlier point.

A segment whose summary shows that it holds nothing wanted is not read. A run that spans
two segments appears in both summaries: then both are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from msgspec import Struct

from packer_fork.changes import apply_changes
from packer_fork.codec.builds import decode_once
from packer_fork.codec.segment import runs_of
from packer_fork.errors import UsageError
from packer_fork.model import REMOVED, Build, Change, Run, State, Summary
from packer_fork.responses import RunEntry
from packer_fork.stores.base import SegmentRange, Store


def changes(store: Store) -> Iterator[Change]:
    """Every change that is kept, the newest first. Raises DamagedError at a damaged segment."""
    for each in store.history():
        for change, _ in reversed(each.read().changes):
            yield change


def at(store: Store, serial: int) -> State:
    """The state right after change `serial`. Raises UsageError if the history lacks it."""
    oldest = newest = None
    for each in store.history():
        newest = each.last if newest is None else newest
        oldest = each.first
        if each.first <= serial <= each.last:
            contents = each.read()
            before = [pair for pair in contents.changes if pair[0].serial <= serial]
            found = apply_changes(contents.state, before)
            if found.serial == serial:
                return found
    raise _not_kept(f"serial {serial}", oldest, newest)


def after_run(store: Store, number: int) -> State:
    """The state right after the last change of run `number`. Raises UsageError."""
    oldest = newest = None
    for each in store.history():
        newest = each.last if newest is None else newest
        oldest = each.first
        if _may_hold_run(each, number):
            for change, _ in reversed(each.read().changes):
                if any(run.number == number for run in runs_of(change)):
                    return at(store, change.serial)
    raise _not_kept(f"run {number}", oldest, newest)


def is_point(text: str) -> bool:
    """Whether `text` has the form of a point: ``41``, a serial, or ``run:7``."""
    kind, _, number = text.rpartition(":")
    return kind in ("", "run") and number.isdecimal() and len(number) <= 18


def point(store: Store, text: str) -> State:
    """The state at a point: ``41``, a serial, or ``run:7``. Raises UsageError."""
    if not is_point(text):
        raise UsageError(
            f"{text!r} is not a point of the history",
            hint="give a serial like 41, or a run like run:7; `state history` lists both",
        )
    kind, _, number = text.rpartition(":")
    return after_run(store, int(number)) if kind else at(store, int(number))


class RunFilter(Struct, frozen=True, kw_only=True):
    """The runs that are wanted; an empty field or None excludes none."""

    status: str = ""
    build: str = ""
    branch: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def accepts(self, entry: RunEntry) -> bool:
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
        """Whether a segment without runs that span its borders may hold a wanted run."""
        return (
            summary.runs > 0
            and (not self.status or self.status in summary.statuses)
            and (not self.build or summary.builds is None or self.build in summary.builds)
            and (not self.branch or self.branch in summary.branches)
            and (self.since is None or summary.latest is None or summary.latest >= self.since)
            and (self.until is None or summary.earliest is None or summary.earliest <= self.until)
        )

    @property
    def accepts_all(self) -> bool:
        return self == RunFilter()


class Page(Struct, frozen=True, kw_only=True):
    """One page of runs; ``more``: whether another page follows."""

    runs: tuple[RunEntry, ...]
    page: int
    more: bool


def page(store: Store, wanted: RunFilter, *, limit: int, number: int) -> Page:
    """Page `number`, from 1 on, of `limit` runs each. Raises DamagedError."""
    skip = (number - 1) * limit
    found = list(islice(runs(store, wanted, skip=skip), limit + 1))
    return Page(runs=tuple(found[:limit]), page=number, more=len(found) > limit)


def runs(store: Store, wanted: RunFilter, *, skip: int = 0) -> Iterator[RunEntry]:
    """Every wanted run but the first `skip`, the newest first, read lazily. Raises DamagedError."""
    collector = _RunCollector()
    for each in store.history():
        skipped = _skipped_unread(each, wanted, collector, skip)
        if skipped is not None:
            skip -= skipped
            continue
        for change, _ in reversed(each.read().changes):
            for entry in collector.add(change):
                if wanted.accepts(entry):
                    if skip:
                        skip -= 1
                    else:
                        yield entry
    yield from islice(filter(wanted.accepts, collector.rest()), skip, None)


def _may_hold_run(each: SegmentRange, number: int) -> bool:
    summary = each.summary
    if summary is None or summary.spans:
        return True
    return summary.numbers is not None and summary.numbers[0] <= number <= summary.numbers[1]


def _not_kept(what: str, oldest: int | None, newest: int | None) -> UsageError:
    kept = f"it keeps serials {oldest} to {newest}" if newest is not None else "it is empty"
    return UsageError(f"there is no {what} in this history", hint=kept)


def _skipped_unread(
    each: SegmentRange, wanted: RunFilter, collector: _RunCollector, skip: int
) -> int | None:
    """How many wanted runs this range skips without being read; None if it must be read."""
    summary = each.summary
    if summary is None or summary.spans or collector.has_open_run:
        return None
    if not wanted.may_be_in(summary):
        return 0
    return summary.runs if wanted.accepts_all and summary.runs <= skip else None


class _RunCollector:
    """Runs whose end was seen, going backwards, and whose beginning was not."""

    def __init__(self) -> None:
        self._runs: dict[int, Run] = {}
        self._builds: dict[int, dict[str, Build]] = {}

    @property
    def has_open_run(self) -> bool:
        return bool(self._runs or self._builds)

    def add(self, change: Change) -> Iterator[RunEntry]:
        """Add the preceding change; yields the run that begins with it."""
        for run in runs_of(change):
            self._runs.setdefault(run.number, run)
        if change.late is not None:
            self._add(change.late.run.number, change.late.builds)
        if change.run is not None:
            known = self._builds.setdefault(change.run, {})
            news = {n: raw for n, raw in change.builds.items() if n not in known and raw != REMOVED}
            self._add(change.run, {name: decode_once(raw) for name, raw in news.items()})
            if change.operation == "start":
                yield self._whole(change.run)

    def rest(self) -> Iterator[RunEntry]:
        """Runs whose beginning was pruned."""
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
