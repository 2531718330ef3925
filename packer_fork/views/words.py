"""Times, ages and sizes in the words of a person."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from packer_fork.model import Artifact

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """The two largest units: "2 h 5 min", "41 s", "0.4 s"."""
    if seconds < 0.05:
        return "under 1 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    left = round(seconds)
    said: list[str] = []
    for size, unit in _UNITS:
        if left >= size and len(said) < 2:
            said.append(f"{left // size} {unit}")
            left %= size
    return " ".join(said)


def age(then: datetime, now: datetime | None = None) -> str:
    return f"{duration(((now or datetime.now(UTC)) - then).total_seconds())} ago"


def moment(then: datetime) -> str:
    """In the reader's own time zone, which is named."""
    return then.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def size(number: int) -> str:
    """In decimal units, as disks are sold: "1.2 GB"."""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}" if unit != "B" else f"{number} B"
        amount /= 1000
    return f"{amount:.3g} TB"


def count(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def artifacts(made: Iterable[Artifact]) -> str:
    """IDs, or descriptions of what has none, each once."""
    return ", ".join(dict.fromkeys(a.id or a.string for a in made if a.id or a.string))


def clock(seconds: float) -> str:
    """``0:07``, ``12:30``, ``1:02:03``."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
