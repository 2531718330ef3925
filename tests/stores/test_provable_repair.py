"""A repair keeps what can be proven, and gives out no serial twice."""

from pathlib import Path

import pytest

from packer_fork.errors import StateError
from packer_fork.locks import LockStatus
from packer_fork.stores.archive import history
from packer_fork.stores.base import HeldLock
from tests.support import local_states
from tests.support.local_store import holder, open_store


def opened(folder: Path, *, even_damaged: bool = False) -> HeldLock:
    found = open_store(folder).try_acquire(holder("test"), even_damaged=even_damaged)
    assert not isinstance(found, LockStatus)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two segments, a state with a change behind its snapshot, and a backup."""
    monkeypatch.setattr(history, "SEGMENT_SIZE", 1)
    place = tmp_path / "t.pkr.hcl" / "default"
    local_states.segmented(place)
    return place


def test_segments_that_are_swapped_or_gone_are_found(folder: Path) -> None:
    one, two = sorted((folder / "history").iterdir())
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert open_store(folder).verify().problems
    one.write_bytes(first)
    two.unlink()
    assert open_store(folder).verify().problems


@pytest.mark.parametrize("place", ["snapshot", "change"])
def test_a_repair_saves_what_can_be_proven(folder: Path, place: str) -> None:
    whole, path = open_store(folder).read(), folder / "state.json"
    assert whole is not None
    for backup in (folder / "backups").iterdir():
        backup.unlink()
    data = bytearray(path.read_bytes())
    data[30 if place == "snapshot" else len(data) - 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(StateError):
        opened(folder)
    lock = opened(folder, even_damaged=True)
    lock.repair()
    lock.close()
    after = open_store(folder).read()
    assert after is not None
    assert after.serial > whole.serial
    assert not open_store(folder).verify().problems
    lost = set() if place == "snapshot" else {"b4"}
    assert whole.builds.keys() - after.builds.keys() == lost
    assert any(each.name.startswith("damaged-") for each in (folder / "backups").iterdir())


def test_no_serial_is_given_out_twice_where_the_witness_is_unreadable(folder: Path) -> None:
    store = open_store(folder)
    newest = store.read()
    assert newest is not None
    older = next(reversed(list(store.history()))).read().state
    (folder / "acked").write_bytes(b"nothing that can be read")
    lock = opened(folder, even_damaged=True)
    placed = lock.put(older)
    lock.close()
    assert placed.serial > newest.serial
