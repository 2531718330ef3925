"""What all clusters promise of keys, leases and transactions, by real ones."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from packer_fork.errors import StoreError
from packer_fork.stores.access import Access
from packer_fork.stores.shared.keys import Delete, Item, Keys, Leased, Put, Unchanged, UnsureError
from tests.conftest import eventually
from tests.support import stores
from tests.support.object_server import ObjectServer
from tests.support.servers import Cluster, Proxy

Open = Callable[..., Keys]
"""Makes a client of what stands below `prefix`, at other `endpoints` if they are given."""


@pytest.fixture(params=["etcd", "consul", "objects", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cluster(kind: str, request: pytest.FixtureRequest) -> Cluster | ObjectServer:
    found: Cluster | ObjectServer = request.getfixturevalue(f"{kind}_server")
    return found


@pytest.fixture
def connect(kind: str, cluster: Cluster | ObjectServer, prefix: str) -> Iterator[Open]:
    with contextlib.ExitStack() as opened:

        def connect(*endpoints: str, below: str = prefix) -> Keys:
            keys = stores.connect(
                kind, endpoints or cluster.endpoints, below, Access(retry_timeout=5)
            )
            opened.callback(keys.close)
            return keys

        yield connect


@pytest.fixture
def keys(connect: Open) -> Keys:
    return connect()


def found(keys: Keys, key: str) -> Item:
    item = keys.get(key)
    assert item is not None
    return item


@pytest.mark.parametrize("kind", ["etcd", "consul", "objects"])
def test_it_says_where_and_what_it_is(
    kind: str, keys: Keys, cluster: Cluster | ObjectServer, prefix: str
) -> None:
    assert keys.location == f"{kind}://{cluster.endpoints[0]}/{prefix}"
    assert keys.kind.lower() == kind


def test_a_key_is_what_was_put_last(keys: Keys) -> None:
    assert keys.get("a") is None
    keys.put("a", b"\x00\xff" * 50)
    first = found(keys, "a")
    assert (first.key, first.value, first.lease) == ("a", b"\x00\xff" * 50, "")
    assert first.created == first.modified
    keys.put("a", b"")
    second = found(keys, "a")
    assert (second.value, second.created) == (b"", first.created)
    assert second.modified > first.modified
    keys.remove(["a", "never there"])
    assert keys.get("a") is None


def test_keys_are_of_any_characters_and_ordered_by_them(keys: Keys) -> None:
    names = sorted(["a", "a/b", "a b", "a%2fb", "a?x&y#z", "ä", "日本", "z"])
    for name in reversed(names):
        keys.put(name, name.encode())
    assert keys.names("") == names
    assert [(item.key, item.value.decode()) for item in keys.items("")] == [
        (name, name) for name in names
    ]
    assert [found(keys, name).value.decode() for name in names] == names
    assert keys.names("a/") == ["a/b"]


def test_prefixes_that_begin_alike_are_apart(keys: Keys, connect: Open, prefix: str) -> None:
    other = connect(below=f"{prefix}2")
    keys.put("a", b"ours")
    other.put("a", b"theirs")
    assert found(keys, "a").value == b"ours"
    assert (keys.names(""), other.names("")) == (["a"], ["a"])
    keys.remove(["a"])
    assert found(other, "a").value == b"theirs"


@pytest.mark.parametrize("kind", ["etcd", "consul", "objects"])  # moto takes minutes
def test_many_keys_come_page_by_page(keys: Keys) -> None:
    names = [f"many/{number:05d}" for number in range(2500)]
    put_all(keys, names)
    keys.put("few", b"")
    keys.put("nine", b"")
    assert keys.names("many/") == names
    assert [item.key for item in keys.items("many/")] == names
    assert [item.key for item in keys.items("many/", start="many/01234")] == names[1234:]
    assert [item.key for item in keys.items("many/", start="many/01234x")] == names[1235:]
    assert list(keys.items("many/", start="n")) == []
    assert [item.key for item in keys.items("many/", start="a")] == names
    keys.remove(names)
    assert keys.names("") == ["few", "nine"]


def put_all(keys: Keys, names: list[str]) -> None:
    for first in range(0, len(names), 64):
        group = names[first : first + 64]
        assert keys.transact([], [Put(name, name.encode()) for name in group])


@pytest.mark.parametrize("kind", ["etcd", "consul", "objects"])
def test_what_is_written_while_one_reads_does_not_disturb(keys: Keys) -> None:
    names = [f"{number:04d}" for number in range(600)]
    put_all(keys, names)
    reading = keys.items("")
    assert next(reading).key == "0000"
    keys.remove(names[300:310])
    keys.put("0450x", b"")
    read = [item.key for item in reading]
    stayed = [name for name in names[1:] if name not in names[300:310]]
    assert [name for name in read if name in stayed] == stayed
    assert read == sorted(read)


def test_values_may_be_as_large_as_it_says(keys: Keys) -> None:
    large = bytes(range(256)) * (keys.most // 256)
    keys.put("put", large)
    assert keys.transact(
        [Unchanged("done", 0), Unchanged("put", found(keys, "put").modified)],
        [
            Put("done", large),
            Delete("put"),
            Put("small", b"1"),
        ],
    )
    assert found(keys, "done").value == large
    assert keys.names("") == ["done", "small"]


def test_all_is_read_where_small_values_and_the_largest_alternate(keys: Keys) -> None:
    large = bytes(keys.most)
    expected = {f"a{number:03d}": b"1" for number in range(200)}
    expected |= {f"b{number:03d}": large for number in range(3)}
    expected |= {f"c{number:03d}": b"1" for number in range(200)}
    put_all(keys, [name for name in expected if name[0] != "b"])
    for name, value in expected.items():
        if name[0] == "b":
            keys.put(name, value)
    read = {item.key: len(item.value) for item in keys.items("")}
    assert read == {key: len(key if value == b"1" else value) for key, value in expected.items()}
    keys.remove(list(expected))


def test_a_transaction_is_done_whole_or_not_at_all(keys: Keys) -> None:
    assert keys.transact([Unchanged("a", 0)], [Put("a", b"1"), Put("b", b"1")])
    a, b = found(keys, "a"), found(keys, "b")
    assert not keys.transact([Unchanged("a", 0)], [Put("b", b"2"), Delete("a")])
    assert not keys.transact([Unchanged("a", a.modified), Unchanged("b", 0)], [Put("c", b"")])
    assert (keys.get("a"), keys.get("b"), keys.get("c")) == (a, b, None)
    conditions = [Unchanged("a", a.modified), Unchanged("b", b.modified), Unchanged("c", 0)]
    assert keys.transact(conditions, [Put("a", b"2"), Delete("b"), Delete("d")])
    assert found(keys, "a").value == b"2"
    assert keys.get("b") is None
    assert not keys.transact([Unchanged("a", a.modified)], [Put("a", b"3")])
    assert not keys.transact([Unchanged("b", b.modified)], [Put("b", b"3")])


def test_a_transaction_tells_the_revision_of_what_it_put(keys: Keys) -> None:
    lease = keys.grant(30)
    first = keys.transact([Unchanged("a", 0)], [Put("a", b"1"), Put("b", b"1", lease)])
    assert first > 0
    assert (found(keys, "a").modified, found(keys, "b").modified) == (first, first)
    second = keys.transact([Unchanged("a", first), Leased("b", lease)], [Put("a", b"2")])
    assert second > first
    assert found(keys, "a").modified == second
    assert keys.transact([Unchanged("a", first)], [Put("a", b"3")]) == 0
    assert keys.transact([], [Delete("a"), Delete("none")]) > 0
    keys.revoke(lease)


def test_a_key_made_again_is_another_one(keys: Keys) -> None:
    keys.put("a", b"1")
    first = found(keys, "a")
    keys.remove(["a"])
    keys.put("a", b"1")
    second = found(keys, "a")
    assert second.created > first.created
    assert not keys.transact([Unchanged("a", first.modified)], [Put("a", b"2")])


def test_only_one_of_many_writers_moves_a_key(keys: Keys) -> None:
    def increment(_: int) -> int:
        tries = 1
        while True:
            at = found(keys, "n")
            value = str(int(at.value) + 1).encode()
            if keys.transact([Unchanged("n", at.modified)], [Put("n", value)]):
                return tries
            tries += 1

    keys.put("n", b"0")
    with ThreadPoolExecutor(8) as threads:
        tries = list(threads.map(increment, range(40)))
    assert found(keys, "n").value == b"40"
    assert sum(tries) >= 40


def test_keys_are_ordered_by_when_they_were_made(keys: Keys) -> None:
    for name in ("c", "a", "b"):
        keys.put(name, b"")
    keys.put("c", b"changed")
    assert [i.key for i in sorted(keys.items(""), key=lambda i: i.created)] == ["c", "a", "b"]


def test_a_lease_holds_until_it_is_revoked(keys: Keys) -> None:
    lease = keys.grant(30)
    left = keys.left(lease)
    assert left is not None
    assert 29 <= left <= 60
    assert keys.transact([Unchanged("lock", 0)], [Put("lock", b"1", lease)])
    assert found(keys, "lock").lease == lease
    assert keys.transact([Leased("lock", lease)], [Put("state", b"1")])
    assert keys.renew(lease)
    keys.revoke(lease)
    assert not keys.transact([Leased("lock", lease)], [Put("state", b"2")])
    assert found(keys, "state").value == b"1"
    assert not keys.renew(lease)
    assert keys.left(lease) is None
    keys.revoke(lease)
    after = keys.get("lock")
    assert after is None or not after.lease


def test_a_lease_runs_out_by_itself(keys: Keys) -> None:
    lease = keys.grant(1)
    assert keys.transact([], [Put("lock", b"1", lease)])
    at = found(keys, "lock")

    def is_over() -> bool:
        keys.wait("lock", at.modified, 30)
        now = keys.get("lock")
        return now is None or not now.lease

    eventually(is_over)
    assert not keys.transact([Leased("lock", lease)], [Put("state", b"1")])
    assert not keys.renew(lease)
    assert keys.left(lease) is None


def test_a_condition_on_a_lease_is_on_that_very_one(keys: Keys) -> None:
    ours, theirs = keys.grant(30), keys.grant(30)
    assert keys.transact([], [Put("lock", b"1", ours), Put("free", b"1")])
    for condition in (Leased("lock", theirs), Leased("free", ours), Leased("none", ours)):
        assert not keys.transact([condition], [Put("state", b"1")])
    assert keys.get("state") is None


def test_nothing_is_written_with_a_lease_that_has_ended(keys: Keys) -> None:
    lease = keys.grant(30)
    keys.revoke(lease)
    assert not keys.transact([Unchanged("lock", 0)], [Put("lock", b"1", lease), Put("a", b"1")])
    assert keys.names("") == []


def test_a_wait_ends_with_each_kind_of_change(keys: Keys) -> None:
    lease = keys.grant(30)

    def take() -> None:
        assert keys.transact([], [Put("a", b"1", lease)])

    changes: list[Callable[[], None]] = [
        lambda: keys.put("a", b"1"),
        lambda: keys.put("a", b"2"),
        lambda: keys.remove(["a"]),
        take,
        lambda: keys.revoke(lease),
    ]
    for change in changes:
        with waiting(keys, "a") as is_over:
            change()
            assert is_over.wait(30)


@contextlib.contextmanager
def waiting(keys: Keys, key: str) -> Iterator[threading.Event]:
    """Set when `key` is no more as it is now."""
    is_over = threading.Event()
    item = keys.get(key)

    def wait() -> None:
        while keys.get(key) == item:
            keys.wait(key, item.modified if item else 0, 30)
        is_over.set()

    thread = threading.Thread(target=wait)
    thread.start()
    yield is_over
    thread.join()


def test_a_wait_for_what_has_happened_already_is_none(keys: Keys) -> None:
    keys.put("a", b"1")
    before = found(keys, "a").modified
    keys.put("a", b"2")
    keys.wait("a", before, 60)
    keys.wait("a", 0, 60)
    keys.wait("gone", before, 60)


def test_a_wait_has_an_end(keys: Keys) -> None:
    keys.put("a", b"1")
    keys.put("b", b"1")
    keys.wait("a", found(keys, "a").modified, 0.05)
    keys.wait("none", 0, 0.05)


def test_closing_ends_what_waits(keys: Keys) -> None:
    keys.put("a", b"1")
    modified = found(keys, "a").modified
    refused = threading.Event()

    def wait() -> None:
        with contextlib.suppress(StoreError):
            while True:
                keys.wait("a", modified, 60)
        refused.set()

    thread = threading.Thread(target=wait)
    thread.start()
    keys.close()
    assert refused.wait(30)
    thread.join()
    with pytest.raises(StoreError, match="was let go of"):
        keys.get("a")


@pytest.mark.parametrize("kind", ["etcd", "consul"])  # with objects it is looked up
def test_a_lost_answer_to_a_transaction_is_told_as_that(
    connect: Open, cluster: Cluster | ObjectServer
) -> None:
    with Proxy(cluster.endpoints[0]) as proxy:
        keys = connect(proxy.endpoint)
        assert keys.get("a") is None
        proxy.drop_reply("txn")
        with pytest.raises(UnsureError, match="may have made a change"):
            keys.transact([Unchanged("a", 0)], [Put("a", b"1")])
        assert len([name for name in proxy.requests if "txn" in name]) == 1
        assert found(keys, "a").value == b"1", "it was done, once"


@pytest.mark.parametrize("lost", ["get", "names", "items", "put", "remove", "grant", "left"])
def test_a_lost_answer_to_what_may_be_done_twice_is_nothing(
    lost: str, connect: Open, cluster: Cluster
) -> None:
    with Proxy(cluster.endpoints[0]) as proxy:
        keys = connect(proxy.endpoint)
        lease = keys.grant(30)
        keys.put("a", b"1")
        does: dict[str, Callable[[], object]] = {
            "get": lambda: found(keys, "a"),
            "names": lambda: keys.names(""),
            "items": lambda: list(keys.items("")),
            "put": lambda: keys.put("a", b"2"),
            "remove": lambda: keys.remove(["a"]),
            "grant": lambda: keys.grant(30),
            "left": lambda: keys.left(lease),
        }
        proxy.drop_reply()
        does[lost]()
        assert len(proxy.dropped) == 1
        assert (keys.get("a") is None) == (lost == "remove")
        keys.revoke(lease)


@pytest.mark.parametrize("kind", ["etcd", "consul", "objects"])  # a bucket is at one endpoint
def test_another_server_answers_for_one_that_does_not(
    connect: Open, cluster: Cluster | ObjectServer
) -> None:
    with Proxy(cluster.endpoints[0]) as away, Proxy(cluster.endpoints[0]) as proxy:
        keys = connect(away.endpoint, proxy.endpoint)
        away.refuse()
        assert keys.transact([Unchanged("a", 0)], [Put("a", b"1")]), "nothing had been sent"
        away.let_pass()
        keys.put("a", b"2")
        assert away.requests == [], "it stays with who answered"
        proxy.refuse()
        assert found(keys, "a").value == b"2"
        assert len(away.requests) == 1


def test_a_connection_that_the_server_closed_meanwhile_costs_no_write(
    connect: Open, cluster: Cluster
) -> None:
    with Proxy(cluster.endpoints[0]) as proxy:
        keys = connect(proxy.endpoint)
        for number in range(20):
            keys.put("a", b"1")
            proxy.refuse()
            proxy.let_pass()
            assert keys.transact([], [Put(f"{number}", b"1")])
