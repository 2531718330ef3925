"""How large a run of the suite is: from two minutes on CI to a soak of hours."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Scale(NamedTuple):
    """``seconds`` is how long a load goes on, ``times`` multiplies the ancestor's counts.

    ``samples`` is how many places of very many are tried, 0 for every one.
    """

    name: str
    seconds: float
    times: int
    samples: int

    def some(self, count: int) -> range:
        """Indexes into `count` places, evenly spread: as many as there are samples."""
        step = max(1, count // self.samples) if self.samples else 1
        return range(0, count, step)


class Size(StrEnum):
    CI = "ci"
    STRESS = "stress"
    SOAK = "soak"


SCALES = {
    Size.CI: Scale("ci", seconds=5, times=1, samples=12),
    Size.STRESS: Scale("stress", seconds=60, times=10, samples=200),
    Size.SOAK: Scale("soak", seconds=3600, times=10, samples=0),
}
