"""Where durations stand between the lines of a plot, and what these and its dates are called."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil

from msgspec import Struct

_STEPS = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30),
    *(60, 120, 300, 600, 1200, 1800),
    *(3600, 7200, 14400, 28800, 43200, 86400),
)
"""Seconds between two lines: what is round to people."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))

_LINES = 3
"""Above zero at the most."""


class Scale(Struct, frozen=True):
    """From zero to ``top``, with a line at each multiple of ``step``."""

    top: float
    step: float

    @property
    def lines(self) -> list[float]:
        return [self.step * number for number in range(1, round(self.top / self.step) + 1)]


def scale(longest: float) -> Scale:
    """The smallest on which `longest` seconds can be shown."""
    days = _STEPS[-1] * ceil(longest / _LINES / _STEPS[-1])
    step = next((step for step in _STEPS if step * _LINES >= longest), days)
    return Scale(step * max(1, ceil(longest / step)), step)


def name(seconds: float) -> str:
    """Of a line, in one unit: ``0.5 s``, ``5 min``, ``1.5 h``."""
    size, unit = next((each for each in _UNITS if seconds >= each[0]), (1, "s"))
    return f"{seconds / size:g} {unit}"


def dates(moments: Sequence[datetime]) -> list[str]:
    """As exact as it takes to tell them apart, in the reader's time zone."""
    local = [moment.astimezone() for moment in moments]
    if not local:
        return []
    if len({moment.date() for moment in local}) == 1:
        form = "%H:%M"
    elif max(local) - min(local) < timedelta(days=6):
        form = "%a %H:%M"
    else:
        form = "%Y-%m-%d"
    return [moment.strftime(form) for moment in local]
