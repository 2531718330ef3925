"""Keys in an object store: what is done about lost replies, conflicts, and late renewals."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from packer_fork.errors import DamagedError, NewerFormatError, StoreError
from packer_fork.stores import object_root
from packer_fork.stores.access import Access
from packer_fork.stores.object_root import REMEMBERED, Root
from packer_fork.stores.objects import ObjectKeys
from packer_fork.stores.retry import UnavailableError
from packer_fork.stores.shared.keys import Delete, Item, Leased, Put, Unchanged, UnsureError
from tests.conftest import eventually
from tests.support.object_server import (
    MARGIN,
    HttpObjectStore,
    ObjectServer,
    object_keys,
    object_server,
)
from tests.support.servers import Proxy

HASTY = Access(connect_timeout=0.5, request_timeout=0.3, retry_timeout=0)
ROOT_WRITES = "PUT /objects/.*/root$"


@pytest.fixture
def connect(objects_server: ObjectServer, prefix: str) -> Iterator[Callable[..., ObjectKeys]]:
    with contextlib.ExitStack() as opened:

        def connect(endpoint: str = "", access: Access | None = None) -> ObjectKeys:
            where = [endpoint] if endpoint else objects_server.endpoints
            keys = object_keys(where, prefix, access or Access(retry_timeout=5))
            opened.callback(keys.close)
            return keys

        yield connect


Connect = Callable[..., ObjectKeys]


@pytest.fixture
def proxy(objects_server: ObjectServer) -> Iterator[Proxy]:
    with Proxy(objects_server.endpoints[0]) as proxy:
        yield proxy


@pytest.fixture
def store(objects_server: ObjectServer, prefix: str) -> Iterator[HttpObjectStore]:
    store = HttpObjectStore(objects_server.endpoints, prefix, Access())
    yield store
    store.close()


def found(keys: ObjectKeys, key: str) -> Item:
    item = keys.get(key)
    assert item is not None
    return item


def root_of(store: HttpObjectStore) -> Root:
    found = store.get("root")
    assert found is not None
    return object_root.decode(found.data, "root")


def test_a_transaction_whose_reply_was_lost_is_looked_up(connect: Connect, proxy: Proxy) -> None:
    keys = connect(proxy.endpoint)
    keys.transact([], [Put("a", b"0")])
    proxy.drop_reply(ROOT_WRITES)
    revision = keys.transact([Unchanged("b", 0)], [Put("b", b"1")])
    assert len(proxy.dropped) == 1
    assert found(connect(), "b").modified == revision
    assert len([name for name in proxy.requests if name.endswith("root")]) < 9


@pytest.mark.parametrize("others", [1, REMEMBERED - 1])
def test_it_counts_although_others_came_after_it(
    connect: Connect, proxy: Proxy, others: int
) -> None:
    keys, other = connect(proxy.endpoint), connect()
    keys.transact([], [Put("a", b"0")])
    written: list[int] = []

    def overtake(root: Root, etag: str) -> None:
        """The replacement arrives, its reply does not; others write before it is looked up."""
        del root, etag
        proxy.let_pass()
        written.extend(other.transact([], [Put("a", b"theirs")]) for _ in range(others))

    with unanswered(keys, overtake):
        revision = keys.transact([], [Put("mine", b"1")])
    assert found(other, "mine").modified == revision == written[0] - 1


def test_it_is_unknown_once_too_many_came_after_it(connect: Connect) -> None:
    keys, other = connect(), connect()
    keys.transact([], [Put("a", b"0")])

    def overtake(*_: object) -> None:
        for number in range(REMEMBERED):
            other.transact([], [Put("a", f"{number}".encode())])

    with unanswered(keys, overtake), pytest.raises(UnsureError):
        keys.transact([], [Put("mine", b"1")])


def test_it_does_not_count_if_another_was_faster(connect: Connect) -> None:
    """The request never arrived."""
    keys, other = connect(), connect()
    keys.transact([], [Put("n", b"0")])
    at = found(keys, "n").modified

    def overtake(*_: object) -> None:
        assert other.transact([Unchanged("n", at)], [Put("n", b"theirs")])

    with unanswered(keys, overtake, arrives=False):
        assert keys.transact([Unchanged("n", at)], [Put("n", b"mine")]) == 0
    assert found(keys, "n").value == b"theirs"


def test_it_is_sent_again_as_long_as_nobody_wrote(connect: Connect) -> None:
    keys = connect()
    keys.transact([], [Put("n", b"0")])
    sent: list[bytes] = []
    with unanswered(keys, lambda root, _: sent.append(object_root.encode(root)), arrives=False):
        revision = keys.transact([], [Put("n", b"1")])
    assert found(keys, "n").modified == revision
    assert sent


@contextlib.contextmanager
def unanswered(
    keys: ObjectKeys, then: Callable[[Root, str], object], *, arrives: bool = True
) -> Iterator[None]:
    """The next replacement of the root is not answered; `then` is called at once."""
    put_if = keys._store.put_if
    left = ["root"]

    def put(name: str, data: bytes, etag: str) -> str | None:
        if name not in left:
            return put_if(name, data, etag)
        left.clear()
        if arrives:
            assert put_if(name, data, etag)
        then(object_root.decode(data, "root"), etag)
        raise UnsureError("No answer came.")

    keys._store.put_if = put  # type: ignore[method-assign]
    yield
    assert not left
    keys._store.put_if = put_if  # type: ignore[method-assign]


def test_it_is_done_once_however_late_it_arrives(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the root was read, before the same is sent again."""
    keys = connect()
    keys.transact([], [Put("n", b"0")])
    at = found(keys, "n").modified
    put_if, late = keys._store.put_if, []

    def put(name: str, data: bytes, etag: str) -> str | None:
        late.append(data)
        if len(late) == 1:
            raise UnsureError("No answer came.")
        assert put_if(name, late[0], etag)
        monkeypatch.undo()
        return put_if(name, data, etag)

    monkeypatch.setattr(keys._store, "put_if", put)
    revision = keys.transact([Unchanged("n", at)], [Put("n", b"1")])
    assert found(keys, "n").modified == revision > at


def test_it_stays_unknown_if_it_cannot_be_sent_again(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = connect()
    keys.transact([], [Put("n", b"0")])
    errors = iter([UnsureError("No answer came."), UnavailableError("It refuses.")])

    def put(*_: object) -> None:
        error = next(errors)
        if isinstance(error, UnavailableError):
            monkeypatch.setattr(keys._retry, "_deadline", 0)
        raise error

    monkeypatch.setattr(keys._store, "put_if", put)
    with pytest.raises(UnsureError, match="It refuses"):
        keys.transact([], [Put("n", b"1")])
    assert next(errors, None) is None


def test_conditions_on_what_was_only_put_are_decided_anew(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, other = connect(), connect()
    keys.transact([], [Put("n", b"0")])
    keys.put("blob", b"1")
    at = found(keys, "blob").modified

    def conflict(*_: object) -> None:
        monkeypatch.undo()
        other.transact([], [Delete("blob"), Put("m", b"1")])

    monkeypatch.setattr(keys._store, "put_if", conflict)
    assert keys.transact([Unchanged("blob", at)], [Put("n", b"1")]) == 0


def test_servers_that_went_after_an_unanswered_write_leave_it_unknown(
    connect: Connect, proxy: Proxy
) -> None:
    keys = connect(proxy.endpoint, HASTY)
    keys.transact([], [Put("a", b"0")])
    with unanswered(keys, lambda *_: proxy.refuse()), pytest.raises(UnsureError, match="revision"):
        keys.transact([], [Put("a", b"1")])


def test_a_write_that_cannot_have_arrived_is_none(connect: Connect, proxy: Proxy) -> None:
    keys = connect(proxy.endpoint, HASTY)
    keys.transact([], [Put("a", b"0")])
    proxy.refuse()
    with pytest.raises(StoreError) as refused:
        keys.transact([], [Put("a", b"1")])
    assert not isinstance(refused.value, UnsureError)


def test_conflicts_are_decided_anew(connect: Connect, objects_server: ObjectServer) -> None:
    keys = connect()
    keys.transact([], [Put("a", b"0")])
    conflicts = iter([True] * 3)
    objects_server.conflict = lambda name: name.endswith("/root") and next(conflicts, False)
    try:
        assert keys.transact([], [Put("a", b"1")])
    finally:
        objects_server.conflict = lambda _: False
    assert next(conflicts, None) is None
    assert found(keys, "a").value == b"1"


@pytest.mark.parametrize("lost", ["", ROOT_WRITES, "root$"])
def test_threads_and_clients_count_each_increment_once(
    connect: Connect, proxy: Proxy, lost: str
) -> None:
    """Also if each third reply is lost: none counts twice, none is taken for undone."""
    clients = [connect(proxy.endpoint) for _ in range(4)]
    clients[0].transact([], [Put("n", b"0")])
    if lost:
        proxy.drop_reply(lost, nth=3, every=3)

    def increment(number: int) -> None:
        keys = clients[number % 4]
        while True:
            at = found(keys, "n")
            value = str(int(at.value) + 1).encode()
            if keys.transact([Unchanged("n", at.modified)], [Put("n", value)]):
                return

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(increment, range(80)))
    assert found(connect(), "n").value == b"80"


def test_no_two_roots_are_equal(connect: Connect, store: HttpObjectStore) -> None:
    """Else a late replacement would meet the ETag that it waits for."""
    keys, etags = connect(), set()
    for _ in range(3):
        keys.transact([], [Put("a", b"1")])
        keys.transact([], [Delete("a")])
        found = store.get("root")
        assert found is not None
        etags.add(found.etag)
        assert root_of(store).keys == {}
    assert len(etags) == 3


def test_a_store_that_ignores_conditions_is_refused(prefix: str) -> None:
    with object_server() as server:
        server.ignores_conditions = True
        keys = object_keys(server.endpoints, prefix, HASTY)
        with contextlib.closing(keys), pytest.raises(StoreError, match="ignores the conditions"):
            keys.transact([], [Put("a", b"1")])
        assert server.names() == []


@pytest.mark.parametrize(
    ("stored", "error"),
    [
        (b"", DamagedError),
        (b"{}", DamagedError),
        (b'{"version":1,"revision":"1"}', DamagedError),
        (b'{"version":1,"unknown":1}', DamagedError),
        (b'{"version":2}', NewerFormatError),
    ],
)
def test_a_root_that_cannot_be_read_is_not_replaced(
    connect: Connect, store: HttpObjectStore, stored: bytes, error: type[Exception]
) -> None:
    keys = connect()
    store.put("root", stored)
    asking: list[Callable[[], object]] = [
        lambda: keys.get("a"),
        lambda: keys.names(""),
        lambda: keys.transact([], [Put("a", b"1")]),
        lambda: keys.put("a", b"1"),
        lambda: keys.remove(["a"]),
        lambda: keys.revoke("1000-a"),
    ]
    for ask in asking:
        with pytest.raises(error, match="root"):
            ask()
    found = store.get("root")
    assert found is not None
    assert found.data == stored


def test_what_is_only_put_is_no_part_of_the_root(connect: Connect, store: HttpObjectStore) -> None:
    keys = connect()
    keys.transact([], [Put("a", b"1")])
    before = root_of(store)
    keys.put("changes/1", b"x")
    assert keys.names("") == ["a", "changes/1"]
    keys.remove(["changes/1"])
    assert root_of(store) == before


def test_renewals_do_not_write_the_root(connect: Connect, store: HttpObjectStore) -> None:
    keys, renewing = connect(), connect()
    lease = keys.grant(30)
    keys.transact([], [Put("lock", b"1", lease)])
    before = root_of(store)
    for _ in range(5):
        assert renewing.renew(lease)
    assert found(connect(), "lock").lease == lease
    assert root_of(store) == before


def test_a_renewal_whose_reply_was_lost_ends_no_lease(connect: Connect, proxy: Proxy) -> None:
    keys = connect(proxy.endpoint, HASTY)
    lease = keys.grant(30)
    for _ in range(2):
        proxy.drop_reply("PUT /objects/.*/leases/")
        with pytest.raises(UnsureError):
            keys.renew(lease)
    assert keys.renew(lease)


def test_only_the_owner_renews_what_others_have_not_ended(connect: Connect) -> None:
    keys = connect()
    lease = keys.grant(30)
    keys.transact([], [Put("lock", b"1", lease)])
    keys.revoke(lease)
    assert not keys.renew(lease)
    assert found(keys, "lock").lease == ""


def test_a_lease_without_its_object_has_ended(connect: Connect, store: HttpObjectStore) -> None:
    keys = connect()
    lease = keys.grant(30)
    keys.transact([], [Put("lock", b"1", lease)])
    store.delete([f"leases/{lease}"])
    assert found(connect(), "lock").lease == ""
    assert not keys.renew(lease)


def overdue_lease(keys: ObjectKeys, ttl: float = 0.2) -> str:
    lease = keys.grant(ttl)
    keys.transact([], [Put("lock", b"1", lease)])
    granted = time.monotonic()
    eventually(lambda: time.monotonic() - granted > ttl + 2 * MARGIN)
    return lease


@pytest.mark.parametrize("renewed", [True, False])
def test_a_late_renewal_undoes_an_end_that_was_decided_before_it(
    connect: Connect, *, renewed: bool
) -> None:
    """It comes between the look at the leases and the replacement of the root."""
    keys, observer = connect(), connect()
    lease = overdue_lease(keys)
    overdue, seen = observer._leases.overdue, []

    def then_renew(leases: frozenset[str]) -> frozenset[str]:
        seen.append(overdue(leases))
        if renewed and len(seen) == 1:
            assert keys.renew(lease)
        return seen[-1]

    observer._leases.overdue = then_renew  # type: ignore[method-assign]
    assert found(observer, "lock").lease == (lease if renewed else "")
    assert seen[0] == {lease}
    assert bool(keys.transact([Leased("lock", lease)], [Put("state", b"1")])) is renewed


def test_a_renewal_in_time_keeps_a_lease(connect: Connect) -> None:
    keys, observer = connect(), connect()
    lease = keys.grant(0.6)
    keys.transact([], [Put("lock", b"1", lease)])
    for _ in range(10):
        assert keys.renew(lease)
        threading.Event().wait(0.2)
        assert found(observer, "lock").lease == lease


def test_looking_at_living_leases_is_rare(connect: Connect, proxy: Proxy) -> None:
    """Until the earliest moment at which a lease may be overdue, it is not looked at again."""
    keys, observer = connect(), connect(proxy.endpoint)
    lease = keys.grant(60)
    keys.transact([], [Put("lock", b"1", lease)])
    for _ in range(20):
        assert found(observer, "lock").lease == lease
    assert len([name for name in proxy.requests if name.startswith("GET /list")]) == 1
