"""What becomes of a lock whose lease ends, is in danger, or outlives its holder."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec import structs

from packer_fork.errors import LockLostError, PackerForkError
from packer_fork.locks import LockStatus, Status
from packer_fork.stores.base import HeldLock, Store
from packer_fork.stores.shared import names
from packer_fork.stores.shared.keys import Keys, Put
from packer_fork.stores.shared.lease import Lease
from packer_fork.stores.shared.queue import Ticket
from tests.conftest import eventually
from tests.support.local_store import holder
from tests.support.servers import Cluster, Proxy, consul_cluster, etcd_cluster
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
from tests.support.stores import HASTY, TTL, Ground

pytestmark = pytest.mark.processes

SHORT = {"etcd": 2.0, "consul": 1.0, "objects": 1.0}
"""Seconds of a lease whose end is waited for, for which Consul takes up to twice as long."""


@pytest.fixture
def proxy(shared: Ground) -> Iterator[Proxy]:
    with Proxy(shared.endpoints[0]) as proxy:
        yield proxy


def lease_of(ground: Ground, key: str) -> str:
    """The living lease that a key hangs on; "" if none."""
    item = ground.keys().get(key)
    return item.lease if item else ""


def end_lease(ground: Ground, key: str = names.participant(1, 1)) -> str:
    """As an operator does, or an outage that was too long; the lease that is no more."""
    lease = lease_of(ground, key)
    assert lease
    ground.keys().revoke(lease)
    return lease


def refusals(store: Store) -> int:
    return sum(change.operation == "refused" for change in changes(store))


def test_a_lease_that_ended_is_taken_back_by_itself(shared: Ground) -> None:
    with lock_of(shared.open()) as lock:
        lock.commit(built(1))
        ended = end_lease(shared)
        eventually(lambda: lease_of(shared, names.participant(1, 1)) not in ("", ended))
        assert shared.open(machine="there").status().status is Status.HELD
        assert lock.is_open()
        lock.commit(built(2))
    assert [(change.token, change.why) for change in changes(shared.open())] == [
        (1, "1"),
        (1, "2"),
    ]
    with lock_of(shared.open()) as lock:
        assert lock.record.token == 2
        assert lock.replaced is None


@pytest.mark.parametrize("times", [1, 5])
def test_a_commit_takes_back_a_lease_that_ended(shared: Ground, times: int) -> None:
    with lock_of(shared.open()) as lock:
        for number in range(times):
            end_lease(shared)
            assert lock.commit(built(number)).serial == number + 1
    assert whys(shared.open()) == [str(number) for number in range(times)]


def test_a_note_takes_back_a_lease_that_ended(shared: Ground) -> None:
    with lock_of(shared.open()) as lock:
        for run in range(1, 6):
            end_lease(shared)
            lock.note(run=run)
            record = shared.open(machine="there").status().record
            assert record is not None
            assert record.run == lock.record.run == run


@pytest.mark.parametrize("unreachable", [Proxy.hang, Proxy.refuse], ids=["hang", "refuse"])
def test_a_lease_that_ended_is_not_taken_back_from_another(
    shared: Ground, proxy: Proxy, unreachable: Callable[[Proxy], None]
) -> None:
    cut_off = shared.open(endpoints=(proxy.endpoint,), access=HASTY)
    with lock_of(cut_off) as old:
        old.commit(built(1))
        unreachable(proxy)
        end_lease(shared)
        with lock_of(shared.open(machine="there")) as new:
            assert new.replaced is not None
            assert new.replaced.status is Status.ABANDONED
            assert "lease of participant 1 of token 1 has ended" in new.replaced.evidence[-1]
            new.commit(built(2))
            assert old.is_open(), "nobody here can know"
            proxy.let_pass()
            eventually(lambda: not old.is_open())
            for _ in range(2):
                with pytest.raises(LockLostError, match="token 1"):
                    old.commit(built(3))
            with pytest.raises(LockLostError):
                old.note(run=3)
            with pytest.raises(LockLostError):
                old.backup("test", keep=1)
            assert new.commit(built(4)).serial == 4
            assert new.is_open()
    store = shared.open()
    assert whys(store) == ["1", "2", "4"]
    assert refusals(store) == 1
    assert store.verify().problems == ()
    assert store.status().status is Status.FREE


def test_a_closed_lock_is_refused_before_the_next_has_written(shared: Ground) -> None:
    with lock_of(shared.open()) as old:
        old.commit(built(1))
        with lock_of(shared.open(machine="there"), over=ANY, lock_id=old.record.id):
            with pytest.raises(LockLostError, match="was taken by"):
                old.commit(built(2))
            assert whys(shared.open()) == ["1"]


def test_a_taking_back_that_came_late_counts(shared: Ground, proxy: Proxy) -> None:
    """Its sender has given it up by then, and has a lease that the lock does not hang on."""
    with lock_of(shared.open(endpoints=(proxy.endpoint,), access=HASTY)) as lock:
        lock.commit(built(1))
        proxy.refuse()
        end_lease(shared)
        keys, key = shared.keys(), names.participant(1, 1)
        late = keys.grant(TTL)
        assert keys.transact([], [Put(key, lock.record.id.encode(), late)])
        proxy.let_pass()
        lock.commit(built(2))
        assert lease_of(shared, key) == late
    assert shared.open().status().status is Status.FREE
    assert keys.left(late) is None, "it is ours to end"


def test_a_holder_that_was_frozen_for_too_long_is_refused(shared: Ground) -> None:
    heard, told = os.pipe()
    answers, answer = os.pipe()

    def hold() -> HeldLock:
        lock = shared.open(ttl=SHORT[shared.kind]).try_acquire(holder("frozen"))
        assert not isinstance(lock, LockStatus)
        lock.commit(built(1))
        threading.Thread(target=commit_when_told, args=(lock,), daemon=True).start()
        return lock

    def commit_when_told(lock: HeldLock) -> None:
        os.read(heard, 1)
        try:
            lock.commit(built(3))
        except PackerForkError as error:
            os.write(answer, type(error).__name__.encode())
        else:
            os.write(answer, b"committed")

    try:
        with in_a_process(hold) as frozen:
            os.kill(frozen, signal.SIGSTOP)
            with waited_for(shared.open(machine="there")) as lock:
                assert lock.record.token == 2
                lock.commit(built(2))
                os.write(told, b"!")
                os.kill(frozen, signal.SIGCONT)
                assert os.read(answers, 100) == b"LockLostError"
                assert lock.is_open()
                lock.commit(built(4))
    finally:
        for descriptor in (heard, told, answers, answer):
            os.close(descriptor)
    assert whys(shared.open()) == ["1", "2", "4"]
    assert refusals(shared.open()) == 1


@pytest.mark.parametrize("unreachable", [Proxy.hang, Proxy.refuse], ids=["hang", "refuse"])
def test_a_lease_in_danger_is_lost_only_for_those_who_must_be_sure(
    shared: Ground, proxy: Proxy, unreachable: Callable[[Proxy], None]
) -> None:
    def opened(name: str, *, surely: bool) -> Store:
        places = (proxy.endpoint,)
        return shared.open(
            name, endpoints=places, access=HASTY, surely=surely, ttl=SHORT[shared.kind]
        )

    with (
        lock_of(opened("sure", surely=True)) as sure,
        lock_of(opened("other", surely=False)) as other,
    ):
        assert sure.is_open()
        unreachable(proxy)
        eventually(lambda: not sure.is_open())
        assert other.is_open()
        proxy.let_pass()
        eventually(sure.is_open)
        for lock in (sure, other):
            lock.commit(built(1))
            assert lock.record.token == 1


class SlowServers:
    """Stands for servers whose answer to the first renewal takes a lease's whole time."""

    def __init__(self, ttl: float) -> None:
        self.now = 0.0
        self.asked_again = threading.Event()
        self.answer = threading.Event()
        self._renewals = itertools.count()
        self._ttl = ttl

    def grant(self, _ttl: float) -> str:
        return "lease"

    def renew(self, _lease: str) -> bool:
        if next(self._renewals) == 0:
            self.now += self._ttl
        else:
            self.asked_again.set()
            self.answer.wait(30)
        return True


def test_renewal_that_is_answered_late_counts_from_when_it_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ttl = 0.03
    servers = SlowServers(ttl)
    clock = SimpleNamespace(monotonic=lambda: servers.now)
    monkeypatch.setattr("packer_fork.stores.shared.lease.time", clock)
    keys = cast("Keys", servers)
    ours = Lease(keys, keys, ttl)
    try:
        assert not ours.is_in_danger
        assert servers.asked_again.wait(30)
        assert ours.is_in_danger
    finally:
        servers.answer.set()
        ours.stop()


@pytest.mark.parametrize(
    ("kind", "make"),
    [("etcd", etcd_cluster), ("consul", partial(consul_cluster, durable=True))],
    ids=["etcd", "consul"],
)
def test_a_lock_outlives_an_outage_of_all_servers(
    tmp_path: Path,
    prefix: str,
    kind: str,
    make: Callable[[Path], contextlib.AbstractContextManager[Cluster]],
) -> None:
    with make(tmp_path / "servers") as cluster:
        ground = Ground(kind, tmp_path, tuple(cluster.endpoints), prefix)
        with contextlib.closing(ground), lock_of(ground.open(ttl=1.0, access=HASTY)) as lock:
            lock.commit(built(1))
            (server,) = cluster.servers
            server.kill()
            away = time.monotonic()
            eventually(lambda: time.monotonic() - away > 2 * lock.record.lease)
            assert lock.is_open()
            server.start()
            server.await_ready()
            eventually(lambda: lease_of(ground, names.participant(1, 1)))
            assert lock.commit(built(2)).serial == 2
            assert ground.open(machine="there").status().id == lock.record.id
        ground = structs.replace(ground, opened=[])
        with contextlib.closing(ground):
            assert [change.token for change in changes(ground.open())] == [1, 1]


def test_a_waiter_whose_lease_ended_comes_last(shared: Ground) -> None:
    stores = [shared.open(machine=f"m{number}") for number in range(3)]
    tickets = [store.join_queue(holder(f"w{number}")) for number, store in enumerate(stores)]
    try:
        assert [ticket.place() for ticket in tickets] == [0, 1, 2]
        first = tickets[0]
        assert isinstance(first, Ticket)
        end_lease(shared, first.key)
        assert tickets[1].before() is None
        assert [ticket.place() for ticket in tickets] == [2, 0, 1]
        waiters = shared.open().status().waiters
        assert [w.holder.operation for w in waiters if w.holder] == ["w1", "w2", "w0"]
        found = stores[0].try_acquire(holder("w0"), ticket=first)
        assert isinstance(found, LockStatus)
    finally:
        for ticket in tickets:
            ticket.leave()
    assert shared.open().status().waiters == ()
    assert [key for key in shared.keys().names("") if key.startswith(names.QUEUE)] == []


def test_a_dead_holder_elsewhere_is_waited_for_until_its_lease_ends(shared: Ground) -> None:
    def hold() -> HeldLock:
        lock = shared.open(machine="there", ttl=SHORT[shared.kind]).try_acquire(holder("killed"))
        assert not isinstance(lock, LockStatus)
        lock.commit(built(1))
        return lock

    with in_a_process(hold):
        assert shared.open().status().status is Status.HELD
    found = shared.open().status()
    assert found.status in (Status.HELD, Status.UNKNOWN), "its lease lives for a while"
    assert isinstance(shared.open().try_acquire(holder("test")), LockStatus)
    store, seen = shared.open(machine="looking"), set[Status]()

    def is_abandoned() -> bool:
        seen.add(store.status().status)
        return Status.ABANDONED in seen

    eventually(is_abandoned)
    assert seen <= {Status.HELD, Status.UNKNOWN, Status.ABANDONED}
    assert "lease of participant 1 of token 1 has ended" in store.status().evidence[-1]
    with waited_for(shared.open(machine="waiting")) as lock:
        assert lock.replaced is not None
        assert lock.replaced.status is Status.ABANDONED
        lock.commit(built(2))
    assert whys(shared.open()) == ["1", "2"]
    assert state_of(shared.open()).token == 2


def test_holder_that_could_not_release_is_known_dead_on_its_machine(
    shared: Ground, proxy: Proxy
) -> None:
    """It ended in order while the servers were away from it; its lease lives on."""
    store = shared.open(endpoints=(proxy.endpoint,), access=HASTY)
    ended = store.try_acquire(holder("build"))
    assert not isinstance(ended, LockStatus)
    ended.commit(built(1))
    proxy.refuse()
    ended.close()
    assert lease_of(shared, names.participant(1, 1))
    assert shared.open(machine="there").status().status is Status.HELD
    assert shared.open().status().status is Status.ABANDONED
    with lock_of(shared.open()) as heir:
        assert heir.record.token == 2
        heir.commit(built(2))
    assert whys(shared.open()) == ["1", "2"]


def test_token_exceeds_the_lock_files_of_this_machine(shared: Ground) -> None:
    """As when the servers were restored from a copy, or lost all keys."""
    store = shared.open()
    orphaned = store.try_acquire(holder("build"))
    assert not isinstance(orphaned, LockStatus)
    orphaned.hand_over()
    keys = shared.keys()
    keys.remove(keys.names(""))
    with lock_of(store) as lock:
        assert lock.record.token == 2
