"""Who fails to come in leaves nothing behind that others would wait for, while it lives on."""

from __future__ import annotations

import contextlib
import itertools
import resource
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import structs

from packer_fork.errors import PackerForkError, StoreError
from packer_fork.lock_steps import MOST_PARTICIPANTS
from packer_fork.locks import LockStatus
from packer_fork.stores.base import Store
from tests.conftest import eventually
from tests.support.local_store import holder
from tests.support.servers import Proxy
from tests.support.store_operations import lock_of, waited_for
from tests.support.stores import HASTY, Ground

pytestmark = pytest.mark.processes


def a_waiter(store: Store) -> None:
    store.join_queue(holder("waits")).leave()


def a_holder(store: Store) -> None:
    lock = store.try_acquire(holder("holds"))
    assert not isinstance(lock, LockStatus)
    lock.close()


def a_member(store: Store) -> None:
    member = store.try_acquire(holder("shares"), max_participants=MOST_PARTICIPANTS)
    assert not isinstance(member, LockStatus)
    member.close()


@contextlib.contextmanager
def limited(kind: int, to: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (to, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def opened() -> list[int]:
    return [int(path.name) for path in Path("/dev/fd").iterdir()]


@contextlib.contextmanager
def few_descriptors(number: int) -> Iterator[None]:
    free = (descriptor for descriptor in itertools.count() if descriptor not in opened())
    with limited(resource.RLIMIT_NOFILE, next(itertools.islice(free, number, None))):
        yield


@contextlib.contextmanager
def small_files(number: int) -> Iterator[None]:
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with limited(resource.RLIMIT_FSIZE, 64 * number):
            yield
    finally:
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("short_of", [few_descriptors, small_files])
@pytest.mark.parametrize("life", [a_waiter, a_holder, a_member])
def test_nobody_waits_for_who_found_no_room(
    tmp_path: Path,
    life: Callable[[Store], None],
    short_of: Callable[[int], contextlib.AbstractContextManager[None]],
) -> None:
    store, other = (Ground("local", tmp_path).open() for _ in range(2))
    life(store)  # all is imported by then
    before = len(opened())
    for number in itertools.count():
        try:
            with short_of(number):
                life(store)
        except PackerForkError:
            with lock_of(other):
                assert store.status().waiters == ()
            assert len(opened()) == before
        else:
            break
    assert number


@pytest.mark.parametrize("life", [a_waiter, a_holder, a_member])
def test_nobody_waits_for_who_got_no_answer(shared: Ground, life: Callable[[Store], None]) -> None:
    """From any request on there is none, until it has given up: each on a state of its own."""

    def gives_up(nth: int) -> bool:
        ground = structs.replace(shared, opened=[])
        with contextlib.closing(ground), Proxy(shared.endpoints[0]) as proxy:
            name = f"s{nth}"
            store = ground.open(name, endpoints=(proxy.endpoint,), access=HASTY, ttl=1.0)
            other = ground.open(name, machine="there")
            proxy.drop_reply(nth=nth, every=1)
            try:
                life(store)
            except StoreError:
                gave_up = True
            else:
                gave_up = False
            proxy.let_pass()
            with waited_for(other) as lock:
                eventually(lambda: other.status().waiters == ())
                assert lock.is_open()
            return gave_up

    with Proxy(shared.endpoints[0]) as proxy:
        life(shared.open("undisturbed", endpoints=(proxy.endpoint,), access=HASTY))
        requests = len(proxy.requests)
    with ThreadPoolExecutor(requests) as pool:
        gave_up = list(pool.map(gives_up, range(1, requests + 1)))
    assert all(gave_up[:3])
