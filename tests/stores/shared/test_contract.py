"""What every store promises (``stores.base``), held by each: local, etcd, Consul."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any

import pytest
from msgspec import structs

from packer_fork.errors import LockLostError, StateError
from packer_fork.locks import LockStatus, Status
from packer_fork.model import Build, BuildStatus, PendingChange
from packer_fork.stores import base
from packer_fork.stores.archive import history
from packer_fork.stores.base import MANUAL, HeldLock
from packer_fork.stores.local import journal as local_journal
from packer_fork.stores.shared import journal as shared_journal
from packer_fork.stores.shared import names
from tests.conftest import eventually
from tests.support.local_store import holder
from tests.support.store_operations import (
    ANY,
    built,
    changes,
    in_a_process,
    lock_of,
    state_of,
    waited_for,
    whys,
)
from tests.support.stores import Ground


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compactions and segments come early."""
    for module in (local_journal, shared_journal):
        monkeypatch.setattr(module, "REST_SIZE", 4000)
    monkeypatch.setattr(history, "SEGMENT_SIZE", 8000)


def test_there_is_no_state_before_the_first_change(ground: Ground) -> None:
    store = ground.open()
    assert store.read() is None
    assert list(store.history()) == []
    assert store.backups() == ()
    assert store.status().status is Status.FREE
    assert store.verify().problems == ()


def test_what_was_committed_is_read_by_all(ground: Ground) -> None:
    store = ground.open()
    with lock_of(store) as lock:
        serials = [lock.commit(built(number)).serial for number in range(1, 8)]
        assert serials == list(range(1, 8))
        assert state_of(ground.open(machine="there")).serial == 7
    assert whys(ground.open(machine="there")) == list("1234567")
    assert set(state_of(ground.open()).builds) == {f"b{number}" for number in range(5)}
    assert store.verify().problems == ()


def test_lock_that_another_took_after_the_look_at_it_is_not_taken(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = ground.open(), ground.open(machine="there")
    may_take, faster = base.may_take, list[HeldLock | LockStatus]()

    def overtaken(*args: Any) -> bool:
        monkeypatch.undo()
        found = may_take(*args)
        faster.append(there.try_acquire(holder("faster")))
        return found

    monkeypatch.setattr(base, "may_take", overtaken)
    refused = here.try_acquire(holder("slower"))
    (lock,) = faster
    assert not isinstance(lock, LockStatus)
    with contextlib.closing(lock):
        assert isinstance(refused, LockStatus)
        assert (refused.status, refused.id) == (Status.HELD, lock.record.id)


def test_the_next_lock_goes_on(ground: Ground) -> None:
    for number in range(1, 4):
        with lock_of(ground.open()) as lock:
            assert lock.record.token == number
            assert lock.replaced is None
            assert lock.commit(built(number)).serial == number
            lock.compact()
    assert [change.token for change in changes(ground.open())] == [1, 2, 3]


def test_only_one_has_the_lock(ground: Ground) -> None:
    with lock_of(ground.open()) as lock:
        for machine in ("here", "there"):
            store = ground.open(machine=machine)
            found = store.try_acquire(holder("other"))
            assert isinstance(found, LockStatus)
            assert (found.status, found.id) == (Status.HELD, lock.record.id)
            assert store.status().record == lock.record
            assert found.evidence
        assert lock.is_open()
    assert ground.open().status().status is Status.FREE


def test_two_writers_lose_nothing(ground: Ground) -> None:
    def write(name: str) -> None:
        store = ground.open(machine=name)
        for number in range(5):
            with waited_for(store) as lock:
                lock.commit(PendingChange(operation="test", why=f"{name}{number}"))

    threads = [threading.Thread(target=write, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = whys(ground.open())
    assert sorted(found) == sorted(f"{name}{number}" for name in "xyz" for number in range(5))
    for name in "xyz":
        assert [why for why in found if why[0] == name] == [f"{name}{n}" for n in range(5)]
    assert [change.token for change in changes(ground.open())] == list(range(1, 16))


def test_those_who_wait_come_in_the_order_of_arrival(ground: Ground) -> None:
    came: list[int] = []

    def wait(number: int, here: threading.Event) -> None:
        store = ground.open(machine=f"m{number}")
        asking = holder(f"w{number}")
        ticket = store.join_queue(asking)
        here.set()
        while isinstance(found := store.try_acquire(asking, ticket=ticket), LockStatus):
            ticket.wait(5)
        came.append(number)
        ticket.leave()
        found.close()

    threads = []
    with lock_of(ground.open()):
        for number in range(5):
            here = threading.Event()
            threads.append(threading.Thread(target=wait, args=(number, here)))
            threads[-1].start()
            assert here.wait(20)
        waiters = ground.open(machine="other").status().waiters
        assert [w.holder.operation for w in waiters if w.holder] == [f"w{n}" for n in range(5)]
    for thread in threads:
        thread.join()
    assert came == list(range(5))


def test_nobody_passes_those_who_wait(ground: Ground) -> None:
    first = ground.open()
    ticket = first.join_queue(holder("first"))
    second = ground.open(machine="there").join_queue(holder("second"))
    assert (second.ahead, second.place(), ticket.before()) == (1, 1, None)
    assert (second.look > 1) == (ground.kind == "objects"), "there each request is paid for"
    found = ground.open().try_acquire(holder("third"))
    assert isinstance(found, LockStatus)
    assert found.status is Status.FREE
    ticket.leave()
    assert second.before() is None
    second.leave()
    with lock_of(ground.open()):
        pass


def test_lock_found_free_is_not_taken_once_another_has_it(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, slow = ground.open(machine="there"), ground.open()
    may_take = base.may_take
    with contextlib.ExitStack() as held:

        def overtaken(*question: Any) -> bool:
            monkeypatch.undo()
            assert may_take(*question)
            held.enter_context(lock_of(fast))
            return True

        monkeypatch.setattr(base, "may_take", overtaken)
        found = slow.try_acquire(holder("slow"))
        assert isinstance(found, LockStatus)
        assert found.status is Status.HELD
        assert found.record is not None
        assert found.record.first.holder.operation == "test"


def test_a_waiter_that_is_killed_is_not_waited_for(ground: Ground) -> None:
    with in_a_process(lambda: ground.open().join_queue(holder("killed"))):
        assert len(ground.open().status().waiters) == 1
        assert isinstance(ground.open().try_acquire(holder("test")), LockStatus)
    eventually(lambda: not ground.open().status().waiters)
    with lock_of(ground.open()):
        pass


def test_a_dead_holder_is_taken_over_from(ground: Ground) -> None:
    def hold() -> HeldLock:
        lock = ground.open().try_acquire(holder("killed"))
        assert not isinstance(lock, LockStatus)
        lock.commit(built(1))
        return lock

    with in_a_process(hold):
        assert ground.open().status().status is Status.HELD
    found = ground.open().status()
    assert found.status is Status.ABANDONED
    assert "kernel lock" in found.evidence[0]
    with lock_of(ground.open()) as lock:
        assert lock.replaced is not None
        assert lock.replaced.id == found.id
        assert lock.record.token == 2
        lock.commit(built(2))
    assert whys(ground.open()) == ["1", "2"]


def test_a_closed_lock_commits_nothing(ground: Ground) -> None:
    store = ground.open()
    with lock_of(store) as old:
        old.commit(built(1))
        operator = ground.open(machine="there")
        with lock_of(operator, over=ANY, lock_id=old.record.id) as new:
            new.commit(built(2))
            for _ in range(2):
                with pytest.raises(LockLostError, match="was taken by"):
                    old.commit(built(3))
            with pytest.raises(LockLostError):
                old.note(run=7)
            eventually(lambda: not old.is_open())
            new.commit(built(4))
    assert whys(store) == ["1", "2", "4"]
    assert [c.operation for c in changes(store)].count("refused") == 1


def test_token_exceeds_that_of_the_state_and_that_of_the_record(shared: Ground) -> None:
    """Each of them may be the only one that knows the last token."""
    with lock_of(shared.open(machine="m1")) as lock:
        lock.commit(built(1))
    shared.keys().remove([names.LOCK])
    for token in (2, 3):
        with lock_of(shared.open(machine=f"m{token}")) as lock:
            assert lock.record.token == token


def test_an_operator_gets_only_the_lock_that_was_named(ground: Ground) -> None:
    with lock_of(ground.open()):
        found = ground.open().try_acquire(holder("test"), over=ANY, lock_id="another")
        assert isinstance(found, LockStatus)


def test_what_is_noted_stands_in_the_record(ground: Ground) -> None:
    with lock_of(ground.open()) as lock:
        lock.note(run=12)
        found = ground.open(machine="there").status().record
        assert found is not None
        assert found.run == 12


def test_large_documents_and_many(ground: Ground) -> None:
    text = os.urandom(700_000).hex()
    names = [f"b{number:05d}" for number in range(3000)]
    with lock_of(ground.open()) as lock:
        lock.commit(built(1, text=text))
        many = {name: Build(name=name, status=BuildStatus.COMPLETE) for name in names}
        lock.commit(PendingChange(operation="test", why="2", builds=many))
        lock.compact()
    state = state_of(ground.open(machine="there"))
    assert len(state.builds) == 3001
    assert text in bytes(state.builds["b1"]).decode()
    assert ground.open().verify().problems == ()


@pytest.mark.usefixtures("small")
def test_history_grows_into_segments_and_is_read_whole(ground: Ground) -> None:
    store = ground.open()
    with lock_of(store) as lock:
        for number in range(1, 61):
            lock.commit(built(number, text="x" * 300))
        lock.compact()
    found = store.verify()
    assert (found.problems, found.unused, found.changes) == ((), (), 60)
    assert found.segments > 2
    assert whys(ground.open(machine="there")) == [str(number) for number in range(1, 61)]


@pytest.mark.usefixtures("small")
def test_reading_is_not_disturbed_by_writing(ground: Ground) -> None:
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        store = ground.open(machine="there")
        while not stop.is_set():
            state = store.read()
            seen.append(state.serial if state else 0)

    reader = threading.Thread(target=read)
    reader.start()
    with lock_of(ground.open()) as lock:
        for number in range(1, 41):
            serial = lock.commit(built(number, text="x" * 300)).serial
    eventually(lambda: seen and seen[-1] == serial)
    stop.set()
    reader.join()
    assert seen == sorted(seen)


def test_a_backup_is_what_was_there(ground: Ground) -> None:
    store = ground.open()
    with lock_of(store) as lock:
        with pytest.raises(StateError):
            lock.backup(MANUAL, keep=1)
        lock.commit(built(1))
        made = lock.backup(MANUAL, keep=1)
        lock.commit(built(2))
        for _ in range(3):
            lock.backup("test", keep=1)
    assert [backup.reason for backup in store.backups()] == [MANUAL, "test"]
    assert [backup.serial for backup in store.backups()] == [1, 2]
    assert made == store.backups()[0]
    assert store.verify().problems == ()


def test_a_state_is_put_into_another_store(ground: Ground) -> None:
    """With thousands of builds, which is still one move of the head."""
    source = ground.open("source")
    many = {f"m{number}": Build(name=f"m{number}", error="x" * 500) for number in range(4000)}
    with lock_of(source) as lock:
        lock.commit(PendingChange(operation="many", builds=many))
        for number in range(2, 4):
            lock.commit(built(number))
        lock.compact(fully=True)
    state = state_of(source)
    assert len(state.builds) > 4000
    target = ground.open("target")
    with lock_of(target) as lock:
        for _, data in source.segments(state):
            lock.put_segment(data)
        assert lock.put(state) == state
        assert lock.commit(built(4)).serial == 4
    assert whys(target) == ["2", "3", "4"]
    assert target.verify().problems == ()


def test_what_nothing_names_is_discarded(ground: Ground) -> None:
    source = ground.open("source")
    with lock_of(source) as lock:
        lock.commit(built(1))
        lock.compact()
    (segment,) = source.segments(state_of(source))
    with lock_of(ground.open()) as lock:
        lock.commit(built(1))
        lock.put_segment(segment[1])
        assert len(ground.open().verify().unused) == 1
        assert lock.discard_unused() == (segment[0],)
    assert ground.open().verify().unused == ()


def test_a_state_goes_back_by_going_on(ground: Ground) -> None:
    store = ground.open()
    with lock_of(store) as lock:
        lock.commit(built(1))
        then = state_of(store)
        lock.commit(built(2))
        back = {**dict.fromkeys(state_of(store).builds), **then.builds}
        assert lock.commit(PendingChange(operation="rollback", builds=back)).serial == 3
    assert structs.replace(state_of(store), serial=1, prev=then.prev) == then
