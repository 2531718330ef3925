"""Tables of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from packer_fork.statistics import Latest, SourceFigures, StepFigures
from packer_fork.views import words
from packer_fork.views.stats import plots
from packer_fork.views.stats.markup import Markup, joined, tag, text
from packer_fork.views.stats.text import Failure, last, percent, took

Column = tuple[str, str]
"""Its heading and its class."""


MOST_FAILURES = 20


def failures(found: Sequence[Failure], logs: Mapping[int, str]) -> Markup:
    """`logs`: references to the logs of runs, as far as there are any."""
    columns = (
        ("Source", "name"),
        ("Cause", "cause"),
        ("Times", "number minor"),
        ("Last", "run"),
        ("Now", "use"),
    )
    return _table(columns, (_failure(each, logs.get(each.run, "")) for each in found))


def _failure(failure: Failure, log: str) -> tuple[Markup, ...]:
    when = f", {words.moment(failure.started)}" if failure.started else ""
    run = text(f"run {failure.run}")
    now = "failing" if failure.fixed is None else f"fixed in run {failure.fixed}"
    return (
        text(failure.source or '""'),
        text(failure.cause),
        text(f"{failure.times:,}"),
        joined([tag("a", run, href=log) if log else run, tag("span", text(when), class_="minor")]),
        text(now),
    )


def sources(found: Sequence[SourceFigures]) -> Markup:
    columns = (
        ("Source", "name"),
        ("Builds", "number"),
        ("Success", "number"),
        ("Median", "number"),
        ("90% within", "number minor"),
        ("Longest", "number"),
        ("Last", "number minor"),
        ("Saved by skips", "number minor"),
    )
    return _table(columns, (map(text, _source(each)) for each in found))


def _source(source: SourceFigures) -> tuple[str, ...]:
    spread = source.took
    return (
        source.name or '""',
        f"{len(source.builds):,}",
        percent(source.success),
        took(spread.median if spread else None),
        took(spread.p90 if spread else None),
        took(spread.longest if spread else None),
        last(source),
        f"{took(source.saved)} by {source.skips:,}" if source.skips else "-",
    )


def steps(found: Sequence[StepFigures]) -> Markup:
    """With bars, all on one scale."""
    columns = (
        ("Step", "name"),
        ("Failed", "number minor"),
        ("Median", "number"),
        ("Longest", "number"),
        ("", "bar"),
    )
    top = max((step.took.longest for step in found if step.took), default=0) or 1
    return _table(columns, (_step(step, top) for step in found))


def _step(step: StepFigures, top: float) -> tuple[Markup, ...]:
    kind = "post-processor " * (step.kind == "post-processor")
    name = f"{kind}{step.place}. {step.type}{f' {step.name}' * bool(step.name)}"
    median, longest = (took(step.took.median), took(step.took.longest)) if step.took else ("-", "-")
    label = f"{name}: {median} in the median, {longest} at most"
    bar = plots.meter(step.took.median, step.took.longest, top, label) if step.took else text("")
    return (text(name), text(f"{step.failed:,}"), text(median), text(longest), bar)


def artifacts(found: Iterable[Latest]) -> Markup:
    columns = (
        ("Build", "name"),
        ("Run", "number"),
        ("When", "when minor"),
        ("Artifacts", "name"),
        ("Use", "use"),
    )
    return _table(columns, (map(text, _artifact(each)) for each in found))


def _artifact(latest: Latest) -> tuple[str, ...]:
    return (
        latest.build or '""',
        str(latest.run),
        words.moment(latest.ended) if latest.ended else "-",
        ", ".join(latest.artifacts) or "-",
        "good" if latest.revoked is None else f"revoked: {latest.revoked}",
    )


def _table(columns: Sequence[Column], rows: Iterable[Iterable[Markup]]) -> Markup:
    """The first cell of a row is its heading."""
    head = tag("tr", *(tag("th", text(n), scope="col", class_=kind) for n, kind in columns))
    body = (_row(row, columns) for row in rows)
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide")


def _row(cells: Iterable[Markup], columns: Sequence[Column]) -> Markup:
    first, *rest = zip(cells, (kind for _, kind in columns), strict=True)
    heading = tag("th", first[0], scope="row", class_=first[1])
    return tag("tr", heading, *(tag("td", cell, class_=kind) for cell, kind in rest))
