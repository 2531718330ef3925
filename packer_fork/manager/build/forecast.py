"""How long a run will still take, from how long its builds took before."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from msgspec import Struct

from packer_fork.codec.builds import decode_build
from packer_fork.errors import PackerForkError
from packer_fork.locks import LockStatus
from packer_fork.model import Build, Run, RunStatus
from packer_fork.stores.base import Store


class Progress(Struct, frozen=True):
    """What a run is at; ``seconds`` to go, None where no earlier run tells."""

    phase: str = ""
    seconds: float | None = None


def of_holder(store: Store, status: LockStatus) -> Progress:
    """The progress of the run that holds the lock; nothing where that cannot be read."""
    try:
        state = store.read()
    except PackerForkError:
        return Progress()
    lock = status.record.token if status.record else None
    if state is None:
        return Progress()
    run = state.last_run
    if run is None or run.status is not RunStatus.RUNNING or run.token != lock:
        return Progress()
    builds = [decode_build(state.builds[name]) for name in run.builds if name in state.builds]
    return Progress(_phase(builds), remaining(run, builds, datetime.now(UTC)))


def _phase(builds: Iterable[Build]) -> str:
    return ", ".join(
        f"{build.name} {build.status}" for build in builds if not build.status.is_final
    )


def remaining(run: Run, builds: Iterable[Build], now: datetime) -> float | None:
    """Seconds until the slowest build ends, if each takes the median of its earlier runs."""
    gone = (now - run.started).total_seconds()
    known = [usual(build) for build in builds if not build.status.is_final]
    times = [seconds - gone for seconds in known if seconds is not None]
    return max(0.0, *times) if times and len(times) == len(known) else None


def usual(build: Build) -> float | None:
    """Seconds that it took in the median of its complete runs before the last."""
    times = [
        (result.ended - result.started).total_seconds()
        for result in build.results
        if result.started and result.ended
    ]
    return _median(times) if times else None


def _median(numbers: list[float]) -> float:
    """As ``statistics.median``, whose module imports fractions and random."""
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[~middle]) / 2
