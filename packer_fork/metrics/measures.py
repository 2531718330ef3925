"""What is measured of one state. Times are seconds, sizes bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from packer_fork.locks import Verdict
from packer_fork.model import BuildStatus, RunStatus

PHASES = ("closed", "open", "half-open")
"""Of a circuit breaker."""

HOW_TAKEN = ("at_once", "waited", "taken_over")
"""By which a tenure came by the lock."""


class Now(Struct, frozen=True, kw_only=True):
    """What holds for a moment only; what cannot be had now is None.

    ``loading``: seconds that it took to read the state.
    """

    verdict: Verdict | None
    queue: int | None
    breaker: str
    failures: int
    loading: float | None


class Standing(Struct, frozen=True, kw_only=True):
    """The state as it stands: ``size`` in bytes as one document, builds by their status."""

    serial: int
    size: int
    segments: int
    builds: Mapping[BuildStatus, int]


class Past(Struct, frozen=True, kw_only=True):
    """What is on record. Times are seconds; ``reading`` is what it took to read all of it.

    ``taken`` counts the tenures that came to a run, by ``HOW_TAKEN``. ``builds`` and ``took``
    are by source and status; ``saved`` has, by source, the time that each skip was worth.
    """

    taken: Mapping[str, int]
    waited: Sequence[float]
    held: Sequence[float]
    abandoned: int
    unlocked: int
    refused: int
    commits: int
    committing: float
    runs: Mapping[RunStatus, int]
    run_took: Sequence[float]
    builds: Mapping[tuple[str, BuildStatus], int]
    took: Mapping[tuple[str, BuildStatus], Sequence[float]]
    saved: Mapping[str, Sequence[float]]
    reading: float


class Measures(Struct, frozen=True, kw_only=True):
    """Of one state; a part is None where it could not be had, or holds no longer when it is read.

    ``outbox``: results that wait to be brought in; ``files``: bytes by what they are for.
    """

    template: str
    workspace: str
    location: str
    readable: bool
    outbox: int | None
    files: Mapping[str, int]
    now: Now | None = None
    standing: Standing | None = None
    past: Past | None = None
