"""Statistics as one page that needs nothing else: no script, no font, no other file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from packer_fork.statistics import Figures, Statistics
from packer_fork.views import words
from packer_fork.views.stats import charts, plots, tables
from packer_fork.views.stats.charts import Link
from packer_fork.views.stats.markup import Markup, joined, tag, text
from packer_fork.views.stats.style import CSS
from packer_fork.views.stats.text import counts, extent, failures, number, percent, title

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(states: Sequence[Statistics], folder: str = "") -> str:
    """HTML; several states stand one after another.

    `folder`: where the page will be, to refer to logs from there; by their paths if it is empty.
    """

    def link(log: str) -> str:
        return quote(os.path.relpath(log, folder) if folder else log) if log else ""

    name = title(states[0]) if len(states) == 1 else number(len(states), "state")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", text(f"packer-fork: {name}")),
        tag("style", Markup(CSS)),
    )
    sections = (_state(each, f"state-{place}", link) for place, each in enumerate(states, 1))
    heading = tag("h1", text("packer-fork statistics"))
    body = tag("body", plots.marks(), heading, _contents(states), tag("main", *sections))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _contents(states: Sequence[Statistics]) -> Markup:
    if len(states) < 2:
        return joined([])
    links = (
        tag("li", tag("a", text(title(each)), href=f"#state-{place}"))
        for place, each in enumerate(states, 1)
    )
    return tag("nav", tag("ul", *links))


def _state(statistics: Statistics, anchor: str, link: Link) -> Markup:
    found = statistics.figures
    if statistics.error is not None:
        content = [tag("p", text(statistics.error))]
    elif found is None or not found.runs:
        content = [tag("p", text("No run has ended yet."))]
    else:
        content = [tag("p", text(_begun(found))), *_content(found, link)]
    where = f"Workspace {statistics.workspace}, in {statistics.location}."
    made = f"Made {words.moment(statistics.at)}."
    return tag(
        "section",
        tag("h2", text(title(statistics))),
        tag("p", text(where), class_="note"),
        tag("p", text(made), class_="note"),
        *content,
        id=anchor,
    )


def _begun(found: Figures) -> str:
    said = extent(found)
    return f"{said[0].upper()}{said[1:]}."


def _content(found: Figures, link: Link) -> Iterator[Markup]:
    yield from _failures(found, link)
    yield _facts(found)
    yield from charts.runs(found, link)
    yield from charts.waits(found)
    yield tag("h3", text("Sources"))
    yield tables.sources(found.sources)
    yield from charts.durations(found, link)
    if found.artifacts:
        yield tag("h3", text("Artifacts"))
        yield tag("p", text("Of each build's newest complete run."), class_="note")
        yield tables.artifacts(found.artifacts)


def _failures(found: Figures, link: Link) -> Iterator[Markup]:
    causes = failures(found)
    if not causes:
        return
    yield tag("h3", text("Failures"))
    if len(causes) > tables.MOST_FAILURES:
        said = f"Shown are {tables.MOST_FAILURES} of {len(causes):,} causes."
        yield tag("p", text(said), class_="note")
    logs = {run.run: link(run.log) for run in found.runs}
    yield tables.failures(causes[: tables.MOST_FAILURES], logs)


def _facts(found: Figures) -> Markup:
    """A card for each figure; what never happened has none."""
    built = sum(len(source.builds) for source in found.sources)
    cards = [
        ("Runs", f"{len(found.runs):,}", counts(found.ends)),
        ("Success", percent(found.success), "of runs that were not cancelled"),
        ("Built", words.duration(found.built), number(built, "build")),
    ]
    if found.skips:
        skips = f"by {number(found.skips, 'skip')} of builds that were up to date"
        cards.append(("Saved", words.duration(found.saved), skips))
    if found.waits is not None:
        median, longest = words.duration(found.waits.median), words.duration(found.waits.longest)
        waited = f"for the lock: {median} in the median, {longest} at worst"
        cards.append(("Waits", f"{found.waits.count:,}", waited))
    return tag("dl", *(_card(*card) for card in cards), class_="facts")


def _card(name: str, value: str, more: str) -> Markup:
    return tag("div", tag("dt", text(name)), tag("dd", text(value)), tag("dd", text(more)))
