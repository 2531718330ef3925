"""What is plotted on a page: runs, waits, and a small plot for each source.

All plots have the slots of the same runs, so that what happened together stands one above another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from math import fsum

from packer_fork.statistics import Figures, RunPoint, SourceFigures
from packer_fork.views import words
from packer_fork.views.stats import plots, tables
from packer_fork.views.stats.markup import Markup, tag, text
from packer_fork.views.stats.plots import Grid, Item
from packer_fork.views.stats.text import counts, number

MOST_RUNS = 200
"""Runs that are drawn, the newest: on a phone each is then still as wide as a pixel."""

MOST_SOURCES = 24
"""Sources that are drawn, those that took longest altogether."""

Link = Callable[[str], str]
"""From the path of a log to what the page refers to it by."""

_HIGH, _LOW = 140, 80


def runs(found: Figures, link: Link) -> Iterator[Markup]:
    drawn = found.runs[-MOST_RUNS:]
    items = [
        Item(
            slot=slot,
            seconds=run.seconds,
            status=run.status,
            title=_run_title(run),
            href=link(run.log),
        )
        for slot, run in enumerate(drawn)
    ]
    label = f"How long each of {number(len(drawn), 'run')} took: {counts(found.ends)}"
    yield tag("h3", text("Runs"))
    said = "Duration of each run, in the order of their start."
    if any(run.log for run in drawn):
        said += " A click opens the log."
    if len(drawn) < len(found.runs):
        said += f" Shown are the newest {len(drawn)} of {len(found.runs):,}; the figures cover all."
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


def durations(found: Figures, link: Link) -> Iterator[Markup]:
    longest = sorted(found.sources, key=_total, reverse=True)[:MOST_SOURCES]
    chosen = {source.name for source in longest}
    drawn = found.runs[-MOST_RUNS:]
    yield tag("h3", text("Durations"))
    said = "Builds of each source in the same runs; the dashed line is the median."
    if len(chosen) < len(found.sources):
        said += f" Shown are the {len(chosen)} of {len(found.sources):,} sources that took longest."
    yield tag("p", text(said), class_="note")
    sources = (source for source in found.sources if source.name in chosen)
    yield tag("div", *(_durations(source, drawn, link) for source in sources), class_="multiples")


def _durations(source: SourceFigures, drawn: Sequence[RunPoint], link: Link) -> Markup:
    slots = {run.run: (slot, run.log) for slot, run in enumerate(drawn)}
    items = [
        Item(
            slot=slots[build.run][0],
            seconds=build.seconds,
            status=build.status,
            title=_title(build.run, build.status, build.started, build.seconds, build.cause),
            href=link(slots[build.run][1]),
        )
        for build in source.builds
        if build.run in slots
    ]
    name = source.name or '""'
    median = source.took.median if source.took else None
    said = f", median {words.duration(median)}" if median is not None else ""
    content = [tag("h4", text(name)), tag("p", text(f"{counts(source.ends)}{said}"), class_="note")]
    if items:
        label = f"How long each build of {name} took: {counts(source.ends)}{said}"
        content.append(plots.dots(items, _grid(drawn, _LOW), label, median=median))
    if source.steps:
        summary = tag("summary", text(number(len(source.steps), "step")))
        content.append(tag("details", summary, tables.steps(source.steps)))
    return tag("div", *content)


def _total(source: SourceFigures) -> float:
    return fsum(build.seconds or 0 for build in source.builds)


def _grid(drawn: Sequence[RunPoint], height: int, *, marked: bool = False) -> Grid:
    return Grid(moments=tuple(run.started for run in drawn), height=height, marked=marked)


def _statuses(found: Figures) -> list[str]:
    """All that are drawn, in the order of their marks."""
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


def _title(
    run: int, status: str, started: datetime | None, seconds: float | None, cause: str = ""
) -> str:
    when = f", {words.moment(started)}" if started else ""
    took = f", {words.duration(seconds)}" if seconds is not None else ""
    return f"run {run}, {status}{when}{took}{f': {cause}' if cause else ''}"
