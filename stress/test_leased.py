"""What is proven of a leased token: no more than that it lasted until its last change."""

from collections.abc import Sequence

from msgspec.structs import replace

from stress.checker import (
    Acquired,
    AnyEvent,
    Closed,
    Committed,
    HandedIn,
    Joined,
    Released,
    violations,
)
from stress.leased import proven


def got(token: int, at: int) -> Acquired:
    return Acquired(token=token, lock=f"lock{token}", process=f"p{token}", asked=at - 1, got=at)


def changed(token: int, begun: int) -> Committed:
    mark = f"{token}.{begun}"
    return Committed(token=token, serial=begun, mark=mark, begun=begun, acknowledged=begun + 1)


def in_scope(events: Sequence[AnyEvent]) -> list[AnyEvent]:
    return [replace(event, scope="a") for event in events]


def overlaps(events: list[AnyEvent]) -> list[str]:
    return [line for line in violations(events) if "was open" in line]


def test_a_holder_may_note_its_end_too_late() -> None:
    events: list[AnyEvent] = [
        got(1, 10),
        changed(1, 12),
        got(2, 20),
        changed(2, 22),
        Released(token=1, at=30),
    ]
    assert overlaps(events)
    assert not overlaps(proven(events))


def test_a_change_after_the_next_lock_began_is_an_overlap() -> None:
    events: list[AnyEvent] = [
        got(1, 10),
        changed(1, 12),
        got(2, 20),
        changed(1, 21),
        changed(2, 22),
    ]
    (wrong,) = overlaps(proven(events))
    assert "token 2 began while token 1 was open" in wrong


def test_a_lock_without_a_change_proves_nothing() -> None:
    assert proven([got(1, 10), Released(token=1, at=20)]) == []


def test_a_change_after_the_lock_was_forced_is_still_found() -> None:
    events: list[AnyEvent] = [got(1, 10), Closed(token=1, asked=11, at=12), changed(1, 13)]
    assert any("after it was closed" in line for line in violations(proven(events)))


def test_each_scope_is_proven_by_its_own_changes() -> None:
    whole: list[AnyEvent] = [got(1, 5), changed(1, 90)]
    frozen: list[AnyEvent] = [got(1, 10), changed(1, 12)]
    taken: list[AnyEvent] = [got(2, 20), changed(2, 22)]
    events = [*whole, *in_scope(frozen), *in_scope(taken)]
    assert not overlaps(proven(events))
    assert overlaps(proven([*events, *in_scope([changed(1, 21)])]))


def test_a_lock_of_many_lasts_until_the_last_change_of_any() -> None:
    events: list[AnyEvent] = [got(1, 10), Joined(token=1, process="q"), changed(1, 12)]
    events += [got(2, 20), changed(2, 22)]
    assert not overlaps(proven(events))
    assert overlaps(proven([*events, changed(1, 21)]))


def test_what_was_handed_in_twice_is_still_found() -> None:
    events: list[AnyEvent] = [HandedIn(token=1), HandedIn(token=2)]
    (wrong,) = violations(proven(events))
    assert wrong == "token 2 handed in what token 1 had handed in"
