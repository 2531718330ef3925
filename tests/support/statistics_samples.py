"""Statistics in the making, for tests of what is shown of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat

from packer_fork.model import BuildStatus
from packer_fork.statistics import (
    BuildPoint,
    Figures,
    Latest,
    RunPoint,
    SourceFigures,
    Statistics,
    StepFigures,
    spread,
    success,
)

START = datetime(2026, 1, 5, 15, tzinfo=UTC)

Ends = Sequence[tuple[str, float]]
"""What builds came to, and the seconds that they took, the newest last."""


def runs(ends: Ends, waits: Sequence[float] = ()) -> tuple[RunPoint, ...]:
    """Two a day, of which the first waited."""
    waited_for = [*waits, *repeat(0.0, len(ends) - len(waits))]
    return tuple(
        RunPoint(
            run=number,
            started=START + timedelta(hours=12 * (number - 1)),
            status=status,
            seconds=seconds,
            waited=waited,
        )
        for number, ((status, seconds), waited) in enumerate(zip(ends, waited_for, strict=True), 1)
    )


def source(name: str, ends: Ends, *, saved: Sequence[float] = ()) -> SourceFigures:
    """One build a run, with one step that took all of it."""
    complete = [seconds for status, seconds in ends if status == BuildStatus.COMPLETE]
    counted = Counter(status for status, _ in ends)
    step = StepFigures(
        kind="provisioner",
        place=1,
        type="shell",
        name="install",
        failed=counted["failed"],
        took=spread(complete),
    )
    return SourceFigures(
        name=name,
        ends=counted,
        success=success(counted),
        took=spread(complete),
        skips=len(saved),
        saved=sum(saved),
        builds=tuple(
            BuildPoint(run=each.run, started=each.started, status=each.status, seconds=each.seconds)
            for each in runs(ends)
        ),
        steps=(step,) if ends else (),
    )


def statistics(
    *sources: SourceFigures,
    template: str = "t.pkr.hcl",
    ends: Ends = (("complete", 60.0),),
    waits: Sequence[float] = (),
    earlier: bool = False,
) -> Statistics:
    found = runs(ends, waits)
    counted = Counter(status for status, _ in ends)
    figures = Figures(
        earlier=earlier,
        ends=counted,
        success=success(counted),
        built=sum(each.seconds or 0 for source in sources for each in source.builds),
        skips=sum(each.skips for each in sources),
        saved=sum(each.saved for each in sources),
        locks=len(found),
        waits=spread(waits),
        runs=found,
        sources=sources,
        artifacts=tuple(
            Latest(build=s.name, run=1, ended=START, artifacts=("ami-1",), revoked=None)
            for s in sources
        ),
    )
    return Statistics(
        template=template,
        workspace="default",
        location=f"/states/{template}",
        at=START,
        figures=figures,
        error=None,
    )
