"""Statistics of a state, as a view of its collected history, and the file of the page."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from math import fsum
from pathlib import Path

from msgspec import Struct, structs

from packer_fork import durable
from packer_fork.codec.builds import decode_once
from packer_fork.errors import PackerForkError, StoreError
from packer_fork.manager.build import results
from packer_fork.manager.reports.collector import SourceRecord, StepKey, StepRecord, Window, collect
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import Build, State
from packer_fork.statistics import (
    Figures,
    Latest,
    RunPoint,
    SourceFigures,
    Statistics,
    StepFigures,
    spread,
    success,
)
from packer_fork.stores.base import Store


class GatheredStatistics(Struct, frozen=True):
    """The statistics of one state, or the error that prevents them."""

    statistics: Statistics
    error: PackerForkError | None


def of(places: Iterable[StateRef], window: Window) -> list[GatheredStatistics]:
    return [_gathered(place, window) for place in places]


def _gathered(place: StateRef, window: Window) -> GatheredStatistics:
    found: Figures | None = None
    error: PackerForkError | None = None
    try:
        found = figures(place.store, window)
    except PackerForkError as why:
        error = why
    statistics = Statistics(
        template=place.folder.label,
        workspace=place.folder.workspace,
        location=place.store.location,
        at=datetime.now(UTC),
        figures=found,
        error=error.message if error else None,
    )
    return GatheredStatistics(statistics, error)


def figures(store: Store, window: Window) -> Figures:
    """Read the history. Raises DamagedError, NewerFormatError, StoreError."""
    state = store.read()
    found = collect(store, state, window)
    sources = tuple(_source(name, record) for name, record in found.sources.items())
    builds = (point for each in sources for point in each.builds)
    ends = Counter(point.status for point in found.runs)
    return Figures(
        earlier=found.earlier,
        ends=ends,
        success=success(ends),
        built=fsum(point.seconds for point in builds if point.seconds is not None),
        skips=sum(each.skips for each in sources),
        saved=fsum(each.saved for each in sources),
        locks=len(found.locks),
        waits=spread(lock.waited for lock in found.locks if lock.waited),
        runs=tuple(_with_log(run, store.logs) for run in reversed(found.runs)),
        sources=sources,
        artifacts=tuple(_latest(_builds(state))),
    )


def _with_log(run: RunPoint, logs: Path) -> RunPoint:
    """`run` with the path of its log, as far as that is on this machine."""
    path = logs / run.log
    return structs.replace(run, log=str(path) if run.log and path.is_file() else "")


def _builds(state: State | None) -> Iterator[Build]:
    return map(decode_once, state.builds.values()) if state else iter(())


def _source(name: str, record: SourceRecord) -> SourceFigures:
    ends = Counter(point.status for point in record.builds)
    complete = {
        point.run: point.seconds
        for point in record.builds
        if point.status == "complete" and point.seconds is not None
    }
    return SourceFigures(
        name=name,
        ends=ends,
        success=success(ends),
        took=spread(complete.values()),
        skips=len(record.saved),
        saved=fsum(record.saved),
        builds=tuple(reversed(record.builds)),
        steps=tuple(_step(key, step) for key, step in record.steps.items()),
    )


def _step(key: StepKey, step: StepRecord) -> StepFigures:
    kind, place, type_, name = key
    return StepFigures(
        kind=kind, place=place, type=type_, name=name, failed=step.failed, took=spread(step.seconds)
    )


def _latest(builds: Iterable[Build]) -> Iterator[Latest]:
    for build in builds:
        if complete := results.complete(structs.replace(build, revoked={})):
            newest = complete[-1]
            yield Latest(
                build=build.name,
                run=newest.run,
                ended=newest.ended,
                artifacts=tuple(
                    dict.fromkeys(a.id or a.string for a in newest.artifacts if a.id or a.string)
                ),
                revoked=build.revoked.get(str(newest.run)),
            )


def write(page: str, path: Path) -> None:
    """Replace the file in one step; only its owner may read it, as with the states.

    Raises StoreError.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "it is no file")  # noqa: TRY301 (of the same sentence)
        durable.replace(target, page.encode(), durable=False)
    except OSError as error:
        raise StoreError(
            f"The statistics cannot be written to {path}: {error.strerror}.",
            hint="Make the folder writable, or choose another path.",
        ) from error
