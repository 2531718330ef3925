"""What is plotted on a page: runs, waits, and the builds of each source.

All of it stands below one another in the slots of the runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from math import fsum

from packer_fork.statistics import Figures, RunPoint, SourceFigures
from packer_fork.views import words
from packer_fork.views.stats import plots, tables
from packer_fork.views.stats.markup import Markup, tag, text
from packer_fork.views.stats.plots import Grid, Item
from packer_fork.views.stats.text import counts, number

MOST_RUNS = 200
"""That are drawn, the newest: on a phone each is then still as wide as a pixel."""

MOST_SOURCES = 24
"""That are drawn, those that took longest altogether."""

_HIGH, _LOW = 140, 80


def runs(found: Figures) -> Iterator[Markup]:
    drawn = found.runs[-MOST_RUNS:]
    items = [
        Item(slot=slot, seconds=run.seconds, status=run.status, title=_run_title(run))
        for slot, run in enumerate(drawn)
    ]
    label = f"How long each of {number(len(drawn), 'run')} took: {counts(found.ends)}"
    yield tag("h3", text("Runs"))
    said = "In the order in which they began, each as high as it took long."
    if len(drawn) < len(found.runs):
        said += f" Drawn are the newest {len(drawn)} of {len(found.runs):,}; figures are of all."
    yield tag("p", text(said), class_="note")
    yield plots.bars(items, _grid(drawn, _HIGH, marked=True), label)
    yield _keys(_statuses(found))


def waits(found: Figures) -> Iterator[Markup]:
    drawn = found.runs[-MOST_RUNS:]
    items = [
        Item(slot=slot, seconds=run.waited, status="waited", title=_wait_title(run))
        for slot, run in enumerate(drawn)
        if run.waited
    ]
    if items:
        yield tag("h3", text("Waits for the lock"))
        label = f"How long {len(items)} of these runs waited for the lock"
        yield plots.bars(items, _grid(drawn, _LOW), label)


def durations(found: Figures) -> Iterator[Markup]:
    longest = sorted(found.sources, key=_total, reverse=True)[:MOST_SOURCES]
    chosen = {source.name for source in longest}
    drawn = found.runs[-MOST_RUNS:]
    yield tag("h3", text("Durations"))
    if len(chosen) < len(found.sources):
        said = f"Of the {len(chosen)} sources that took longest, out of {len(found.sources):,}."
        yield tag("p", text(said), class_="note")
    for source in found.sources:
        if source.name in chosen:
            yield from _durations(source, drawn)


def _durations(source: SourceFigures, drawn: Sequence[RunPoint]) -> Iterator[Markup]:
    slots = {run.run: slot for slot, run in enumerate(drawn)}
    items = [
        Item(
            slot=slots[build.run],
            seconds=build.seconds,
            status=build.status,
            title=_title(build.run, build.status, build.started, build.seconds),
        )
        for build in source.builds
        if build.run in slots
    ]
    name = source.name or '""'
    median = source.took.median if source.took else None
    said = f", {words.duration(median)} in the median" if median is not None else ""
    yield tag("h4", text(name))
    yield tag("p", text(f"{counts(source.ends)}{said}"), class_="note")
    if items:
        label = f"How long each build of {name} took: {counts(source.ends)}{said}"
        yield plots.dots(items, _grid(drawn, _LOW), label, median=median)
    if source.steps:
        yield tables.steps(source.steps)


def _total(source: SourceFigures) -> float:
    return fsum(build.seconds or 0 for build in source.builds)


def _grid(drawn: Sequence[RunPoint], height: int, *, marked: bool = False) -> Grid:
    return Grid(moments=tuple(run.started for run in drawn), height=height, marked=marked)


def _statuses(found: Figures) -> list[str]:
    """All that is drawn, in the order of their marks."""
    there = set(found.ends).union(*(source.ends for source in found.sources))
    return [status for status in plots.MARKS if status in there]


def _keys(statuses: Iterable[str]) -> Markup:
    return tag("ul", *map(_key, statuses), class_="keys")


def _key(status: str) -> Markup:
    sign = tag("svg", plots.mark(status), viewBox="-6 -6 12 12", aria_hidden="true")
    return tag("li", sign, text(status))


def _run_title(run: RunPoint) -> str:
    waited = f", waited {words.duration(run.waited)}" if run.waited else ""
    return f"{_title(run.run, run.status, run.started, run.seconds)}{waited}"


def _wait_title(run: RunPoint) -> str:
    return f"run {run.run} waited {words.duration(run.waited)}"


def _title(run: int, status: str, started: datetime | None, seconds: float | None) -> str:
    when = f", {words.moment(started)}" if started else ""
    took = f", {words.duration(seconds)}" if seconds is not None else ""
    return f"run {run}, {status}{when}{took}"
