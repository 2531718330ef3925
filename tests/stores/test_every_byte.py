"""Damage anywhere in what is stored is found, and what can be proven is saved."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from packer_fork.codec.statefile import decode_file
from packer_fork.errors import StateError
from packer_fork.locks import LockStatus
from packer_fork.model import Build, Draft, State
from packer_fork.stores.archive import history
from packer_fork.stores.base import MANUAL, Tenure
from tests.support import local_states
from tests.support.local_store import holder, open_store


def opened(folder: Path, *, even_damaged: bool = False) -> Tenure:
    found = open_store(folder).try_acquire(holder("test"), even_damaged=even_damaged)
    assert not isinstance(found, LockStatus)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two segments, a state with a change behind its snapshot, and a backup."""
    monkeypatch.setattr(history, "SEGMENT_SIZE", 1)
    place = tmp_path / "t.pkr.hcl" / "default"
    tenure = opened(place)
    for number in range(5):
        tenure.commit(Draft(operation="test", builds={f"b{number}": Build(name=f"b{number}")}))
        if number in (1, 3):
            tenure.compact()
    tenure.backup(MANUAL, keep=1)
    tenure.close()
    return place


def stored(folder: Path) -> Iterator[Path]:
    yield from (folder / "state.json", folder / "acked")
    yield from sorted((folder / "history").iterdir())
    yield from sorted((folder / "backups").iterdir())


def is_found(folder: Path, whole: State | None) -> bool:
    """Whether it is told of; if it is not, all must still be read as the whole."""
    store = open_store(folder)
    if store.verify().problems:
        return True
    assert store.read() == whole
    return False


def reads_as(backup: Path, whole: bytes) -> bool:
    """Some bits of a zstd frame mean nothing: then a backup still reads as it was written."""
    lines = [line.digest for line in local_states.read_backup(backup).lines]
    return lines == [line.digest for line in decode_file(whole, "whole").lines]


@pytest.mark.parametrize("which", range(5))
def test_a_flipped_bit_in_any_byte_is_found(folder: Path, which: int) -> None:
    path, whole = list(stored(folder))[which], open_store(folder).read()
    data = path.read_bytes()
    missed = []
    for offset in range(len(data)):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << (offset % 8)
        path.write_bytes(flipped)
        if not is_found(folder, whole) and not reads_as(path, data):
            missed.append(offset)
    path.write_bytes(data)
    assert not open_store(folder).verify().problems
    assert not missed


@pytest.mark.parametrize("which", [0, 2, 3, 4])
def test_a_cut_at_any_length_is_found(folder: Path, which: int) -> None:
    path, whole = list(stored(folder))[which], open_store(folder).read()
    data = path.read_bytes()
    missed = []
    for length in range(len(data)):
        path.write_bytes(data[:length])
        if not is_found(folder, whole):
            missed.append(length)
    assert not missed


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
    tenure = opened(folder, even_damaged=True)
    tenure.repair()
    tenure.close()
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
    tenure = opened(folder, even_damaged=True)
    placed = tenure.put(older)
    tenure.close()
    assert placed.serial > newest.serial
