"""What a state goes through while replies of its servers are lost."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from msgspec import structs

from packer_fork.locks import Status
from packer_fork.stores.base import MANUAL, Store
from packer_fork.stores.shared import names
from tests.support.servers import Proxy
from tests.support.store_operations import (
    ANY,
    built,
    changes,
    lock_of,
    waited_for,
)
from tests.support.stores import Ground

Life = Callable[[Ground, str, Store], list[int]]
"""What a state goes through by way of a store; the serials of its changes, in order."""


def a_first_lock(_ground: Ground, _name: str, store: Store) -> list[int]:
    with waited_for(store) as lock:
        serials = [lock.commit(built(number)).serial for number in (1, 2)]
        lock.note(run=1)
        lock.compact()
        made = lock.backup(MANUAL, keep=1)
        assert [backup.path for backup in store.backups()] == [made.path]
        serials.append(lock.commit(built(3)).serial)
    return serials


def a_further_lock(ground: Ground, name: str, store: Store) -> list[int]:
    """After one whose segment it takes in; without a ticket."""
    with lock_of(ground.open(name, machine="there")) as lock:
        serials = [lock.commit(built(1)).serial]
        lock.compact()
    with lock_of(store) as lock:
        assert lock.record.token == 2
        serials += [lock.commit(built(number)).serial for number in (2, 3)]
        lock.compact()
    return serials


def a_take_over(ground: Ground, name: str, store: Store) -> list[int]:
    with lock_of(ground.open(name, machine="there")) as lock:
        serials = [lock.commit(built(1)).serial]
        lock.hand_over()
    keys = ground.keys(name)
    item = keys.get(names.participant(1, 1))
    assert item is not None
    keys.revoke(item.lease)
    with waited_for(store) as lock:
        assert lock.replaced is not None
        assert lock.replaced.status is Status.ABANDONED
        serials.append(lock.commit(built(2)).serial)
    return serials


def a_forced_unlock(ground: Ground, name: str, store: Store) -> list[int]:
    with lock_of(ground.open(name, machine="there")) as old:
        serials = [old.commit(built(1)).serial]
        with lock_of(store, over=ANY, lock_id=store.status().id) as lock:
            serials.append(lock.commit(built(2)).serial)
    return serials


READS = {
    "etcd": "/(kv/range|lease/timetolive|watch)$",
    "consul": "^GET ",
    "objects": "^GET ",
}
"""All else may change something; with Consul some that read many values look so, too."""

WRITES = {
    "etcd": "/(kv/put|kv/txn|lease/grant|lease/revoke)$",
    "consul": "^PUT ",
    "objects": "^(PUT|DELETE) ",
}

EVERY = 4
"""Of the replies to reads so many-th are lost in one life; they only have to be asked again."""

AT_ONCE = 6


class Lived(NamedTuple):
    """What became of one life: the requests of it, those whose replies were lost, and how many
    keys of which kind are left when all is over.
    """

    asked: list[str]
    lost: list[str]
    left: Counter[str]


LIVES = [a_first_lock, a_further_lock, a_take_over, a_forced_unlock]


def assert_lost_replies_do_no_harm(
    shared: Ground, life: Life, *, first: int = 1, step: int = 1
) -> None:
    """The reply to each write is lost once, or to each `step`-th from the `first` on."""

    def live(name: str, *, matching: str = "", nth: int = 0, every: int = 0) -> Lived:
        ground = structs.replace(shared, opened=[])
        with contextlib.closing(ground), Proxy(shared.endpoints[0]) as proxy:
            if nth:
                proxy.drop_reply(matching, nth, every=every)
            serials = life(ground, name, ground.open(name, endpoints=(proxy.endpoint,)))
            store = ground.open(name)
            made = [(c.serial, c.why) for c in changes(store) if c.operation == "test"]
            assert made == [(serial, str(number)) for number, serial in enumerate(serials, 1)]
            found, status = store.verify(), store.status()
            assert (found.problems, found.unused) == ((), ())
            assert (status.status, status.waiters) == (Status.FREE, ())
            kinds = Counter(key.partition("/")[0] for key in ground.keys(name).names(""))
            return Lived(proxy.requests, proxy.dropped, kinds)

    def without_a_read(first: int) -> Lived:
        return live(f"r{first}", matching=READS[shared.kind], nth=first, every=EVERY)

    def without_a_write(nth: int) -> Lived:
        return live(f"w{nth}", matching=WRITES[shared.kind], nth=nth)

    undisturbed = live("undisturbed")
    writes = [asked for asked in undisturbed.asked if re.search(WRITES[shared.kind], asked)]
    assert any(re.search(r"/(txn|root)\b", request) for request in writes)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # The read that repeats a lost one counts, too, so one life fewer loses each of them.
        read = pool.map(without_a_read, range(1, EVERY))
        written = pool.map(without_a_write, range(first, len(writes) + 1, step))
        for lived in (*read, *written):
            assert lived.lost
            assert lived.left == undisturbed.left, f"after the loss of {lived.lost}"
