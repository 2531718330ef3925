"""What the history of a state adds up to; ``stats --json`` prints it as it is.

Their fields are a contract. Times are in UTC, durations seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from math import ceil, fsum
from statistics import median

from msgspec import Struct

from packer_fork.model import BuildStatus

_LEFT_OUT = frozenset({BuildStatus.CANCELLED, BuildStatus.SKIPPED})
"""What came to an end at somebody's word: neither a success nor a failure."""


class Spread(Struct, frozen=True, kw_only=True):
    """Durations, summed up; nine of ten are not above ``p90``, which is one of them."""

    count: int
    total: float
    median: float
    p90: float
    longest: float


class RunPoint(Struct, frozen=True, kw_only=True):
    """A run that has ended. ``waited`` stands with the first run of each lock alone.

    ``log``: the file on this machine, empty if there is none.
    """

    run: int
    started: datetime
    status: str
    seconds: float | None
    waited: float
    log: str = ""


class BuildPoint(Struct, frozen=True, kw_only=True):
    """A build that has ended; ``started`` and ``seconds`` are None if it never began.

    ``cause``: why it failed, empty if it did not.
    """

    run: int
    started: datetime | None
    status: str
    seconds: float | None
    cause: str = ""


class StepFigures(Struct, frozen=True, kw_only=True):
    """A step of one ``kind``, ``provisioner`` or ``post-processor``, by its ``place`` from 1 on.

    ``took`` is of those that are complete.
    """

    kind: str
    place: int
    type: str
    name: str
    failed: int
    took: Spread | None


class SourceFigures(Struct, frozen=True, kw_only=True):
    """A source: ``took`` is of its complete builds, ``builds`` are all, the newest last."""

    name: str
    ends: Mapping[str, int]
    success: float | None
    took: Spread | None
    skips: int
    saved: float
    builds: tuple[BuildPoint, ...]
    steps: tuple[StepFigures, ...]


class Latest(Struct, frozen=True, kw_only=True):
    """The newest complete run of a build; ``revoked``: why it is not to be used, if so."""

    build: str
    run: int
    ended: datetime | None
    artifacts: tuple[str, ...]
    revoked: str | None


class Figures(Struct, frozen=True, kw_only=True):
    """``earlier``: whether there are runs before these, which do not count.

    ``built`` is what all builds took, ``locks`` how many were had, ``waits`` are those that
    had to be waited for. ``runs`` have the newest last.
    """

    earlier: bool
    ends: Mapping[str, int]
    success: float | None
    built: float
    skips: int
    saved: float
    locks: int
    waits: Spread | None
    runs: tuple[RunPoint, ...]
    sources: tuple[SourceFigures, ...]
    artifacts: tuple[Latest, ...]


class Statistics(Struct, frozen=True, kw_only=True):
    """One state, as of ``at``; either ``figures`` or ``error`` is None."""

    template: str
    workspace: str
    location: str
    at: datetime
    figures: Figures | None
    error: str | None


def spread(seconds: Iterable[float]) -> Spread | None:
    """None if there are none."""
    values = sorted(seconds)
    if not values:
        return None
    return Spread(
        count=len(values),
        total=fsum(values),
        median=median(values),
        p90=values[ceil(len(values) * 0.9) - 1],
        longest=values[-1],
    )


def success(ends: Mapping[str, int]) -> float | None:
    """The share that is complete of all that were not cancelled; None if there are none."""
    tried = sum(count for status, count in ends.items() if status not in _LEFT_OUT)
    return ends.get(BuildStatus.COMPLETE, 0) / tried if tried else None
