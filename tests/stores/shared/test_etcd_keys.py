"""What is etcd's own in how it keeps keys; what all clusters promise is in test_keys.py."""

import time
from collections.abc import Iterator

import pytest

from packer_fork.stores import http_client
from packer_fork.stores.access import Access, parse_address
from packer_fork.stores.etcd import OPERATIONS, EtcdKeys
from packer_fork.stores.http_client import LargeError
from packer_fork.stores.shared.keys import Leased, Put, Unchanged
from tests.support.servers import Cluster, etcdctl


@pytest.fixture
def keys(etcd_server: Cluster, prefix: str) -> Iterator[EtcdKeys]:
    address = parse_address(f"etcd://{etcd_server.endpoints[0]}/{prefix}")
    made = EtcdKeys(address, Access(retry_timeout=0))
    yield made
    made.close()


def test_a_key_vanishes_with_its_lease(keys: EtcdKeys) -> None:
    lease = keys.grant(30)
    assert keys.transact([], [Put("lock", b"1", lease), Put("other", b"1")])
    assert keys.transact([Leased("lock", lease)], [Put("lock", b"2", lease)])
    keys.revoke(lease)
    assert keys.names("") == ["other"]


def test_what_a_lease_has_left_is_a_bound(keys: EtcdKeys) -> None:
    """The servers tell whole seconds, rounded down."""
    began = time.monotonic()
    lease = keys.grant(59.1)
    left = keys.left(lease)
    assert left is not None
    assert 60 - (time.monotonic() - began) <= left <= 60
    keys.revoke(lease)


def test_a_transaction_has_a_bound(keys: EtcdKeys) -> None:
    full = [Put(f"{number:03d}", b"") for number in range(OPERATIONS)]
    none = [Unchanged(f"{number:03d}", 0) for number in range(OPERATIONS)]
    assert keys.transact(none, full)
    with pytest.raises(ValueError, match="more than 128"):
        keys.transact([], [*full, Put("one more", b"")])
    with pytest.raises(ValueError, match="more than 128"):
        keys.transact([*none, Unchanged("one more", 0)], [])
    keys.remove([put.key for put in full] + ["one more"])
    assert keys.names("") == []


def test_the_largest_value_fits_with_many_keys(keys: EtcdKeys) -> None:
    others = [Put(f"{number:03d}{'k' * 200}", b"x" * 50) for number in range(OPERATIONS - 1)]
    conditions = [Unchanged(put.key, 0) for put in others]
    assert keys.transact(conditions, [*others, Put("large", bytes(keys.most))])
    assert sum(len(item.value) for item in keys.items("")) == keys.most + 50 * len(others)


def test_pages_shrink_where_values_grow(keys: EtcdKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of an answer stands as many of these values as of the largest in reality."""
    monkeypatch.setattr(http_client, "MAX_RESPONSE", 3 << 20)
    value = bytes(64 << 10)
    small = [f"a{number:03d}" for number in range(100)]
    large = [f"b{number:03d}" for number in range(100)]
    for first in (0, 50):
        assert keys.transact([], [Put(name, b"1") for name in small[first : first + 50]])
    for first in range(0, 100, 20):
        assert keys.transact([], [Put(name, value) for name in large[first : first + 20]])
    read = [(item.key, len(item.value)) for item in keys.items("")]
    assert read == [(name, 1) for name in small] + [(name, len(value)) for name in large]
    monkeypatch.setattr(http_client, "MAX_RESPONSE", 1 << 20)
    with pytest.raises(LargeError):
        list(keys.items("b"))


def test_a_wait_outlives_compaction(keys: EtcdKeys, etcd_server: Cluster) -> None:
    keys.put("a", b"1")
    before = keys.get("a")
    assert before is not None
    for _ in range(3):
        keys.put("b", b"1")
    now = keys.get("b")
    assert now is not None
    etcdctl(etcd_server, "compaction", str(now.modified))
    keys.wait("a", before.modified, 0.05)
    assert keys.get("a") == before
    keys.put("a", b"2")
    keys.wait("a", before.modified, 60)


def test_etcdctl_sees_the_same_keys(keys: EtcdKeys, etcd_server: Cluster, prefix: str) -> None:
    keys.put("a/b", b"from here")
    assert etcdctl(etcd_server, "get", f"{prefix}/a/b") == f"{prefix}/a/b\nfrom here\n"
    etcdctl(etcd_server, "put", f"{prefix}/c", "from there")
    found = keys.get("c")
    assert found is not None
    assert found.value == b"from there"
