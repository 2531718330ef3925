"""What recorded histories prove of leased locks, for the checker. Pure: no clock, no files."""

from __future__ import annotations

from collections.abc import Iterable

from stress.checker import Acquired, AnyEvent, Closed, Committed, HandedIn, Released


def proven(events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """Each lock as long as it is proven to have lasted: until its last change was begun.

    The holder of a lease may be frozen when that ends, and note too late whatever it notes;
    but what was acknowledged was committed while nobody else had the lock. Of a lock
    without a change nothing is proven. That of many holders lasts until the last change
    of any of them.
    """
    recorded = tuple(events)
    committed = [event for event in recorded if isinstance(event, Committed)]
    last: dict[tuple[str, int], int] = {}
    for each in committed:
        key = (each.scope, each.token)
        last[key] = max(each.begun, last.get(key, 0))
    given = [event for event in recorded if isinstance(event, Acquired)]
    held = [event for event in given if (event.scope, event.token) in last]
    told = [event for event in recorded if isinstance(event, Closed | HandedIn)]
    ends = [Released(scope=scope, token=token, at=at) for (scope, token), at in last.items()]
    return [*held, *committed, *told, *ends]
