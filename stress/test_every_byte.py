"""Damage at each byte of each file of a state is found; `--scale` says at how many of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from packer_fork.codec.statefile import decode_file
from packer_fork.model import State
from packer_fork.stores.archive import history
from stress.scale import Scale
from tests.support import local_states
from tests.support.local_store import open_store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(history, "SEGMENT_SIZE", 1)
    place = tmp_path / "t.pkr.hcl" / "default"
    local_states.segmented(place)
    return place


def stored(folder: Path) -> Iterator[Path]:
    yield from (folder / "state.json", folder / "acked")
    yield from sorted((folder / "history").iterdir())
    yield from sorted((folder / "backups").iterdir())


def is_found(folder: Path, whole: State | None) -> bool:
    """Whether a check reports the damage; if not, the state must still read as a whole."""
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
def test_a_flipped_bit_in_any_byte_is_found(folder: Path, which: int, scale: Scale) -> None:
    path, whole = list(stored(folder))[which], open_store(folder).read()
    data = path.read_bytes()
    missed = []
    for offset in scale.some(len(data)):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << (offset % 8)
        path.write_bytes(flipped)
        if not is_found(folder, whole) and not reads_as(path, data):
            missed.append(offset)
    path.write_bytes(data)
    assert not open_store(folder).verify().problems
    assert not missed


@pytest.mark.parametrize("which", [0, 2, 3, 4])
def test_a_cut_at_any_length_is_found(folder: Path, which: int, scale: Scale) -> None:
    path, whole = list(stored(folder))[which], open_store(folder).read()
    data = path.read_bytes()
    missed = []
    for length in scale.some(len(data)):
        path.write_bytes(data[:length])
        if not is_found(folder, whole):
            missed.append(length)
    assert not missed
