"""A circuit, and what becomes of it: pure functions of what it is and of the time."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from packer_fork.terminal import clean

THRESHOLD = 5
"""Failures in a row that open the circuit."""

LONGEST = 15.0
"""Seconds for which no attempt is made at the most, whatever becomes of the clock."""

_MOST_REASON = 500
_YEAR_3000 = 32503680000


class Phase(StrEnum):
    """Closed: attempts are made. Open: none. Half-open: one is due, or under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Circuit(Struct, frozen=True, omit_defaults=True):
    """What the file holds. Times are seconds since the epoch.

    ``failures`` in a row, ``since`` the first of them, ``reason`` of the last. From ``again``
    on an attempt may be made. ``probe`` names the attempt that is let through until then.
    """

    failures: Annotated[int, Meta(ge=0)] = 0
    since: Annotated[float, Meta(ge=0, le=_YEAR_3000)] = 0.0
    reason: str = ""
    again: float = 0.0
    probe: str = ""


class Status(Struct, frozen=True):
    """The breaker, to be shown; ``wait``: seconds until an attempt may be made."""

    phase: Phase
    failures: int
    since: float
    reason: str
    wait: float

    def __str__(self) -> str:
        if self.phase is Phase.CLOSED:
            return str(self.phase)
        since = datetime.fromtimestamp(self.since, UTC)
        next_try = f"next try in {math.ceil(self.wait)} s" if self.wait else "a try is due"
        return (
            f"{self.phase} ({self.failures} failures since {since:%Y-%m-%d %H:%M:%S} UTC, "
            f"{next_try}; the last one: {self.reason})"
        )


def remaining(circuit: Circuit, now: float) -> float:
    """Seconds until an attempt may be made. A time too far ahead: the clock was set back."""
    wait = circuit.again - now
    return wait if circuit.failures >= THRESHOLD and 0 < wait <= LONGEST else 0.0


def phase(circuit: Circuit, now: float) -> Phase:
    if circuit.failures < THRESHOLD:
        return Phase.CLOSED
    is_due = bool(circuit.probe) or remaining(circuit, now) == 0
    return Phase.HALF_OPEN if is_due else Phase.OPEN


def admit(circuit: Circuit, now: float, attempt: str, timeout: float) -> tuple[Circuit, bool]:
    """Whether `attempt` may be made; if it is the probe, it has `timeout` seconds."""
    if circuit.failures < THRESHOLD:
        return circuit, True
    if remaining(circuit, now) > 0:
        return circuit, False
    return replace(circuit, probe=attempt, again=now + min(timeout, LONGEST)), True


def failed(circuit: Circuit, now: float, attempt: str, reason: str, spread: float) -> Circuit:
    """After the failure of `attempt`; `spread`, from 0 to 1, sets the clients apart.

    An attempt from before the circuit was opened, or a probe that was given up, tells nothing new.
    """
    if circuit.failures >= THRESHOLD and circuit.probe != attempt:
        return circuit
    failures = circuit.failures + 1
    return Circuit(
        failures=failures,
        since=circuit.since if circuit.failures else now,
        reason=clean(reason)[:_MOST_REASON],
        again=now + period(failures, spread),
    )


def period(failures: int, spread: float) -> float:
    """Seconds without an attempt after so many failures: doubled each time, less up to half."""
    if failures < THRESHOLD:
        return 0.0
    return min(LONGEST, 2.0 ** min(failures - THRESHOLD, 4)) * (1 - spread / 2)
