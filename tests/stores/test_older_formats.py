"""States of other formats: older ones are taken over whole, newer ones are left alone.

The folders in tests/formats were written by packer-fork of that format; the one of a
format to come is made up.
"""

import random
import shutil
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from packer_fork.codec.lines import unseal
from packer_fork.errors import DamagedError, NewerFormatError, StateError
from packer_fork.model import FORMAT_VERSION, Draft, State
from packer_fork.stores.archive import history
from packer_fork.stores.local.layout import Layout
from tests.support import local_states
from tests.support.local_states import bare, open_store, serials, tenure_of
from tests.support.local_store import holder

FORMATS = Path(__file__).parents[1] / "formats"
OLD = {"at-rest": 17, "with-changes": 20}
"""The last serial of each state of format 1."""

PLACES = 250
FIRST_FORMAT = pytest.mark.parametrize("name", OLD)
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


@FIRST_FORMAT
def test_the_first_format_is_read_as_it_is(folder: Path, name: str) -> None:
    copy(folder, "v1", name)
    before = (folder / "state.json").read_bytes()
    state, document = state_of(folder), first_line(folder)
    assert document["version"] == 1
    assert state.serial == OLD[name]
    assert (state.lineage, state.key) == (document["lineage"], document["key"])
    assert serials(open_store(folder)) == list(range(OLD[name], 0, -1))
    assert_sound(folder)
    verified = open_store(folder).verify()
    assert (verified.segments, verified.changes, verified.oldest) == (4, OLD[name], 0)
    assert (folder / "state.json").read_bytes() == before, "reading changes nothing"


def test_a_snapshot_of_the_first_format_has_the_builds_that_are_in_it(folder: Path) -> None:
    copy(folder, "v1", "at-rest")
    found = {name: msgspec.json.decode(raw) for name, raw in state_of(folder).builds.items()}
    assert found == first_line(folder)["builds"]


@FIRST_FORMAT
def test_the_first_commit_brings_the_present_format(folder: Path, name: str) -> None:
    copy(folder, "v1", name)
    before, old = state_of(folder), list(local_states.changes(open_store(folder)))
    assert migrate(folder) == OLD[name] + 1
    assert first_line(folder)["version"] == FORMAT_VERSION
    moved_on = {"serial": before.serial, "tenure": before.tenure, "prev": before.prev}
    assert structs.replace(state_of(folder), sealed=None, **moved_on) == bare(before)
    assert list(local_states.changes(open_store(folder)))[1:] == old
    assert_sound(folder)


@FIRST_FORMAT
def test_the_state_as_it_was_is_kept_in_a_backup(folder: Path, name: str) -> None:
    copy(folder, "v1", name)
    before, lines = state_of(folder), (folder / "state.json").read_bytes()
    migrate(folder)
    (backup,) = open_store(folder).backups()
    assert (backup.reason, backup.serial) == ("format-1", OLD[name])
    file = local_states.read_backup(backup.path)
    assert b"".join(bytes(line.data) for line in file.lines) == lines
    assert file.state == before
    local_states.grow(folder, range(50, 52))
    assert len(open_store(folder).backups()) == 1, "it is done once"


@FIRST_FORMAT
def test_a_history_of_the_first_format_goes_on(folder: Path, name: str) -> None:
    copy(folder, "v1", name)
    old = {path.name: path.read_bytes() for path in (folder / "history").iterdir()}
    migrate(folder)
    made = local_states.grow(folder, range(50, 60))
    assert max(made) == OLD[name] + 1 + 20
    assert serials(open_store(folder)) == list(range(max(made), 0, -1))
    for file, data in old.items():
        assert (folder / "history" / file).read_bytes() == data, "it is not written again"
    assert_sound(folder)


@FIRST_FORMAT
def test_compacting_alone_brings_the_present_format(folder: Path, name: str) -> None:
    copy(folder, "v1", name)
    before = state_of(folder)
    with tenure_of(open_store(folder)) as tenure:
        tenure.compact()
    assert first_line(folder)["version"] == FORMAT_VERSION
    assert bare(state_of(folder)) == bare(before)
    assert serials(open_store(folder)) == list(range(OLD[name], 0, -1))
    assert_sound(folder)


@FIRST_FORMAT
def test_a_history_of_the_first_format_can_be_pruned(folder: Path, name: str) -> None:
    copy(folder, "v1", name)
    cut = list(history.chain(Layout(folder), state_of(folder)))[2]
    with tenure_of(open_store(folder)) as tenure:
        tenure.commit(Draft(operation="prune", cuts={cut.segment: None}))
        assert len(tenure.discard_unused()) == 2
    assert min(serials(open_store(folder))) == cut.serial + 1
    assert_sound(folder)


@FIRST_FORMAT
def test_a_state_of_the_first_format_can_be_put_elsewhere(
    folder: Path, tmp_path: Path, name: str
) -> None:
    copy(folder, "v1", name)
    state, other = state_of(folder), tmp_path / "other" / "default"
    with tenure_of(open_store(other)) as tenure:
        for _, data in open_store(folder).segments(state):
            tenure.put_segment(data)
        tenure.put(state)
    now = state_of(other)
    assert (now.serial, now.lineage, now.key) == (state.serial, state.lineage, state.key)
    assert now.builds == state.builds
    assert state.sealed is not None
    assert serials(open_store(other)) == list(range(state.sealed.serial, 0, -1))
    assert_sound(other)


@FIRST_FORMAT
def test_damage_of_the_first_format_is_found(folder: Path, name: str) -> None:
    copy(folder, "v1", name)
    random_ = random.Random(name)
    files = [folder / "state.json", folder / "acked", *(folder / "history").iterdir()]
    for path in sorted(files):
        data = path.read_bytes()
        for offset in random_.sample(range(len(data)), min(len(data), PLACES // len(files))):
            local_states.flip(path, offset, random_.randrange(8))
            assert is_found(folder), (path.name, offset)
            path.write_bytes(data[:offset])
            assert is_found(folder), (path.name, "cut", offset)
            path.write_bytes(data)
    assert not is_found(folder)


def test_the_middle_of_a_history_of_the_first_format_is_repaired(folder: Path) -> None:
    copy(folder, "v1", "with-changes")
    before = state_of(folder)
    middle = list(history.chain(Layout(folder), before))[1]
    local_states.flip(folder / "history" / f"{middle.segment}.zst", 900)
    found = open_store(folder).recoverable()
    assert bare(found.state) == bare(before)
    assert any(f"to {middle.serial}" in told for told in found.lost)
    assert repair(folder) == before.serial + 1
    assert open_store(folder).verify().problems == ()
    assert state_of(folder).builds == before.builds


def test_the_end_of_a_state_of_the_first_format_is_repaired(folder: Path) -> None:
    copy(folder, "v1", "with-changes")
    path = folder / "state.json"
    path.write_bytes(path.read_bytes()[:-10])
    found = open_store(folder).recoverable()
    assert found.state is not None
    assert (found.state.serial, found.acknowledged) == (19, 20)
    assert "serials 20 to 20" in found.lost[0]
    assert repair(folder) > 21
    assert first_line(folder)["version"] == FORMAT_VERSION
    assert serials(open_store(folder))[1:] == list(range(19, 0, -1))
    assert open_store(folder).verify().problems == ()


def test_a_lost_file_of_the_first_format_is_made_of_its_history(folder: Path) -> None:
    copy(folder, "v1", "at-rest")
    before = state_of(folder)
    (folder / "state.json").unlink()
    repair(folder)
    assert state_of(folder).builds == before.builds
    assert open_store(folder).verify().problems == ()


def test_the_made_up_format_is_sealed_well() -> None:
    data = (FORMATS / "v3" / "state.json").read_bytes()
    assert unseal(data) is not None, "otherwise it would be damage"
    assert msgspec.json.decode(data)["version"] == FORMAT_VERSION + 1


def test_a_newer_format_is_refused_and_never_touched(folder: Path) -> None:
    copy(folder, "v3")
    data = (folder / "state.json").read_bytes()
    store = open_store(folder)
    for look in (store.read, store.verify, store.recoverable, lambda: list(store.history())):
        with pytest.raises(NewerFormatError, match="version 3") as caught:
            look()
        assert "Upgrade" in caught.value.hint
    for even_damaged in (False, True):
        with pytest.raises(NewerFormatError):
            store.try_acquire(holder("test"), even_damaged=even_damaged)
    assert (folder / "state.json").read_bytes() == data
    assert not (folder / "backups").exists()


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
