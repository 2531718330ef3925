"""Statistics in words, the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from math import floor

from msgspec import Struct

from packer_fork.model import BuildStatus
from packer_fork.statistics import BuildPoint, Figures, SourceFigures, Statistics
from packer_fork.terminal import clean
from packer_fork.views import words

_NO_FAILURE = frozenset({"complete", "cancelled", "skipped"})


def title(statistics: Statistics) -> str:
    """``web.pkr.hcl (workspace blue)``"""
    workspace = f" (workspace {statistics.workspace})" * (statistics.workspace != "default")
    return " ".join(clean(f"{statistics.template}{workspace}").split())


def extent(found: Figures) -> str:
    """``the last 20 runs, since 2026-03-02 10:00:00 UTC``"""
    since = words.moment(found.runs[0].started)
    return f"{'the last ' * found.earlier}{number(len(found.runs), 'run')}, since {since}"


def facts(found: Figures) -> dict[str, str]:
    """Figures in a line each, by name; what never happened has none."""
    built = sum(len(source.builds) for source in found.sources)
    lines = {
        "runs": f"{counts(found.ends)}; {percent(found.success)} succeeded",
        "built": f"{number(built, 'build')} in {words.duration(found.built)}",
    }
    if found.skips:
        saved = words.duration(found.saved)
        lines["skipped"] = f"{number(found.skips, 'build')}, which saved {saved}"
    if found.waits:
        lines["waited"] = waits(found)
    return lines


def waits(found: Figures) -> str:
    """How often and how long the lock was waited for."""
    if found.waits is None:
        return "never for the lock"
    return (
        f"for {found.waits.count:,} of {number(found.locks, 'lock')}, "
        f"{words.duration(found.waits.median)} in the median, "
        f"{words.duration(found.waits.longest)} at worst"
    )


def counts(ends: Mapping[str, int]) -> str:
    """``38 complete, 3 failed``, the most frequent first."""
    ordered = sorted(ends.items(), key=lambda end: (-end[1], end[0]))
    return ", ".join(f"{count:,} {status}" for status, count in ordered) or "none"


def percent(share: float | None) -> str:
    """Rounded down, so that only all are 100%."""
    return "-" if share is None else f"{floor(share * 100 + 1e-9)}%"


class Failure(Struct, frozen=True, kw_only=True):
    """One cause by which builds of a source failed, so many ``times``; ``run`` is the last one.

    ``fixed``: the run that completed the source after that, None if there is none.
    """

    source: str
    cause: str
    times: int
    run: int
    started: datetime | None
    fixed: int | None


def failures(found: Figures) -> list[Failure]:
    """Causes of failures: first those that were not fixed, then the newest."""
    causes: dict[tuple[str, str], list[BuildPoint]] = {}
    for source in found.sources:
        for build in source.builds:
            if build.status not in _NO_FAILURE:
                causes.setdefault((source.name, build.cause or build.status), []).append(build)
    complete = {s.name: [b.run for b in s.builds if b.status == "complete"] for s in found.sources}
    listed = [
        Failure(
            source=source,
            cause=cause,
            times=len(builds),
            run=builds[-1].run,
            started=builds[-1].started,
            fixed=next((run for run in complete[source] if run > builds[-1].run), None),
        )
        for (source, cause), builds in causes.items()
    ]
    return sorted(listed, key=lambda each: (each.fixed is not None, -each.run))


def last(source: SourceFigures) -> str:
    """What the newest build took or, if it is not complete, came to."""
    if not source.builds:
        return "-"
    newest = source.builds[-1]
    if newest.status != BuildStatus.COMPLETE:
        return newest.status
    return took(newest.seconds)


def took(seconds: float | None) -> str:
    """As it stands in a column: ``4.4 s``, ``0:46``, ``1:02:03``."""
    if seconds is None:
        return "-"
    return words.clock(seconds) if seconds >= 10 else words.duration(seconds)


def number(count: int, what: str) -> str:
    """``1 run``, ``1,200 runs``"""
    return f"{count:,} {what}{'s' * (count != 1)}"
