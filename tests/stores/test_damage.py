"""Damage anywhere in what is stored: it is told, or it changes nothing that is read."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from packer_fork.codec.compression import ZSTD_MAGIC
from packer_fork.errors import DamagedError, StateError
from packer_fork.model import PendingChange
from packer_fork.stores.local import journal
from tests.support import local_states
from tests.support.local_states import Whole, open_store

FILES = {
    "state": "state.json",
    "witness": "acked",
    "segments": "history/*.zst",
    "backups": "backups/*.zst",
}
NAMES = (b'"digest"', b'"prev"', b'"sealed"', b'"segment"', b'"summary"')
PLACES = 60
STRIDE = 13
"""One byte of so many is damaged, each bit in turn; stress/test_every_byte.py damages each."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "t.pkr.hcl" / "default"


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "COMPRESSED_SIZE", 1)


def make(folder: Path) -> Whole:
    local_states.make_small(folder)
    return local_states.whole(folder)


def is_found(folder: Path) -> bool:
    """Whether somebody who reads, or else somebody who verifies, hears of the damage."""
    store = open_store(folder)
    try:
        store.read()
    except StateError:
        return True
    return bool(store.verify().problems)


def assert_found_or_harmless(folder: Path, good: Whole, what: object) -> None:
    """Some bits of zstd mean nothing; what is not told must read as the whole."""
    assert is_found(folder) or local_states.whole(folder) == good, what


Damages = Callable[[bytes], Iterator[tuple[int, bytes]]]


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    for offset in range(0, len(data), STRIDE):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << (offset % 8)
        yield offset, bytes(flipped)


def gaps(data: bytes) -> Iterator[tuple[int, bytes]]:
    return ((size, data[:size]) for size in range(0, len(data), STRIDE))


EVERYWHERE = pytest.mark.parametrize("damages", [flips, gaps])


def assert_all_found(folder: Path, files: str, damages: Damages) -> None:
    good = local_states.whole(folder)
    for path in folder.glob(files):
        data = path.read_bytes()
        for offset, damaged in damages(data):
            path.write_bytes(damaged)
            assert_found_or_harmless(folder, good, (path.name, offset))
        path.write_bytes(data)
    assert local_states.whole(folder) == good
    assert not is_found(folder)


@EVERYWHERE
@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
def test_damage_of_any_file_is_found(folder: Path, files: str, damages: Damages) -> None:
    make(folder)
    assert_all_found(folder, files, damages)


@EVERYWHERE
@pytest.mark.usefixtures("compressed")
def test_damage_of_a_compressed_state_is_found(folder: Path, damages: Damages) -> None:
    make(folder)
    assert (folder / "state.json").read_bytes().startswith(ZSTD_MAGIC)
    assert_all_found(folder, "state.json", damages)


def test_no_flip_in_the_name_of_a_checksum_switches_it_off(folder: Path) -> None:
    good, seen = make(folder), set()
    for path in (folder / "state.json", *folder.glob("history/*.zst")):
        data = path.read_bytes()
        for name in NAMES:
            start = data.find(name)
            while start >= 0:
                seen.add(name)
                for bit in range(8):
                    flipped = bytearray(data)
                    flipped[start + 1 + bit % (len(name) - 2)] ^= 1 << bit
                    path.write_bytes(flipped)
                    assert is_found(folder), (path.name, name, start, bit)
                start = data.find(name, start + 1)
        path.write_bytes(data)
    assert seen == set(NAMES)
    assert local_states.whole(folder) == good


def test_a_state_without_the_names_of_its_checksums_is_refused(folder: Path) -> None:
    make(folder)
    path = folder / "state.json"
    whole = path.read_bytes()
    for name in NAMES:
        assert name in whole
        path.write_bytes(whole.replace(name, b'"other"'))
        assert is_found(folder), name
        path.write_bytes(whole)


def test_a_dropped_doubled_or_swapped_line_is_found(folder: Path) -> None:
    make(folder)
    path = folder / "state.json"
    lines = path.read_bytes().splitlines(keepends=True)
    for index, line in enumerate(lines):
        others = [*lines[:index], *lines[index + 1 :]]
        for place in range(len(lines)):
            if place != index:
                moved = [*others[:place], line, *others[place:]]
                path.write_bytes(b"".join(moved))
                assert is_found(folder), ("moved", index, place)
        path.write_bytes(b"".join(others))
        assert is_found(folder), ("dropped", index)
        path.write_bytes(b"".join([*lines[: index + 1], *lines[index:]]))
        assert_found_or_harmless(folder, good=good_of(folder, lines), what=("doubled", index))


def good_of(folder: Path, lines: list[bytes]) -> Whole:
    """What is read of `lines`; the file is left as it was."""
    path = folder / "state.json"
    before = path.read_bytes()
    path.write_bytes(b"".join(lines))
    good = local_states.whole(folder)
    path.write_bytes(before)
    return good


def test_a_missing_renamed_or_swapped_segment_is_found(folder: Path) -> None:
    good = make(folder)
    paths = local_states.segments(folder)
    assert len(paths) == 3
    for path in paths:
        aside = path.rename(path.with_name("aside"))
        assert is_found(folder), "missing"
        other = aside.rename(path.with_name(f"{'0' * 64}.zst"))
        assert is_found(folder), "renamed"
        other.rename(path)
        for another in paths:
            if another != path:
                data = path.read_bytes()
                path.write_bytes(another.read_bytes())
                assert is_found(folder), "of another"
                path.write_bytes(data)
    assert local_states.whole(folder) == good


@pytest.mark.parametrize("order", [(0, 1), (0, 2), (1, 2)])
def test_two_segments_in_the_place_of_each_other_are_both_named(
    folder: Path, order: tuple[int, int]
) -> None:
    make(folder)
    one, two = (local_states.segments(folder)[index] for index in order)
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    named = {problem.file for problem in open_store(folder).verify().problems}
    assert str(one) in named


def test_a_damaged_segment_that_only_a_backup_needs_is_found(folder: Path) -> None:
    make(folder)
    newest = local_states.segments(folder)[0]
    with local_states.lock_of(open_store(folder)) as lock:
        lock.commit(PendingChange(operation="prune", gaps={newest.stem: None}))
        lock.discard_unused()
    assert newest.exists(), "the backup names it"
    assert not is_found(folder)
    local_states.flip(newest, 500)
    assert [problem.file for problem in open_store(folder).verify().problems] == [str(newest)]


def test_a_missing_witness_alone_loses_nothing(folder: Path) -> None:
    good = make(folder)
    (folder / "acked").unlink()
    assert local_states.whole(folder) == good
    assert good.state is not None
    made = local_states.grow(folder, range(6, 7))
    assert min(made) == good.state.serial + 1
    assert not is_found(folder)
    assert (folder / "acked").exists()


def test_a_missing_witness_and_a_torn_end_are_damage(folder: Path) -> None:
    make(folder)
    (folder / "acked").unlink()
    path = folder / "state.json"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="no witness"):
        open_store(folder).read()


def test_a_state_of_an_hour_ago_is_not_taken_for_the_present_one(folder: Path) -> None:
    make(folder)
    before = (folder / "state.json").read_bytes()
    local_states.grow(folder, range(6, 7))
    (folder / "state.json").write_bytes(before)
    with pytest.raises(DamagedError, match="lost"):
        open_store(folder).read()


def test_a_state_of_another_template_is_not_taken_for_this_one(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "a", tmp_path / "b"
    local_states.small(ours)
    local_states.make_small(theirs)
    (ours / "state.json").write_bytes((theirs / "state.json").read_bytes())
    assert is_found(ours)


def test_damage_at_any_place_of_a_large_state_is_found(folder: Path) -> None:
    local_states.large(folder, 3000)
    good, random_ = local_states.whole(folder), random.Random(1)
    path = folder / "state.json"
    data = path.read_bytes()
    assert len(data) > 300_000
    for _ in range(PLACES):
        offset, bit = random_.randrange(len(data)), random_.randrange(8)
        flipped = bytearray(data)
        flipped[offset] ^= 1 << bit
        path.write_bytes(flipped)
        with pytest.raises(StateError):
            open_store(folder).read()
    path.write_bytes(data)
    assert local_states.whole(folder) == good


@pytest.mark.usefixtures("compressed")
def test_damage_at_any_place_of_a_large_compressed_state_is_found(folder: Path) -> None:
    local_states.large(folder, 3000)
    good, random_ = local_states.whole(folder), random.Random(2)
    path = folder / "state.json"
    data = path.read_bytes()
    assert data.startswith(ZSTD_MAGIC)
    for _ in range(PLACES):
        offset, bit = random_.randrange(len(data)), random_.randrange(8)
        flipped = bytearray(data)
        flipped[offset] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            found = open_store(folder).read()
        except StateError:
            continue
        assert found == good.state, (offset, bit)
    path.write_bytes(data)
    assert local_states.whole(folder) == good


def test_each_damaged_file_of_a_large_history_is_named(folder: Path) -> None:
    local_states.large(folder, 300)
    random_ = random.Random(3)
    files = {path: path.read_bytes() for path in local_states.segments(folder)}
    assert len(files) > 3
    assert sum(map(len, files.values())) > 1_000_000
    for _ in range(PLACES // 10):
        for path, data in files.items():
            flipped = bytearray(data)
            flipped[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
            path.write_bytes(flipped)
        named = {problem.file for problem in open_store(folder).verify().problems}
        assert str(next(iter(files))) in named
        for path, data in files.items():
            path.write_bytes(data)
    assert not is_found(folder)
