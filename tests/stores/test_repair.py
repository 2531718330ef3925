"""Repair: all that can be proven is saved, what is lost is told, and nothing is thrown away."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec import structs

from packer_fork.codec.lines import read_change, seal, unseal
from packer_fork.errors import DamagedError, NewerFormatError, StateError
from packer_fork.locks import LockStatus
from packer_fork.model import FORMAT_VERSION, PendingChange
from packer_fork.stores.local import journal
from tests.support import local_states
from tests.support.local_states import States, bare, lock_of, open_store
from tests.support.local_store import holder

LAST = 9
"""The last serial of the small state."""

Damage = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "t.pkr.hcl" / "default"


def line(number: int) -> Damage:
    """One bit of a line of the state file, 0 for that of the snapshot."""

    def damage(folder: Path) -> None:
        path = folder / "state.json"
        lines = path.read_bytes().splitlines(keepends=True)
        local_states.flip(path, sum(map(len, lines[:number])) + len(lines[number]) // 2)

    return damage


def torn(folder: Path) -> None:
    path = folder / "state.json"
    path.write_bytes(path.read_bytes()[:-20])


def no_state(folder: Path) -> None:
    (folder / "state.json").unlink()


def empty_state(folder: Path) -> None:
    (folder / "state.json").write_bytes(b"")


def zeroed_state(folder: Path) -> None:
    path = folder / "state.json"
    path.write_bytes(b"\0" * path.stat().st_size)


def zeroed_end(folder: Path) -> None:
    """As a power cut may leave it."""
    path = folder / "state.json"
    data = path.read_bytes()
    path.write_bytes(data[:-300] + b"\0" * 300)


def witness(folder: Path) -> None:
    local_states.flip(folder / "acked", 10)


def empty_witness(folder: Path) -> None:
    (folder / "acked").write_bytes(b"")


def segment(last: int) -> Damage:
    def damage(folder: Path) -> None:
        path = local_states.segments_by_serial(folder)[last]
        local_states.flip(path, path.stat().st_size - 20)

    return damage


def head(last: int) -> Damage:
    """In the summary of a segment: its lines are whole."""
    return lambda folder: local_states.flip(local_states.segments_by_serial(folder)[last], 30)


def no_segment(last: int) -> Damage:
    return lambda folder: local_states.segments_by_serial(folder)[last].unlink()


def both(*damages: Damage) -> Damage:
    def damage(folder: Path) -> None:
        for each in damages:
            each(folder)

    return damage


class Case(NamedTuple):
    """Damage, and what is left: the newest serial, and the serials that the history misses."""

    damage: Damage
    newest: int
    missing: frozenset[int] = frozenset()
    backup: bool = False


def missing(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


CASES = {
    "snapshot": Case(line(0), 9),
    "snapshot, with a backup": Case(line(0), 9, backup=True),
    "first change": Case(line(1), 6, missing(7, 8, 9)),
    "middle change": Case(line(2), 7, missing(8, 9)),
    "middle change, with a backup": Case(line(2), 9, backup=True),
    "snapshot and middle change": Case(both(line(2), line(0)), 7, missing(8, 9)),
    "last change": Case(line(3), 8, missing(9)),
    "last change, with a backup": Case(line(3), 8, missing(9), backup=True),
    "torn": Case(torn, 8, missing(9)),
    "zeroed end": Case(zeroed_end, 8, missing(9)),
    "zeroed": Case(zeroed_state, 6, missing(7, 8, 9)),
    "no file": Case(no_state, 6, missing(7, 8, 9)),
    "no file, with a backup": Case(no_state, 8, missing(9), backup=True),
    "empty file": Case(empty_state, 6, missing(7, 8, 9)),
    "empty file, with a backup": Case(empty_state, 8, missing(9), backup=True),
    "witness": Case(witness, 9),
    "empty witness": Case(empty_witness, 9),
    "newest segment": Case(segment(6), 9, missing(5, 6)),
    "middle segment": Case(segment(4), 9, missing(3, 4)),
    "oldest segment": Case(segment(2), 9, missing(1, 2)),
    "no newest segment": Case(no_segment(6), 9, missing(5, 6)),
    "no middle segment": Case(no_segment(4), 9, missing(3, 4)),
    "no oldest segment": Case(no_segment(2), 9, missing(1, 2)),
    "two segments": Case(both(segment(4), no_segment(6)), 9, missing(3, 4, 5, 6)),
    "all segments": Case(both(segment(2), segment(4), segment(6)), 9, frozenset(range(1, 7))),
    "snapshot and middle segment": Case(both(segment(4), line(0)), 9, missing(3, 4)),
    "snapshot and newest segment": Case(both(segment(6), line(0)), 4, missing(5, 6, 7, 8, 9)),
    "snapshot and newest segment, with a backup": Case(
        both(segment(6), line(0)), 9, missing(5, 6), backup=True
    ),
    "snapshot and a newest summary": Case(both(head(6), line(0)), 9, missing()),
    "witness and middle segment": Case(both(segment(4), witness), 9, missing(3, 4)),
    "witness and last change": Case(both(line(3), witness), 8, missing(9)),
    "no file, no witness": Case(
        both(no_state, lambda folder: (folder / "acked").unlink()), 6, missing(7, 8, 9)
    ),
}
KNOWN_WITNESS = {name: case for name, case in CASES.items() if "witness" not in name}
UNREADABLE = {
    name: case
    for name, case in CASES.items()
    if name
    not in {
        *("newest segment", "middle segment", "oldest segment", "two segments", "all segments"),
        *("no newest segment", "no middle segment", "no oldest segment", "no file, no witness"),
    }
}


def make(folder: Path, case: Case) -> tuple[States, dict[str, bytes]]:
    """What was acknowledged, and the bytes of what is damaged, by the names of the files."""
    made = local_states.small(folder, backup=case.backup)
    assert max(made) == LAST
    before = contents(folder)
    case.damage(folder)
    now = contents(folder)
    return made, {name: data for name, data in now.items() if before.get(name) != data}


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    kept = {"state.json", "acked"}
    return {
        path.name: path.read_bytes()
        for path in found
        if (path.name in kept or path.suffix == ".zst") and "damaged-" not in str(path)
    }


def repair(folder: Path) -> int:
    with lock_of(open_store(folder), even_damaged=True) as lock:
        return lock.repair().serial


def put_aside(folder: Path) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = {}
    for path in folder.glob("backups/damaged-*/*"):
        found.setdefault(path.name, set()).add(path.read_bytes())
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_salvage_finds_all_that_can_be_proven(folder: Path, case: Case) -> None:
    made, _ = make(folder, case)
    before = contents(folder)
    found = open_store(folder).recoverable()
    assert found.state is not None
    assert found.state.serial == case.newest
    assert bare(found.state) == bare(made[case.newest])
    assert contents(folder) == before, "salvage only looks"


@pytest.mark.parametrize("case", KNOWN_WITNESS.values(), ids=KNOWN_WITNESS)
def test_salvage_tells_what_is_lost(folder: Path, case: Case) -> None:
    make(folder, case)
    found = open_store(folder).recoverable()
    assert found.acknowledged == LAST
    told = " ".join(found.lost)
    if case.newest < LAST:
        assert f"changes of serials {case.newest + 1} to {LAST}" in told
    sealed = sorted(number for number in case.missing if number <= case.newest)
    if sealed:
        assert f"serials {sealed[0]} to" in told
        assert f"to {sealed[-1]}" in told
    assert bool(found.lost) is bool(case.missing)


@pytest.mark.parametrize("case", ["witness and last change", "no file, no witness"])
def test_salvage_does_not_say_that_nothing_is_lost_where_it_cannot_know(
    folder: Path, case: str
) -> None:
    make(folder, CASES[case])
    found = open_store(folder).recoverable()
    assert found.acknowledged is None
    assert found.lost, "the end is damaged, and no witness tells how much was there"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_repaired_state_is_sound_and_goes_on(folder: Path, case: Case) -> None:
    made, damaged = make(folder, case)
    serial = repair(folder)
    verified = open_store(folder).verify()
    assert verified.problems == ()
    assert verified.serial == serial
    state = open_store(folder).read()
    assert state is not None
    then = made[case.newest]
    assert (state.builds, state.last_run, state.items) == (
        then.builds,
        then.last_run,
        then.items,
    )
    assert (state.lineage, state.key, state.workspace) == (then.lineage, then.key, then.workspace)
    if case.newest < LAST and case in KNOWN_WITNESS.values():
        assert serial > LAST + 1, "the serial of the state itself was never acknowledged before"
    else:
        assert serial == case.newest + 1
    more = local_states.grow(folder, range(8, 9))
    assert min(more) == serial + 1
    assert open_store(folder).verify().problems == ()
    aside = put_aside(folder)
    assert {name for name, data in damaged.items() if data not in aside.get(name, ())} == set()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_repaired_history_has_all_that_is_not_lost(folder: Path, case: Case) -> None:
    make(folder, case)
    committed = set(range(1, LAST + 1))
    serial = repair(folder)
    found = local_states.serials(open_store(folder))
    assert found == sorted({serial} | (committed - case.missing), reverse=True)
    change, _ = next(local_states.changes(open_store(folder)))
    assert change.operation == "repair"
    assert "lost: " in change.why
    if case in KNOWN_WITNESS.values():
        assert ("lost: nothing" in change.why) is not bool(case.missing)


@pytest.mark.parametrize("case", UNREADABLE.values(), ids=UNREADABLE)
def test_a_damaged_state_is_not_acquired_for_anything_but_mending(folder: Path, case: Case) -> None:
    make(folder, case)
    before = contents(folder)
    with pytest.raises(DamagedError):
        open_store(folder).try_acquire(holder("test"))
    assert contents(folder) == before
    with lock_of(open_store(folder), even_damaged=True) as lock, pytest.raises(DamagedError):
        lock.commit(PendingChange(operation="never"))
    assert contents(folder) == before


def test_what_is_sound_is_repaired_into_itself(folder: Path) -> None:
    made = local_states.small(folder)
    assert repair(folder) == LAST + 1
    state = open_store(folder).read()
    assert state is not None
    assert state.builds == made[LAST].builds
    assert local_states.serials(open_store(folder)) == list(range(LAST + 1, 0, -1))
    assert open_store(folder).verify().problems == ()


def test_a_damaged_backup_is_taken_out_of_the_way(folder: Path) -> None:
    local_states.small(folder)
    (backup,) = folder.glob("backups/*.zst")
    local_states.flip(backup, 100)
    data = backup.read_bytes()
    assert open_store(folder).verify().problems
    repair(folder)
    assert open_store(folder).verify().problems == ()
    assert open_store(folder).backups() == ()
    assert put_aside(folder)[backup.name] == {data}


@pytest.mark.parametrize("case", ["middle change", "snapshot and middle segment", "no file"])
def test_a_second_repair_has_nothing_more_to_do(folder: Path, case: str) -> None:
    make(folder, CASES[case])
    serial = repair(folder)
    assert open_store(folder).recoverable().lost == ()
    assert repair(folder) == serial + 1
    assert open_store(folder).verify().problems == ()


def test_a_state_that_was_repaired_can_be_damaged_again(folder: Path) -> None:
    make(folder, CASES["no file"])
    repair(folder)
    local_states.grow(folder, range(8, 11))
    no_state(folder)
    torn_at = open_store(folder).recoverable()
    assert torn_at.state is not None
    assert torn_at.state.serial == torn_at.acknowledged
    repair(folder)
    assert open_store(folder).verify().problems == ()


def test_a_compressed_state_is_repaired_as_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "COMPRESSED_SIZE", 1)
    made = local_states.small(folder, backup=False)
    local_states.flip(folder / "state.json", 200)
    found = open_store(folder).recoverable()
    assert bare(found.state) == bare(made[LAST]), "frames behind the damage are found"
    repair(folder)
    assert open_store(folder).verify().problems == ()
    assert (folder / "state.json").read_bytes().startswith(b"\x28\xb5\x2f\xfd")


@pytest.mark.parametrize("with_witness", [True, False])
def test_nothing_provable_is_refused_and_left_alone(folder: Path, *, with_witness: bool) -> None:
    local_states.small(folder)
    shutil.rmtree(folder / "history")
    shutil.rmtree(folder / "backups")
    path = folder / "state.json"
    path.write_bytes(b"{corrupted")
    if not with_witness:
        (folder / "acked").unlink()
    found = open_store(folder).recoverable()
    assert found.state is None
    assert "everything" in found.lost[0]
    with (
        lock_of(open_store(folder), even_damaged=True) as lock,
        pytest.raises(StateError, match="is recoverable") as caught,
    ):
        lock.repair()
    assert "restore" in caught.value.hint
    assert path.read_bytes() == b"{corrupted"


def test_a_newer_format_is_no_damage(folder: Path) -> None:
    local_states.small(folder)
    path = folder / "state.json"
    state = open_store(folder).read()
    assert state is not None
    data = bytes(seal(structs.replace(state, version=FORMAT_VERSION + 1)).data)
    path.write_bytes(data)
    for look in (
        open_store(folder).read,
        open_store(folder).verify,
        open_store(folder).recoverable,
    ):
        with pytest.raises(NewerFormatError):
            look()
    with pytest.raises(NewerFormatError):
        open_store(folder).try_acquire(holder("test"), even_damaged=True)
    assert path.read_bytes() == data


def test_history_of_another_state_is_never_taken_for_ours(tmp_path: Path) -> None:
    """It lies there, as it may after a restore that was cut short."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    made = local_states.small(ours, backup=False)
    local_states.grow(theirs, range(1, 20))
    for path in local_states.segments(theirs):
        shutil.copy(path, ours / "history")
    torn(ours)
    found = open_store(ours).recoverable()
    assert bare(found.state) == bare(made[LAST - 1])


def test_a_segment_that_was_left_half_way_is_never_preferred(folder: Path) -> None:
    """Written, but the state that names it was not: the changes go on in another way."""
    local_states.grow(folder, range(1, 3))
    state = (folder / "state.json").read_bytes()
    acked = (folder / "acked").read_bytes()
    local_states.grow(folder, range(3, 9))
    (folder / "state.json").write_bytes(state)
    (folder / "acked").write_bytes(acked)
    made = local_states.grow(folder, range(30, 32))
    with lock_of(open_store(folder)) as lock:
        made |= local_states.commit(folder, lock, *local_states.drafts(40))
    line(0)(folder)
    found = open_store(folder).recoverable()
    assert bare(found.state) == bare(made[max(made)])


def test_a_change_of_an_older_lock_is_not_led_on_to(folder: Path) -> None:
    """However well it is sealed: it was written by somebody who had lost the lock."""
    made = local_states.small(folder, backup=False)
    path = folder / "state.json"
    *before, last = path.read_bytes().splitlines(keepends=True)
    whole = unseal(last)
    assert whole is not None
    late = seal(structs.replace(read_change(whole), token=-1))
    path.write_bytes(b"".join((*before, late.data)))
    (folder / "acked").unlink()
    found = open_store(folder).recoverable()
    assert bare(found.state) == bare(made[LAST - 1])
    assert repair(folder) == LAST


@pytest.mark.parametrize("seed", range(60))
def test_two_damages_at_random_never_make_up_a_state(folder: Path, seed: int) -> None:
    made = local_states.small(folder, backup=seed % 2 == 0)
    random_ = random.Random(seed)
    files = [
        *(folder / "state.json", folder / "acked"),
        *folder.glob("history/*.zst"),
        *folder.glob("backups/*.zst"),
    ]
    for path in random_.sample(sorted(files), 2):
        if random_.random() < 0.3:
            path.write_bytes(path.read_bytes()[: random_.randrange(path.stat().st_size)])
        else:
            local_states.flip(path, random_.randrange(path.stat().st_size), random_.randrange(8))
    found = open_store(folder).recoverable()
    assert found.state is not None
    assert bare(found.state) == bare(made[found.state.serial])
    repair(folder)
    assert open_store(folder).verify().problems == ()
    for change, digest in local_states.changes(open_store(folder)):
        if change.operation != "repair":
            assert made[change.serial].prev == digest


def test_somebody_else_who_holds_the_lock_is_not_disturbed_by_a_repair(folder: Path) -> None:
    local_states.small(folder)
    with lock_of(open_store(folder)):
        torn(folder)
        found = open_store(folder).try_acquire(holder("repair"), even_damaged=True)
        assert isinstance(found, LockStatus)
