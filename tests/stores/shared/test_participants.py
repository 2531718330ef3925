"""A lock that many hold at once, in each kind of store: members, claims, and who is fenced."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from packer_fork import lock_steps
from packer_fork.errors import LockLostError
from packer_fork.lock_steps import MOST_PARTICIPANTS
from packer_fork.locks import LockRecord, LockStatus, Status, Stop
from packer_fork.stores.base import HeldLock, Store
from packer_fork.stores.shared import names
from tests.conftest import eventually
from tests.support.local_store import holder
from tests.support.servers import Proxy
from tests.support.store_operations import ANY, built, changes, in_a_process, lock_of, whys
from tests.support.stores import HASTY, Ground

INPUTS = "f" * 64


@contextlib.contextmanager
def first(store: Store, *, wanted: tuple[str, ...] = ("a", "b", "c")) -> Iterator[HeldLock]:
    """The member that opens the lock for others."""
    found = store.try_acquire(holder("first"), max_participants=MOST_PARTICIPANTS)
    assert not isinstance(found, LockStatus), found
    with contextlib.closing(found):
        found.update(lambda share, _: lock_steps.admit(share, inputs=INPUTS, run=1, wanted=wanted))
        yield found


def join(store: Store, lock: HeldLock, inputs: str = INPUTS) -> HeldLock:
    found = store.join(holder("another"), lock_id=lock.record.id, inputs=inputs)
    assert found is not None
    return found


def claim(member: HeldLock, source: str) -> LockRecord | None:
    return member.update(
        lambda share, dead: lock_steps.claim(share, source, member.participant.number, dead)
    )


def test_nobody_joins_before_it_is_known_what_is_built(ground: Ground) -> None:
    store = ground.open()
    found = store.try_acquire(holder("first"), max_participants=MOST_PARTICIPANTS)
    assert not isinstance(found, LockStatus)
    with contextlib.closing(found):
        assert store.join(holder("x"), lock_id=found.record.id, inputs="") is None
        assert store.join(holder("x"), lock_id=found.record.id, inputs=INPUTS) is None


def test_exclusive_lock_admits_one_participant(ground: Ground) -> None:
    """Even if a step admitted others."""
    store = ground.open()
    with lock_of(store) as lock:
        lock.update(lambda record, _: lock_steps.admit(record, inputs=INPUTS, run=1, wanted=("a",)))
        assert store.join(holder("x"), lock_id=lock.record.id, inputs=INPUTS) is None
        lock.commit(built(1))
    assert whys(store) == ["1"]


def test_only_who_builds_the_same_joins(ground: Ground) -> None:
    store, other = ground.open(), ground.open(machine="there")
    with first(store) as member:
        assert other.join(holder("x"), lock_id=member.record.id, inputs="e" * 64) is None
        assert other.join(holder("x"), lock_id="another", inputs=INPUTS) is None
        with contextlib.closing(join(other, member)) as second:
            assert (member.participant.number, second.participant.number) == (1, 2)
            assert second.record.token == member.record.token
            status = store.status()
            assert status.status is Status.HELD
            assert [each.status for each in status.participants] == [Status.HELD] * 2


def test_the_lock_is_free_when_the_last_one_has_left(ground: Ground) -> None:
    store, other = ground.open(), ground.open(machine="there")
    with first(store) as member:
        second = join(other, member)
    assert store.status().status is Status.HELD
    assert isinstance(other.try_acquire(holder("x")), LockStatus)
    second.close()
    assert store.status().status is Status.FREE
    with lock_of(other) as lock:
        assert lock.record.token == second.record.token + 1


def test_a_source_is_claimed_by_one_at_a_time(ground: Ground) -> None:
    store, other = ground.open(), ground.open(machine="there")
    with first(store) as member, contextlib.closing(join(other, member)) as second:
        assert claim(member, "a") is not None
        assert claim(second, "a") is None
        assert claim(second, "b") is not None
        share, dead = member.look()
        assert [(c.source, c.participant, c.number) for c in share.claims] == [
            ("a", 1, 1),
            ("b", 2, 2),
        ]
        assert dead == frozenset()
        member.update(lambda share, _: lock_steps.return_claim(share, "a", 1))
        assert claim(second, "a") is not None
        assert [c.number for c in second.look()[0].claims] == [2, 3]


def test_what_is_handed_in_twice_is_done_once(ground: Ground) -> None:
    """As when an answer was lost, and the record has changed since."""
    with first(ground.open()) as member:
        claim(member, "a")
        for _ in range(2):
            member.update(lambda share, _: lock_steps.complete(share, "a", 1))
        assert member.look()[0].done == ("a",)
        assert claim(member, "a") is None


def test_all_members_commit_and_their_changes_are_all_there(ground: Ground) -> None:
    stores = [ground.open(machine=f"m{number}") for number in range(4)]
    with first(stores[0]) as member:
        members = [member, *(join(store, member) for store in stores[1:])]
        marks = {n: range(n * 100, n * 100 + 8) for n in range(4)}

        def work(number: int) -> None:
            for mark in marks[number]:
                members[number].commit(built(mark))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in members[1:]:
            each.close()
    found = whys(stores[0])
    assert sorted(found) == sorted(str(mark) for ours in marks.values() for mark in ours)
    for ours in marks.values():
        assert [why for why in found if int(why) in ours] == [str(mark) for mark in ours]
    assert stores[0].verify().problems == ()


def test_no_source_is_ever_claimed_twice_by_many_at_once(ground: Ground) -> None:
    stores = [ground.open(machine=f"m{number}") for number in range(4)]
    wanted = tuple(f"s{number}" for number in range(12))
    with first(stores[0], wanted=wanted) as member:
        members = [member, *(join(store, member) for store in stores[1:])]
        had: list[str] = []

        def work(each: HeldLock) -> None:
            had.extend(source for source in wanted if claim(each, source))

        threads = [threading.Thread(target=work, args=(each,)) for each in members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(had) == sorted(wanted)
        for each in members[1:]:
            each.close()


def test_who_leaves_gives_back_what_it_had_claimed(ground: Ground) -> None:
    store, other = ground.open(), ground.open(machine="there")
    with first(store) as member:
        second = join(other, member)
        claim(second, "a")
        second.close()
        assert claim(member, "a") is not None
        with pytest.raises(LockLostError):
            second.commit(built(1))


def test_a_dead_member_loses_its_claim_with_its_membership(ground: Ground) -> None:
    store = ground.open()
    with first(store) as member:

        def work() -> bool:
            second = join(ground.open(), member)
            return claim(second, "a") is not None

        with in_a_process(work):
            assert claim(member, "a") is None
        eventually(lambda: member.look()[1] == {2})
        share = claim(member, "a")
        assert share is not None
        assert [each.number for each in share.participants] == [1]


def test_dead_participant_loses_its_key_with_its_place_in_the_record(shared: Ground) -> None:
    """Its lease would live on, and fence nothing any more."""
    store = shared.open()
    with first(store) as member:

        def work() -> bool:
            return claim(join(shared.open(), member), "a") is not None

        with in_a_process(work):
            key = names.participant(1, 2)
            assert shared.keys().get(key) is not None
        eventually(lambda: member.look()[1] == {2})
        assert shared.keys().get(key) is not None
        assert claim(member, "a") is not None
        assert shared.keys().get(key) is None


def test_member_that_takes_its_place_back_keeps_what_it_had_claimed(shared: Ground) -> None:
    """Also from another that has just found it dead, and is about to write that."""
    with Proxy(shared.endpoints[0]) as proxy, first(shared.open()) as member:
        store = shared.open(machine="there", endpoints=(proxy.endpoint,), access=HASTY)
        with contextlib.closing(join(store, member)) as second:
            assert claim(second, "a")
            proxy.refuse()
            item = shared.keys().get(names.participant(1, second.participant.number))
            assert item is not None
            shared.keys().revoke(item.lease)
            found: list[frozenset[int]] = []

            def step(share: LockRecord, dead: frozenset[int]) -> LockRecord | None:
                if not found:
                    proxy.let_pass()
                    second.commit(built(1))
                found.append(dead)
                return lock_steps.claim(share, "a", member.participant.number, dead)

            assert member.update(step) is None
            assert found == [{second.participant.number}, frozenset()]
            second.commit(built(2))
            assert [each.participant for each in second.look()[0].claims] == [
                second.participant.number
            ]
    assert whys(shared.open()) == ["1", "2"]


def test_a_lock_whose_members_are_all_dead_is_abandoned(ground: Ground) -> None:
    store = ground.open()

    def work() -> bool:
        found = ground.open().try_acquire(holder("first"), max_participants=MOST_PARTICIPANTS)
        return not isinstance(found, LockStatus)

    with in_a_process(work):
        assert store.status().status is Status.HELD
    eventually(lambda: store.status().status is Status.ABANDONED)
    with lock_of(store) as lock:
        assert lock.replaced is not None
        assert lock.record.token == 2


def test_an_operator_closes_the_lock_for_all(ground: Ground) -> None:
    store, other = ground.open(), ground.open(machine="there")
    with first(store) as member, contextlib.closing(join(other, member)) as second:
        member.commit(built(1))
        with lock_of(ground.open(machine="operator"), over=ANY, lock_id=member.record.id):
            for each in (member, second):
                with pytest.raises(LockLostError):
                    each.commit(built(2))
                with pytest.raises(LockLostError):
                    claim(each, "a")
    assert whys(store) == ["1"]
    assert store.status().status is Status.FREE


def test_an_operator_closes_the_membership_of_one_that_lives(ground: Ground) -> None:
    store, other = ground.open(), ground.open(machine="there")
    with first(store) as member, contextlib.closing(join(other, member)) as second:
        claim(second, "a")
        by = member.participant.holder.by
        operator = ground.open(machine="operator")
        assert operator.expel(member.record.id, 2, by=by, why="it hangs")
        assert not operator.expel(member.record.id, 2, by=by, why="it hangs")
        with pytest.raises(LockLostError):
            second.commit(built(2))
        assert claim(member, "a") is not None
        member.commit(built(1))
    assert whys(store) == ["1"]
    assert [c.why for c in changes(store) if c.operation == "force-unlock"] == ["it hangs"]


def test_once_stopped_nobody_claims_or_joins(ground: Ground) -> None:
    store, other = ground.open(), ground.open(machine="there")
    with first(store) as member, contextlib.closing(join(other, member)) as second:
        by = member.participant.holder.by
        stop = Stop(at=member.record.created, by=by, why="a failed")
        assert second.update(lambda share, _: lock_steps.stop_all(share, stop)) is not None
        assert member.look()[0].stop == stop
        assert claim(member, "a") is None
        assert other.join(holder("x"), lock_id=member.record.id, inputs=INPUTS) is None


def test_one_alone_concludes_and_only_when_nobody_builds(ground: Ground) -> None:
    store, other = ground.open(), ground.open(machine="there")
    with first(store) as member, contextlib.closing(join(other, member)) as second:

        def conclude(each: HeldLock) -> LockRecord | None:
            return each.update(
                lambda share, dead: lock_steps.conclude(share, each.participant.number, dead)
            )

        claim(second, "a")
        assert conclude(member) is None
        second.update(lambda share, _: lock_steps.return_claim(share, "a", 2))
        assert conclude(member) is not None
        assert conclude(second) is None
        assert claim(second, "b") is None


def test_whoever_waits_gets_the_lock_after_the_last_member(ground: Ground) -> None:
    store, other = ground.open(), ground.open(machine="there")
    got = threading.Event()

    def wait() -> None:
        ticket = other.join_queue(holder("waits"))
        while isinstance(found := other.try_acquire(holder("waits"), ticket=ticket), LockStatus):
            ticket.wait(5)
        got.set()
        found.close()

    with first(store) as member:
        second = join(ground.open(machine="third"), member)
        waiting = threading.Thread(target=wait)
        waiting.start()
        eventually(lambda: len(store.status().waiters) == 1)
    assert not got.is_set()
    second.close()
    waiting.join(30)
    assert got.is_set()
