"""Points in time as a command line gives them."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, time, timedelta


def parse(option: str, given: str | None, *, end: bool = False) -> datetime | None:
    """A date or time (local, unless it names a time zone), or a duration before now.

    A date alone is its first moment or, with `end`, its last.
    """
    from packer_fork.config import parse_duration
    from packer_fork.errors import UsageError

    if given is None:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        day = date.fromisoformat(given)
        return datetime.combine(day, time.max if end else time.min).astimezone(UTC)
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.now(UTC) - timedelta(seconds=parse_duration(given))
    try:
        return datetime.fromisoformat(given).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{option}: {given!r} is not a time",
            hint="write it like 7d, 12h, 2026-03-02 or 2026-03-02T10:00:00Z",
        ) from error
