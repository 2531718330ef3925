"""The checker finds each kind of wrong in a history made by hand, and nothing in a good one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from stress import recorder
from stress.checker import (
    Acquired,
    AnyEvent,
    Closed,
    Committed,
    HandedIn,
    Joined,
    Kept,
    Killed,
    Released,
    violations,
)

ROOT = Path(__file__).parents[1]


def got(token: int, at: int, *, process: str = "p", ticket: int = 0) -> Acquired:
    return Acquired(
        token=token, lock=f"lock{token}", process=process, asked=at - 1, got=at, ticket=ticket
    )


def held(token: int, start: int, end: int, *, ticket: int = 0) -> list[AnyEvent]:
    return [got(token, start, ticket=ticket), Released(token=token, at=end)]


def committed(token: int, serial: int, begun: int) -> Committed:
    return Committed(
        token=token, serial=serial, mark=f"m{serial}", begun=begun, acknowledged=begun + 1
    )


GOOD: list[AnyEvent] = [
    *held(1, 10, 20, ticket=1),
    committed(1, 1, 12),
    got(2, 30, process="dies", ticket=2),
    committed(2, 2, 31),
    Killed(process="dies", at=40),
    got(5, 50, process="closed", ticket=4),
    committed(5, 3, 51),
    Closed(token=5, asked=60, at=70),
    got(6, 65, ticket=0),
    committed(6, 4, 66),
    Released(token=6, at=80),
    Released(token=5, at=90),
    *held(7, 95, 99, ticket=6),
]
KEPT = [Kept(1, 1, "m1"), Kept(2, 2, "m2"), Kept(3, 5, "m3"), Kept(4, 6, "m4")]


def test_a_good_history_is_proven_in_whatever_order_it_was_written() -> None:
    assert violations(GOOD, KEPT, in_order=True) == ()
    assert violations(reversed(GOOD), reversed(KEPT), in_order=True) == ()


def test_an_unacknowledged_change_may_be_there() -> None:
    assert violations(GOOD, [*KEPT, Kept(5, 7, "of one that was killed")]) == ()


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([*held(1, 10, 20), *held(2, 19, 30)], "token 2 began while token 1 was open"),
        ([*held(1, 10, 90), *held(2, 20, 30), *held(3, 40, 50)], "token 3 began while token 1"),
        ([got(1, 10), *held(2, 20, 30)], "token 1 was open, which never ended"),
        (
            [got(1, 10, process="a"), Killed(process="b", at=12), *held(2, 20, 30)],
            "token 1 was open, which never ended",
        ),
        (
            [got(1, 10), Killed(process="p", at=25), *held(2, 20, 30)],
            "token 1 was open, which ended 5 ns later",
        ),
        (
            [got(1, 10), Closed(token=1, asked=25, at=40), *held(2, 20, 30)],
            "token 1 was open, which ended 5 ns later",
        ),
    ],
)
def test_overlapping_lock_are_found(events: list[AnyEvent], says: str) -> None:
    assert any(says in said for said in violations(events))


def test_a_token_that_falls_or_comes_twice_is_found() -> None:
    (said,) = violations([*held(2, 10, 20), *held(1, 30, 40)])
    assert said == "token 1 was given out after token 2"
    again = violations([*held(1, 10, 20), *held(1, 30, 40)])
    assert again == ("token 1 was given out 2 times", "lock lock1 was given out 2 times")


def test_a_lock_that_was_closed_before_its_holder_could_note_it_overlaps_nothing() -> None:
    closed = Closed(token=1, asked=10, at=20)
    assert violations([*held(2, 20, 40), got(1, 30), closed]) == ()


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (KEPT[:3], "change m4 was acknowledged and is there 0 times"),
        ([*KEPT, Kept(5, 6, "m4")], "change m4 was acknowledged and is there 2 times"),
        (
            [*KEPT[:3], Kept(5, 6, "m4")],
            "change m4 was acknowledged as serial 4 of token 6 and is serial 5 of token 6",
        ),
        (
            [*KEPT[:3], Kept(4, 7, "m4")],
            "change m4 was acknowledged as serial 4 of token 6 and is serial 4 of token 7",
        ),
    ],
)
def test_an_acknowledged_change_that_is_not_there_once_is_found(
    kept: list[Kept], says: str
) -> None:
    assert violations(GOOD, kept) == (says,)


def test_a_serial_that_is_there_twice_is_found() -> None:
    (said,) = violations(GOOD, [*KEPT, Kept(4, 6, "other")])
    assert said.startswith("serial 4 is there twice")


def test_a_change_begun_after_its_lock_was_closed_is_found() -> None:
    late = committed(5, 5, 75)
    said = violations([*GOOD, late], [*KEPT, Kept(5, 5, "m5")])
    assert "token 5 committed m5 5 ns after it was closed" in said
    assert "serial 5 is of token 5, after serial 4 of token 6" in said


def test_a_change_of_a_closed_lock_is_found_by_its_place_alone() -> None:
    (said,) = violations(GOOD, [*KEPT, Kept(5, 5, "nobody noted when")])
    assert said == "serial 5 is of token 5, after serial 4 of token 6"


def test_a_waiter_that_passed_another_is_found_where_order_counts() -> None:
    events = [*held(1, 10, 20, ticket=3), *held(2, 30, 40), *held(3, 50, 60, ticket=2)]
    assert violations(events) == ()
    assert violations(events, in_order=True) == ("ticket 2 got the lock after ticket 3",)


def scoped(scope: str, events: list[AnyEvent]) -> list[AnyEvent]:
    return [event if isinstance(event, Killed) else replace(event, scope=scope) for event in events]


def test_each_scope_is_a_lock_of_its_own() -> None:
    events = [*scoped("a", held(1, 10, 40)), *scoped("b", held(2, 20, 50)), *held(1, 5, 90)]
    assert violations(events) == ()
    (said,) = violations([*events, *scoped("b", held(3, 49, 60))])
    assert said == "b: token 3 began while token 2 was open, which ended 1 ns later"
    (said,) = violations([*events, *scoped("a", held(0, 60, 70))])
    assert said == "a: token 0 was given out after token 1"


def test_who_is_killed_loses_its_lock_of_all_scopes() -> None:
    dies: list[AnyEvent] = [*scoped("a", [got(1, 10)]), *scoped("b", [got(2, 11)])]
    next_ones = [*scoped("a", held(3, 30, 40)), *scoped("b", held(4, 30, 40))]
    assert violations([*dies, Killed(process="p", at=20), *next_ones]) == ()
    assert len(violations([*dies, Killed(process="p", at=31), *next_ones])) == 2


def test_a_change_is_looked_for_within_its_scope() -> None:
    events = [*scoped("a", [*held(1, 10, 20), committed(1, 7, 12)]), *held(4, 5, 90)]
    assert violations(events, [Kept(7, 1, "m7", "a")]) == ()
    (said,) = violations(events, [Kept(7, 1, "m7", "b")])
    assert said == "a: change m7 was acknowledged and is there 0 times"
    (said,) = violations(events, [Kept(7, 1, "m7", "a"), Kept(8, 0, "late", "a")])
    assert said == "a: serial 8 is of token 0, after serial 7 of token 1"


def of_many(*ends: AnyEvent) -> list[AnyEvent]:
    """A token of two holders, and one that begins at 50."""
    return [got(1, 10), Joined(token=1, process="q"), *ends, got(2, 50, process="next")]


def test_a_lock_of_many_lasts_until_its_last_holder_has_ended() -> None:
    left = Released(token=1, process="p", at=20)
    for end in (Released(token=1, process="q", at=40), Killed(process="q", at=40)):
        assert violations(of_many(left, end)) == ()
    (said,) = violations(of_many(left, Released(token=1, process="q", at=51)))
    assert said == "token 2 began while token 1 was open, which ended 1 ns later"
    for first in (left, Killed(process="p", at=20)):
        (said,) = violations(of_many(first))
        assert said.endswith("token 1 was open, which never ended")


def test_what_was_handed_in_is_neither_handed_in_nor_given_out_again() -> None:
    first: list[AnyEvent] = [*held(1, 10, 20), HandedIn(token=1)]
    other = scoped("other", [*held(2, 30, 40), HandedIn(token=2)])
    assert violations([*first, *other]) == ()
    assert violations([*first, *held(2, 30, 40), HandedIn(token=2)]) == (
        "token 2 handed in what token 1 had handed in",
        "token 2 was given out after token 1 had handed in",
    )


WRITER = """
import os, sys
from pathlib import Path
from stress.checker import Released
from stress.recorder import Recorder
record = Recorder(Path(sys.argv[1]))
for at in range(500):
    record.note(Released(token=os.getpid(), at=at))
"""


def test_what_many_processes_record_is_read_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "events"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    by_writer: dict[int, list[int]] = {writer.pid: [] for writer in writers}
    for event in recorder.events(path):
        assert isinstance(event, Released)
        by_writer[event.token].append(event.at)
    assert list(by_writer.values()) == [list(range(500))] * 4


def test_a_torn_record_is_no_history(tmp_path: Path) -> None:
    path = tmp_path / "events"
    recorder.Recorder(path).note(Released(token=1, at=1))
    os.truncate(path, path.stat().st_size - 5)
    with pytest.raises(ValueError, match="truncated"):
        recorder.events(path)
