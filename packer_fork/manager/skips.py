"""What was not built again, and the time that was saved by it."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from packer_fork.answers import RunEntry
from packer_fork.manager import results
from packer_fork.model import Build, Skip

Known = defaultdict[str, dict[int, float]]
"""Seconds that complete builds took, by source, then by run."""


class Skipped(Struct, frozen=True, gc=False):
    """A source that run number `run` left out, being up to date."""

    source: str
    run: int


def known_of(builds: Iterable[Build]) -> Known:
    """The results that they keep, which outlive the runs that they are of."""
    known: Known = defaultdict(dict)
    for build in builds:
        for result in results.complete(build):
            took = seconds(result.started, result.ended)
            if took is not None:
                known[build.name][result.run] = took
    return known


def of_tenure(entries: Sequence[RunEntry]) -> Iterator[Skipped]:
    """What a tenure left out in all of its runs; each calls up to date what another one builds."""
    left = set.intersection(*(set(entry.run.up_to_date) for entry in entries))
    built = {name for entry in entries for name in entry.run.builds}
    first = entries[-1].run
    for source in left - built:
        yield Skipped(source, first.number)


def of_nothing_to_do(skip: Skip) -> Iterator[Skipped]:
    """What a build left out that came to no run: the next one would have had that number."""
    return (Skipped(source, skip.after + 1) for source in skip.builds)


def saved(skipped: Iterable[Skipped], known: Known) -> Iterator[tuple[str, float]]:
    """A source with what a skip of it was worth: the time of its newest complete run before.

    One whose result is not known counts for none.
    """
    runs_of = {source: sorted(runs) for source, runs in known.items()}
    for each in skipped:
        before = bisect_left(runs_of.get(each.source, []), each.run)
        if before:
            yield each.source, known[each.source][runs_of[each.source][before - 1]]


def seconds(started: datetime | None, ended: datetime | None) -> float | None:
    """A clock that was set back makes no negative time."""
    return max(0.0, (ended - started).total_seconds()) if started and ended else None
