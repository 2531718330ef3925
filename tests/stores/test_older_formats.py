"""States of other formats: newer ones are left alone. The one in tests/formats is made up."""

import shutil
from pathlib import Path

import msgspec
import pytest

from packer_fork.codec.lines import unseal
from packer_fork.errors import DamagedError, NewerFormatError, StateError
from packer_fork.model import FORMAT_VERSION, Draft, State
from tests.support import local_states
from tests.support.local_states import open_store, serials, tenure_of
from tests.support.local_store import holder

FORMATS = Path(__file__).parents[1] / "formats"
MINIMAL = {
    "version": 1,
    "serial": 7,
    "lineage": "by-hand",
    "template": {"path": "demo.pkr.hcl"},
    "builds": {"a": {"name": "a", "status": "complete"}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "demo.pkr.hcl" / "default"


def copy(folder: Path, *parts: str) -> None:
    shutil.copytree(FORMATS.joinpath(*parts), folder)


def state_of(folder: Path) -> State:
    state = open_store(folder).read()
    assert state is not None
    return state


def migrate(folder: Path) -> int:
    with tenure_of(open_store(folder)) as tenure:
        return tenure.commit(Draft(operation="test", why="the first in the present format")).serial


def repair(folder: Path) -> int:
    with tenure_of(open_store(folder), even_damaged=True) as tenure:
        return tenure.repair().serial


def first_line(folder: Path) -> dict[str, object]:
    with (folder / "state.json").open("rb") as file:
        document: dict[str, object] = msgspec.json.decode(file.readline())
    return document


def is_found(folder: Path) -> bool:
    store = open_store(folder)
    try:
        store.read()
    except StateError:
        return True
    return bool(store.verify().problems)


def assert_sound(folder: Path) -> None:
    verified = open_store(folder).verify()
    assert (verified.problems, verified.unused) == ((), ())


def test_the_made_up_format_is_sealed_well() -> None:
    data = (FORMATS / "v3" / "state.json").read_bytes()
    assert unseal(data) is not None, "otherwise it would be damage"
    assert msgspec.json.decode(data)["version"] == FORMAT_VERSION + 1


def test_a_newer_format_is_refused_and_never_touched(folder: Path) -> None:
    copy(folder, "v3")
    data = (folder / "state.json").read_bytes()
    store = open_store(folder)
    for look in (store.read, store.verify, store.salvage, lambda: list(store.history())):
        with pytest.raises(NewerFormatError, match="version 3") as caught:
            look()
        assert "Upgrade" in caught.value.hint
    for even_damaged in (False, True):
        with pytest.raises(NewerFormatError):
            store.try_acquire(holder("test"), even_damaged=even_damaged)
    assert (folder / "state.json").read_bytes() == data
    assert not (folder / "backups").exists()


def test_a_newer_format_that_is_not_sealed_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    data = b'{"version":3,"serial":1,"what":"ever"}\n'
    (folder / "state.json").write_bytes(data)
    for even_damaged in (False, True):
        with pytest.raises(NewerFormatError):
            open_store(folder).try_acquire(holder("test"), even_damaged=even_damaged)
    assert (folder / "state.json").read_bytes() == data


def test_a_newer_format_that_appears_meanwhile_is_never_overwritten(folder: Path) -> None:
    """Another job of the same pipeline may be upgraded already."""
    local_states.grow(folder, range(1, 3))
    state, data = state_of(folder), (FORMATS / "v3" / "state.json").read_bytes()
    with tenure_of(open_store(folder)) as tenure:
        tenure.commit(Draft(operation="test"))
        (folder / "state.json").write_bytes(data)
        for act in (
            lambda: tenure.commit(Draft(operation="test")),
            tenure.compact,
            tenure.repair,
            tenure.discard_unused,
            lambda: tenure.backup("test", keep=1),
            lambda: tenure.put(state),
        ):
            with pytest.raises(NewerFormatError):
                act()
            assert (folder / "state.json").read_bytes() == data
    assert (folder / "state.json").read_bytes() == data


def test_damage_of_a_newer_format_is_damage(folder: Path) -> None:
    copy(folder, "v3")
    local_states.flip(folder / "state.json", 150)
    with pytest.raises(StateError):
        open_store(folder).read()


def test_a_newer_backup_is_told_of_as_such(folder: Path) -> None:
    local_states.small(folder)
    (backup,) = open_store(folder).backups()
    Path(backup.path).write_bytes((FORMATS / "v3" / "state.json").read_bytes())
    with pytest.raises(NewerFormatError):
        open_store(folder).verify()
    with pytest.raises(NewerFormatError):
        local_states.read_backup(backup.path)


@pytest.mark.parametrize("indent", [-1, 0, 2])
@pytest.mark.parametrize("version", [1, FORMAT_VERSION])
def test_what_was_written_by_hand_is_taken_over(folder: Path, indent: int, version: int) -> None:
    folder.mkdir(parents=True)
    data = msgspec.json.format(msgspec.json.encode(MINIMAL | {"version": version}), indent=indent)
    (folder / "state.json").write_bytes(data)
    before = state_of(folder)
    assert (before.serial, before.lineage, list(before.builds)) == (7, "by-hand", ["a"])
    assert_sound(folder)
    assert migrate(folder) == 8
    assert state_of(folder).builds == before.builds
    (backup,) = open_store(folder).backups()
    assert (backup.reason, backup.serial) == (f"format-{version}", 7)
    assert local_states.read_backup(backup.path).state == before
    assert serials(open_store(folder)) == [8]
    local_states.grow(folder, range(50, 52))
    assert serials(open_store(folder)) == [12, 11, 10, 9, 8]
    assert open_store(folder).verify().oldest == 7
    assert_sound(folder)


def test_what_was_written_by_hand_may_be_repaired(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "state.json").write_bytes(msgspec.json.encode(MINIMAL))
    (folder / "acked").write_bytes(b"unreadable")
    with pytest.raises(DamagedError):
        open_store(folder).read()
    repair(folder)
    assert list(state_of(folder).builds) == ["a"]
    assert open_store(folder).verify().problems == ()


def test_what_was_written_by_hand_needs_exactly_its_keys(folder: Path) -> None:
    folder.mkdir(parents=True)
    for wrong in (MINIMAL | {"x": 1}, {key: MINIMAL[key] for key in MINIMAL if key != "lineage"}):
        (folder / "state.json").write_bytes(msgspec.json.encode(wrong))
        with pytest.raises(DamagedError):
            open_store(folder).read()


def test_the_present_format_needs_no_backup_of_an_older_one(folder: Path) -> None:
    local_states.grow(folder, range(1, 3))
    assert open_store(folder).backups() == ()
