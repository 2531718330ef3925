"""What recorded histories prove of leased tenures, for the checker. Pure: no clock, no files."""

from __future__ import annotations

from collections.abc import Iterable

from stress.checker import Acquired, AnyEvent, Closed, Committed, Released


def proven(events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """Each tenure as long as it is proven to have lasted: until its last change was begun.

    The holder of a lease may be frozen when that ends, and note too late whatever it notes;
    but what was acknowledged was committed while nobody else had the lock. Of a tenure
    without a change nothing is proven.
    """
    recorded = tuple(events)
    committed = [event for event in recorded if isinstance(event, Committed)]
    last: dict[int, int] = {}
    for each in committed:
        last[each.tenure] = max(each.begun, last.get(each.tenure, 0))
    held = [event for event in recorded if isinstance(event, Acquired) and event.tenure in last]
    closed = [event for event in recorded if isinstance(event, Closed)]
    ends = [Released(tenure=tenure, at=at) for tenure, at in last.items()]
    return [*held, *committed, *closed, *ends]
