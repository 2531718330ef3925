"""Values of any size under one key, by real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from packer_fork.model import Build, PendingChange
from packer_fork.stores.shared import blobs, names
from packer_fork.stores.shared.keys import Keys
from tests.support.store_operations import lock_of
from tests.support.stores import Ground

ALL = 1 << 40


@pytest.fixture(params=["etcd", "consul"])
def ground(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Iterator[Ground]:
    cluster = request.getfixturevalue(f"{request.param}_server")
    ground = Ground(request.param, tmp_path, tuple(cluster.endpoints), prefix)
    yield ground
    ground.close()


@pytest.fixture
def keys(ground: Ground) -> Keys:
    return ground.keys()


@pytest.mark.parametrize("packed", [True, False])
def test_what_was_written_is_read(keys: Keys, *, packed: bool) -> None:
    for size in (0, 1, 5000, keys.most - 1, keys.most, 3 * keys.most + 7):
        data = os.urandom(size)
        blobs.write(keys, f"b/{size}", data, packed=packed)
        assert blobs.read(keys, f"b/{size}", ALL) == data
        assert blobs.read(keys, f"b/{size}", 100) == data[:100] or packed
    assert blobs.read(keys, "b/none", ALL) is None


def test_what_can_be_made_smaller_is(keys: Keys) -> None:
    data = b"the same again and again " * 40_000
    blobs.write(keys, "b", data, packed=True)
    assert (blobs.size(keys, "b") or 0) < len(data) / 20
    assert blobs.read(keys, "b", ALL) == data


def test_nothing_of_it_is_left_when_it_is_removed(keys: Keys) -> None:
    blobs.write(keys, "b", os.urandom(2 * keys.most), packed=True)
    assert len(keys.names("pieces/")) > 1
    blobs.remove(keys, ["b"])
    assert keys.names("") == []


def test_a_missing_piece_ends_it_early(keys: Keys) -> None:
    data = os.urandom(3 * keys.most)
    blobs.write(keys, "b", data, packed=False)
    keys.remove([keys.names("pieces/")[1]])
    found = blobs.read(keys, "b", ALL)
    assert found is not None
    assert data.startswith(found)
    assert len(found) < len(data)


def test_pieces_that_a_killed_writer_left_are_collected(ground: Ground, keys: Keys) -> None:
    with lock_of(ground.open()) as lock:
        lock.commit(PendingChange(operation="test", builds={"b": Build(name="b")}))
        segment = f"{names.FILES}history/none.zst"
        blobs.write(keys, segment, os.urandom(2 * keys.most), packed=False)
        keys.remove([segment])
        left = blobs.orphans(keys, names.FILES)
        assert list(left) == [segment]
        keys.put(f"pieces/{names.change(0, 'f' * 64)}/000000", b"x")
        assert blobs.orphans(keys, names.CHANGES)
        lock.compact()
        lock.commit(PendingChange(operation="test"))
        lock.discard_unused()
    assert blobs.orphans(keys, "") == {}
    assert ground.open().verify().problems == ()
