"""Proves from recorded histories that a lock did what it promises. Pure: no clock, no files.

Times are CLOCK_MONOTONIC nanoseconds, which all processes of one machine share. Each is
taken so that the recorded holding lies within the real one: `got` after the lock was
there, an end before it was given away. So an overlap that is found was one.

A scope is a lock of its own, with its own tokens: "" is that of the whole state, others
are sources within a share of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TypeVar

from msgspec import Struct

FOR_EVER = 1 << 63


class Event(Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=True):
    """Base of all events."""

    scope: str = ""


class Acquired(Event, frozen=True, tag="acquired"):
    """`process` got the lock; `ticket` is its place in the order of arrival, 0 without one."""

    token: int
    lock: str
    process: str
    asked: int
    got: int
    ticket: int = 0


class Joined(Event, frozen=True, tag="joined"):
    """`process` holds that token, too, which lasts until the last of its holders has ended."""

    token: int
    process: str


class Committed(Event, frozen=True, tag="committed"):
    """A change was acknowledged; `mark` is found again in the state's history."""

    token: int
    serial: int
    mark: str
    begun: int
    acknowledged: int


class Released(Event, frozen=True, tag="released"):
    """The holder is about to give the lock back; one of many holders names itself."""

    token: int
    at: int
    process: str = ""


class HandedIn(Event, frozen=True, tag="handed_in"):
    """It was acknowledged that the scope needs no token any more."""

    token: int


class Killed(Event, frozen=True, tag="killed"):
    """The last that held a lock of `process`, be it its Packer, is about to be killed.

    So all its tokens end, whatever their scopes.
    """

    process: str
    at: int


class Closed(Event, frozen=True, tag="closed"):
    """Somebody else closed the token, between `asked` and `at`."""

    token: int
    asked: int
    at: int


class Ended(Event, frozen=True, tag="ended"):
    """A holder found that nothing is left to do in the token; `done` is what was handed in."""

    token: int
    done: tuple[str, ...]


E = TypeVar("E", bound=Event)

AnyEvent = Acquired | Joined | Committed | Released | HandedIn | Killed | Closed | Ended


class Kept(Struct, frozen=True):
    """A change as it is found in the end, in the state or its history."""

    serial: int
    token: int
    mark: str
    scope: str = ""


S = TypeVar("S", AnyEvent, Kept)


def violations(
    events: Iterable[AnyEvent], kept: Iterable[Kept] = (), *, in_order: bool = False
) -> tuple[str, ...]:
    """What contradicts the promises, in words; nothing if they are proven.

    `kept` is the whole history. `in_order`: every ticket came before all later ones.
    """
    recorded, found = tuple(events), tuple(kept)
    killed = [event for event in recorded if isinstance(event, Killed)]
    of_scope = _by_scope([event for event in recorded if not isinstance(event, Killed)])
    kept_of_scope = _by_scope(found)
    said: list[str] = []
    for scope in sorted({*of_scope, *kept_of_scope}):
        its = (*of_scope.get(scope, ()), *killed)
        wrong = _violations(its, tuple(kept_of_scope.get(scope, ())), in_order=in_order)
        said += (f"{scope}: {each}" if scope else each for each in wrong)
    return tuple(said)


def _by_scope(scoped: Iterable[S]) -> dict[str, list[S]]:
    found: dict[str, list[S]] = {}
    for each in scoped:
        found.setdefault(each.scope, []).append(each)
    return found


def _violations(
    recorded: tuple[AnyEvent, ...], found: tuple[Kept, ...], *, in_order: bool
) -> list[str]:
    """The same within one scope."""
    ends, given = _ends(recorded), _only(Acquired, recorded)
    # One that was ended before its holder could note it was never seen to be held.
    seen = (each for each in given if each.got < ends[each.token])
    held = sorted(seen, key=lambda each: each.got)
    said = [*_overlaps(held, ends), *_tokens(held), *_given_twice(given)]
    said += [*_kept(recorded, found), *_after_closing(recorded), *_fencing(found)]
    said += _after_handing_in(recorded)
    if in_order:
        said += _order(held)
    return said


def _only(kind: type[E], events: Iterable[Event]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def _ends(events: tuple[AnyEvent, ...]) -> dict[int, int]:
    """When each token ended at the latest that is proven: by its first end of any kind."""
    ends: dict[int, int] = {}
    killed = {event.process: event.at for event in _only(Killed, events)}
    let_go = _let_go(events)
    holders = [(each.token, each.process) for each in _only(Acquired, events)]
    holders += [(each.token, each.process) for each in _only(Joined, events)]
    for token, process in holders:
        last = let_go.get((token, process), FOR_EVER)
        last = min(last, killed.get(process, FOR_EVER))
        ends[token] = max(ends.get(token, 0), last)
    for (token, process), at in let_go.items():
        if not process:
            ends[token] = min(ends.get(token, FOR_EVER), at)
    for closed in _only(Closed, events):
        ends[closed.token] = min(ends.get(closed.token, FOR_EVER), closed.asked)
    return ends


def _let_go(events: tuple[AnyEvent, ...]) -> dict[tuple[int, str], int]:
    """When a holder let go of a token; the first time, if it says so for all holders."""
    found: dict[tuple[int, str], int] = {}
    for event in _only(Released, events):
        key = (event.token, event.process)
        latest_or_first = max if event.process else min
        found[key] = latest_or_first(event.at, found.get(key, event.at))
    return found


def _overlaps(held: list[Acquired], ends: dict[int, int]) -> Iterator[str]:
    last: Acquired | None = None
    for each in held:
        if last is not None and each.got < ends[last.token]:
            end = ends[last.token]
            until = "never ended" if end == FOR_EVER else f"ended {end - each.got} ns later"
            yield f"token {each.token} began while token {last.token} was open, which {until}"
        if last is None or ends[each.token] >= ends[last.token]:
            last = each


def _tokens(held: list[Acquired]) -> Iterator[str]:
    for before, after in pairwise(held):
        if after.token <= before.token:
            yield f"token {after.token} was given out after token {before.token}"


def _given_twice(given: list[Acquired]) -> Iterator[str]:
    names = (name for each in given for name in (f"token {each.token}", f"lock {each.lock}"))
    for name, times in Counter(names).items():
        if times > 1:
            yield f"{name} was given out {times} times"


def _kept(events: tuple[AnyEvent, ...], kept: tuple[Kept, ...]) -> Iterator[str]:
    by_mark: dict[str, list[Kept]] = {}
    for change in kept:
        by_mark.setdefault(change.mark, []).append(change)
    for event in _only(Committed, events):
        found = by_mark.get(event.mark, [])
        if len(found) != 1:
            yield f"change {event.mark} was acknowledged and is there {len(found)} times"
        elif (found[0].serial, found[0].token) != (event.serial, event.token):
            yield (
                f"change {event.mark} was acknowledged as serial {event.serial} of token "
                f"{event.token} and is serial {found[0].serial} of token {found[0].token}"
            )


def _after_closing(events: tuple[AnyEvent, ...]) -> Iterator[str]:
    closed = {event.token: event.at for event in _only(Closed, events)}
    for event in _only(Committed, events):
        late = event.begun - closed.get(event.token, FOR_EVER)
        if late > 0:
            yield f"token {event.token} committed {event.mark} {late} ns after it was closed"


def _after_handing_in(events: tuple[AnyEvent, ...]) -> Iterator[str]:
    """What is done is done once, and by nobody after that."""
    by = sorted(event.token for event in _only(HandedIn, events))
    for again in by[1:]:
        yield f"token {again} handed in what token {by[0]} had handed in"
    for late in _only(Acquired, events):
        if by and late.token > by[0]:
            yield f"token {late.token} was given out after token {by[0]} had handed in"


def _fencing(kept: tuple[Kept, ...]) -> Iterator[str]:
    """In the order of serials no earlier token comes after a later one."""
    for before, after in pairwise(sorted(kept, key=lambda change: change.serial)):
        if after.serial == before.serial:
            yield f"serial {after.serial} is there twice: {before.mark} and {after.mark}"
        if after.token < before.token:
            yield (
                f"serial {after.serial} is of token {after.token}, "
                f"after serial {before.serial} of token {before.token}"
            )


def _order(held: list[Acquired]) -> Iterator[str]:
    for before, after in pairwise(each for each in held if each.ticket):
        if after.ticket <= before.ticket:
            yield f"ticket {after.ticket} got the lock after ticket {before.ticket}"
