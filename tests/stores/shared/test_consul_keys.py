"""What is Consul's own in how it keeps keys; what all clusters promise is in test_keys.py."""

import json
import time
from collections.abc import Iterator, Sequence

import pytest

from packer_fork.errors import StoreError
from packer_fork.stores.access import Access, parse_address
from packer_fork.stores.consul import MOST, ConsulKeys
from packer_fork.stores.shared.keys import Condition, Delete, Item, Leased, Put, Unchanged
from tests.support.servers import Cluster
from tests.support.servers.process import ask


@pytest.fixture
def keys(consul_server: Cluster, prefix: str) -> Iterator[ConsulKeys]:
    with_keys = connect(consul_server.endpoints, prefix)
    yield with_keys
    with_keys.close()


def connect(endpoints: Sequence[str], prefix: str, token: str = "") -> ConsulKeys:
    address = parse_address(f"consul://{','.join(endpoints)}/{prefix}")
    return ConsulKeys(address, Access(token=token, retry_timeout=0))


def found(keys: ConsulKeys, key: str) -> Item:
    item = keys.get(key)
    assert item
    return item


def test_a_key_can_be_taken_only_by_one_lease_at_a_time(keys: ConsulKeys) -> None:
    ours, theirs = keys.grant(10), keys.grant(10)
    assert keys.transact([], [Put("lock", b"1", ours)])
    taken = found(keys, "lock")
    assert (taken.value, taken.lease) == (b"1", ours)
    assert not keys.transact([], [Put("lock", b"2", theirs)])
    assert found(keys, "lock") == taken
    assert keys.transact([], [Put("lock", b"2", ours)]), "again, by who has it"
    again = found(keys, "lock")
    assert (again.value, again.created) == (b"2", taken.created)
    assert again.modified > taken.modified
    keys.revoke(ours)
    assert keys.transact([], [Put("lock", b"3", theirs)])


def test_a_key_stays_when_its_lease_ends_and_can_be_taken_at_once(keys: ConsulKeys) -> None:
    ours = keys.grant(10)
    assert keys.transact([Unchanged("lock", 0)], [Put("lock", b"1", ours)])
    taken = found(keys, "lock")
    keys.revoke(ours)
    left = found(keys, "lock")
    assert (left.value, left.created, left.lease) == (b"1", taken.created, "")
    assert left.modified > taken.modified, "so that whoever waits for it wakes"
    assert not keys.transact([Leased("lock", ours)], [Put("other", b"1")])
    assert keys.transact([Unchanged("lock", left.modified)], [Put("lock", b"2", keys.grant(10))])


def test_an_abandoned_lease_runs_out_within_twice_its_time(keys: ConsulKeys) -> None:
    lease = keys.grant(1)
    assert keys.transact([], [Put("lock", b"1", lease)])
    assert keys.left(lease) == 2, "at the most"
    assert keys.renew(lease)
    modified = found(keys, "lock").modified
    began = time.monotonic()
    keys.wait("lock", modified, 30)
    assert time.monotonic() - began > 0.9, "not before it"
    assert found(keys, "lock").lease == ""
    assert not keys.renew(lease)


def test_a_lease_belongs_to_a_server_and_hangs_on_no_check(
    keys: ConsulKeys, consul_server: Cluster
) -> None:
    (endpoint,) = consul_server.endpoints
    (session,) = json.loads(ask(endpoint, "GET", f"/v1/session/info/{keys.grant(12.5)}"))
    expected = {
        "Name": "packer-fork",
        "Node": "n0",
        "TTL": "12500ms",
        "Behavior": "release",
        "LockDelay": 0,
        "NodeChecks": [],
    }
    assert expected.items() <= session.items()
    assert not session["ServiceChecks"]


def test_a_write_without_a_lease_leaves_a_key_to_the_lease_that_it_hangs_on(
    keys: ConsulKeys,
) -> None:
    lease = keys.grant(10)
    assert keys.transact([], [Put("lock", b"1", lease)])
    assert keys.transact([Leased("lock", lease)], [Put("lock", b"2")])
    assert (found(keys, "lock").value, found(keys, "lock").lease) == (b"2", lease)
    assert keys.transact([Leased("lock", lease)], [Delete("lock")])
    assert keys.get("lock") is None


def test_a_write_of_what_stands_there_is_a_new_version(keys: ConsulKeys) -> None:
    """To Consul it is none: it keeps the ModifyIndex of what is the same, flags and all."""
    lease = keys.grant(10)
    assert keys.transact([], [Put("a", b"1"), Put("lock", b"1", lease)])
    before = found(keys, "a")
    assert keys.transact([], [Put("lock", b"2", lease)])
    conditions: list[Condition] = [Leased("lock", lease), Unchanged("a", before.modified)]
    done = keys.transact(conditions, [Put("a", b"1"), Put("lock", b"2", lease)])
    assert done > before.modified
    assert (found(keys, "a").modified, found(keys, "lock").modified) == (done, done)
    assert not keys.transact(conditions, [Put("a", b"1")])


def test_the_largest_value_fits_a_transaction_with_many_other_keys(keys: ConsulKeys) -> None:
    large = bytes(range(256)) * (MOST // 256)
    assert len(large) == keys.most
    others: list[Put | Delete] = [Put(f"{'k' * 200}-{number}", b"x" * 50) for number in range(60)]
    lease = keys.grant(10)
    assert keys.transact(
        [Unchanged("large", 0), Unchanged("none", 0), Unchanged("never", 0)],
        [Put("large", large, lease), *others],
    )
    assert found(keys, "large").value == large
    keys.put("also", large)
    assert [len(item.value) for item in keys.items("")] == [len(large)] + [50] * 60 + [len(large)]


def test_a_transaction_with_too_much_in_it_is_refused_and_leaves_nothing(keys: ConsulKeys) -> None:
    with pytest.raises(ValueError, match="more than 64"):
        keys.transact([Unchanged("a", 0)], [Put(f"{number}", b"") for number in range(64)])
    assert keys.transact([Unchanged("a", 0)], [Delete(f"{number}") for number in range(63)])
    with pytest.raises(StoreError, match="too large, max size: 524288 bytes") as refusal:
        keys.transact([], [Put("a", bytes(400_000))])
    assert "kv_max_value_size" in refusal.value.hint
    assert keys.names("") == []
