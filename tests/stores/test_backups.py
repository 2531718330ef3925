"""Backups, and putting a whole state in the place of none or of a damaged one."""

import shutil
from pathlib import Path

import pytest

from packer_fork.errors import DamagedError, LockLostError, StateError
from packer_fork.locks import LockStatus, Status
from packer_fork.model import PendingChange, SegmentRef, State
from packer_fork.stores.archive import history
from packer_fork.stores.base import MANUAL, HeldLock
from packer_fork.stores.local import journal
from packer_fork.stores.local.layout import Layout
from tests.support import local_states
from tests.support.local_states import bare, lock_of, open_store
from tests.support.local_store import holder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "t.pkr.hcl" / "default"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return tmp_path / "other.pkr.hcl" / "default"


def back_up(folder: Path, reason: str = MANUAL, *, keep: int = 3) -> Path:
    with lock_of(open_store(folder)) as lock:
        return Path(lock.backup(reason, keep=keep).path)


def state_of(folder: Path) -> State:
    state = open_store(folder).read()
    assert state is not None
    return state


def put_all(lock: HeldLock, source: Path) -> tuple[State, list[SegmentRef]]:
    """State and history of `source`, as they are brought to another place."""
    store, state = open_store(source), state_of(source)
    sealed = [lock.put_segment(data) for _, data in store.segments(state)]
    return lock.put(state), sealed


def test_there_is_nothing_to_back_up_before_the_first_change(folder: Path) -> None:
    with lock_of(open_store(folder)) as lock, pytest.raises(StateError, match="no state"):
        lock.backup(MANUAL, keep=3)
    assert open_store(folder).backups() == ()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_backup_reads_as_the_state_that_it_was_made_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, compressed: bool
) -> None:
    if compressed:
        monkeypatch.setattr(journal, "COMPRESSED_SIZE", 1)
    made = local_states.small(folder, backup=False)
    path = back_up(folder)
    assert local_states.read_backup(path).state == made[9]
    (told,) = open_store(folder).backups()
    assert (told.path, told.serial, told.reason) == (str(path), 9, MANUAL)
    assert told.size == path.stat().st_size
    local_states.grow(folder, range(8, 12))
    assert local_states.read_backup(path).state == made[9], "it stays as it is"


def test_a_backup_of_what_was_just_committed_has_it(folder: Path) -> None:
    with lock_of(open_store(folder)) as lock:
        for number in range(1, 4):
            serial = lock.commit(local_states.drafts(number)[0]).serial
            path = Path(lock.backup(MANUAL, keep=3).path)
            assert local_states.read_backup(path).state == state_of(folder)
            assert local_states.read_backup(path).state.serial == serial


def test_only_the_newest_are_kept_and_all_that_were_asked_for(folder: Path) -> None:
    local_states.grow(folder, range(1, 2))
    asked_for = [back_up(folder), back_up(folder)]
    made = [back_up(folder, "scheduled", keep=3) for _ in range(5)]
    asked_for.append(back_up(folder, keep=3))
    made.append(back_up(folder, "prune", keep=3))
    kept = [Path(backup.path) for backup in open_store(folder).backups()]
    assert kept == [*asked_for[:2], *made[-3:-1], asked_for[2], made[-1]]
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in made[:-3])


def test_one_that_was_asked_for_does_not_count_for_the_others(folder: Path) -> None:
    local_states.grow(folder, range(1, 2))
    made = back_up(folder, "scheduled", keep=1)
    for _ in range(3):
        back_up(folder, keep=1)
    assert made.exists()


def test_the_oldest_backup_comes_first(folder: Path) -> None:
    local_states.grow(folder, range(1, 2))
    made = [back_up(folder, reason) for reason in (MANUAL, "scheduled", "prune", MANUAL)]
    told = open_store(folder).backups()
    assert [Path(each.path) for each in told] == made
    assert [each.at for each in told] == sorted(each.at for each in told)


def test_other_files_among_the_backups_are_none(folder: Path) -> None:
    local_states.small(folder)
    (folder / "backups" / "notes.txt").write_text("mine")
    (folder / "backups" / "damaged-20260102T030405000006Z").mkdir()
    assert len(open_store(folder).backups()) == 1
    assert open_store(folder).verify().problems == ()


def test_the_segment_of_a_backup_goes_with_the_last_one_that_names_it(folder: Path) -> None:
    local_states.grow(folder, range(1, 3))
    paths = [back_up(folder), back_up(folder)]
    (segment,) = local_states.segments(folder)
    with lock_of(open_store(folder)) as lock:
        lock.commit(PendingChange(operation="prune", gaps={segment.stem: None}))
        for path in paths:
            assert lock.discard_unused() == ()
            assert segment.exists()
            path.unlink()
        assert lock.discard_unused() == (segment.stem,)
    assert open_store(folder).verify().problems == ()


def test_a_backup_and_its_segments_bring_the_whole_state_back(folder: Path, other: Path) -> None:
    made = local_states.small(folder)
    (backup,) = open_store(folder).backups()
    then = local_states.read_backup(backup.path).state
    assert bare(then) == bare(made[8])
    with lock_of(open_store(other)) as lock:
        for _, data in open_store(folder).segments(then):
            lock.put_segment(data)
        lock.put(then)
    assert bare(state_of(other)) == bare(made[8])
    assert local_states.serials(open_store(other)) == [6, 5, 4, 3, 2, 1]
    assert open_store(other).verify().problems == ()


def test_a_state_that_was_put_elsewhere_is_the_same_with_its_history(
    folder: Path, other: Path
) -> None:
    local_states.grow(folder, range(1, 40))
    with lock_of(open_store(other)) as lock:
        placed, sealed = put_all(lock, folder)
    assert [each.segment for each in sealed] == [
        path.stem for path in local_states.segments(folder)
    ]
    assert placed == state_of(other) == state_of(folder)
    assert list(local_states.changes(open_store(other))) == list(
        local_states.changes(open_store(folder))
    )
    verified = open_store(other).verify()
    assert (verified.problems, verified.unused) == ((), ())


def test_a_state_that_was_put_goes_on_in_both_places(folder: Path, other: Path) -> None:
    local_states.grow(folder, range(1, 3))
    with lock_of(open_store(other)) as lock:
        put_all(lock, folder)
    for place in (folder, other):
        local_states.grow(place, range(8, 10))
        assert local_states.serials(open_store(place)) == list(range(8, 0, -1))
        assert open_store(place).verify().problems == ()


def test_putting_the_same_segment_twice_changes_nothing(folder: Path, other: Path) -> None:
    local_states.small(folder)
    with lock_of(open_store(other)) as lock:
        first, again = put_all(lock, folder)[1], put_all(lock, folder)[1]
        assert first == again
    assert len(list((other / "history").iterdir())) == 3
    assert open_store(other).verify().problems == ()


def test_a_segment_that_is_damaged_here_is_healed_by_a_good_copy(folder: Path, other: Path) -> None:
    local_states.small(folder)
    with lock_of(open_store(other)) as lock:
        put_all(lock, folder)
    segment = local_states.segments(other)[1]
    local_states.flip(segment, 400)
    with lock_of(open_store(other)) as lock:
        lock.put_segment((folder / "history" / segment.name).read_bytes())
    assert open_store(other).verify().problems == ()


def test_a_damaged_segment_is_not_taken_in(folder: Path, other: Path) -> None:
    local_states.small(folder)
    data = local_states.segments(folder)[0].read_bytes()
    with lock_of(open_store(other)) as lock:
        for damaged in (data[:-1], data[:-20] + b"x" * 20, b"", b"x" * 100, data[100:]):
            with pytest.raises(DamagedError):
                lock.put_segment(damaged)
    assert not (other / "history").exists() or not list((other / "history").iterdir())


def test_a_segment_whose_summary_is_damaged_is_not_taken_for_a_good_one(
    folder: Path, other: Path
) -> None:
    local_states.small(folder)
    newest = local_states.segments(folder)[0]
    data = bytearray(newest.read_bytes())
    data[40] ^= 1
    with lock_of(open_store(other)) as lock, pytest.raises(DamagedError):
        lock.put_segment(bytes(data))


def test_put_leads_around_segments_that_were_not_brought(folder: Path, other: Path) -> None:
    local_states.small(folder)
    state = state_of(folder)
    newest, _, oldest = open_store(folder).segments(state)
    with lock_of(open_store(other)) as lock:
        for _, data in (newest, oldest):
            lock.put_segment(data)
        placed = lock.put(state)
    assert len(placed.gaps) == 1
    assert local_states.serials(open_store(other)) == [6, 5, 2, 1]
    assert open_store(other).verify().problems == ()


@pytest.mark.parametrize("damaged", ["state.json", "acked"])
def test_put_keeps_aside_what_was_damaged(folder: Path, other: Path, damaged: str) -> None:
    local_states.small(folder)
    local_states.grow(other, range(1, 9))
    local_states.flip(other / damaged, 50)
    kept = {name: (other / name).read_bytes() for name in ("state.json", "acked")}
    with lock_of(open_store(other), even_damaged=True) as lock:
        put_all(lock, folder)
    (aside,) = other.glob("backups/damaged-*")
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == kept
    assert state_of(other).builds == state_of(folder).builds
    assert open_store(other).verify().problems == ()


def test_the_serial_of_what_was_put_is_beyond_all_that_were_acknowledged(
    folder: Path, other: Path
) -> None:
    local_states.small(folder)
    local_states.grow(other, range(1, 9))
    (other / "state.json").write_bytes(b"")
    with lock_of(open_store(other), even_damaged=True) as lock:
        placed, _ = put_all(lock, folder)
    assert placed.serial == 17 == state_of(other).serial
    assert state_of(other).lineage == state_of(folder).lineage
    local_states.grow(other, range(20, 21))
    assert state_of(other).serial == 19
    assert open_store(other).verify().problems == ()


def test_a_state_that_was_put_at_its_own_serial_keeps_it(folder: Path) -> None:
    """Its own store lost the file and nothing else."""
    local_states.small(folder)
    state = state_of(folder)
    (folder / "state.json").unlink()
    with lock_of(open_store(folder), even_damaged=True) as lock:
        placed = lock.put(state)
    assert placed == state_of(folder) == state
    assert open_store(folder).verify().problems == ()


def test_the_next_lock_is_newer_than_all_that_a_put_state_knows(folder: Path, other: Path) -> None:
    local_states.grow(folder, range(1, 30))
    with lock_of(open_store(other)) as lock:
        put_all(lock, folder)
    with lock_of(open_store(other)) as lock:
        assert lock.record.token > state_of(folder).token
        assert lock.commit(PendingChange(operation="test")).serial == state_of(folder).serial + 1


def test_who_lost_the_lock_changes_nothing(folder: Path, other: Path) -> None:
    local_states.small(other)
    local_states.small(folder)
    state, before = state_of(folder), (folder / "state.json").read_bytes()
    (_, segment), *_ = open_store(other).segments(state_of(other))
    with lock_of(open_store(folder)) as lost:
        taken = open_store(folder).try_acquire(
            holder("force"), over=frozenset(Status), lock_id=lost.record.id
        )
        for act in (
            lambda: lost.put(state),
            lambda: lost.put_segment(segment),
            lost.repair,
            lost.discard_unused,
            lost.compact,
        ):
            with pytest.raises(LockLostError):
                act()
        assert (folder / "state.json").read_bytes() == before
        assert not isinstance(taken, LockStatus)
        taken.close()


def test_backups_and_history_survive_that_the_folder_is_moved(folder: Path, tmp_path: Path) -> None:
    made = local_states.small(folder)
    moved = tmp_path / "moved" / "default"
    shutil.copytree(folder, moved)
    shutil.rmtree(folder)
    assert open_store(moved).verify().problems == ()
    (backup,) = open_store(moved).backups()
    assert bare(local_states.read_backup(backup.path).state) == bare(made[8])


def test_the_history_of_a_backup_stays_whole_while_the_state_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SEGMENT_SIZE", 10_000)
    local_states.grow(folder, range(1, 3))
    path = back_up(folder)
    then = local_states.read_backup(path).state
    local_states.grow(folder, range(3, 40))
    with lock_of(open_store(folder)) as lock:
        lock.discard_unused()
    found = [sealed.serial for sealed in history.chain(Layout(folder), then)]
    assert found == [4]
    assert len(list(open_store(folder).segments(then))) == 1
