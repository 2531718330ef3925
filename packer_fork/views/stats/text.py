"""Statistics in words, the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor

from packer_fork.model import BuildStatus
from packer_fork.statistics import Figures, SourceFigures, Statistics
from packer_fork.terminal import clean
from packer_fork.views import words


def title(statistics: Statistics) -> str:
    """``web.pkr.hcl (workspace blue)``"""
    workspace = f" (workspace {statistics.workspace})" * (statistics.workspace != "default")
    return " ".join(clean(f"{statistics.template}{workspace}").split())


def extent(found: Figures) -> str:
    """``the last 20 runs, since 2026-03-02 10:00:00 UTC``"""
    since = words.moment(found.runs[0].started)
    return f"{'the last ' * found.earlier}{number(len(found.runs), 'run')}, since {since}"


def facts(found: Figures) -> dict[str, str]:
    """What is told in a line each, by its name."""
    built = sum(len(source.builds) for source in found.sources)
    saved = f", which saved {words.duration(found.saved)}" if found.skips else ""
    return {
        "runs": f"{counts(found.ends)}; {percent(found.success)} succeeded",
        "built": f"{number(built, 'build')} in {words.duration(found.built)}",
        "skipped": f"{number(found.skips, 'build')}{saved}",
        "waited": waits(found),
    }


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
