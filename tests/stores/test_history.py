"""The sealed history: complete, in order, in few files, and readable while it is written."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec import structs

from packer_fork.codec import segment as codec
from packer_fork.codec.lines import seal
from packer_fork.errors import DamagedError
from packer_fork.model import Build, PendingChange, Summary
from packer_fork.stores.archive import history
from packer_fork.stores.base import MANUAL
from packer_fork.stores.local.layout import Layout
from tests.conftest import eventually
from tests.support import local_states
from tests.support.forks import fork
from tests.support.local_states import lock_of, open_store, serials

ROUNDS = 25


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "t.pkr.hcl" / "default"


@pytest.fixture
def segment_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken into a segment that is there already."""
    monkeypatch.setattr(history, "SEGMENT_SIZE", 1)


def prune(folder: Path, name: str) -> tuple[str, ...]:
    with lock_of(open_store(folder)) as lock:
        lock.commit(PendingChange(operation="prune", gaps={name: None}))
        return lock.discard_unused()


def down_from(serial: int) -> list[int]:
    return list(range(serial, 0, -1))


def test_an_empty_store_has_no_history(folder: Path) -> None:
    assert list(open_store(folder).history()) == []


def test_every_change_comes_once_and_the_newest_first(folder: Path) -> None:
    made = local_states.small(folder)
    found = list(local_states.changes(open_store(folder)))
    assert [change.serial for change, _ in found] == down_from(9)
    assert [change.why for change, _ in found] == [
        *("+5", "-4", "+4", "-3", "+3", "-2", "+2", "-1", "+1")
    ]
    assert [digest for _, digest in found] == [made[change.serial].prev for change, _ in found]
    assert [change.prev for change, _ in found[:-1]] == [digest for _, digest in found[1:]]


def test_each_passage_begins_with_the_state_that_was_acknowledged(folder: Path) -> None:
    made = local_states.small(folder)
    stretches = list(open_store(folder).history())
    assert [(each.first, each.last) for each in stretches] == [(6, 9), (4, 6), (2, 4), (0, 2)]
    for stretch in stretches[:-1]:
        assert local_states.bare(stretch.read().state) == local_states.bare(made[stretch.first])
    assert stretches[-1].read().state.serial == 0


def test_what_is_not_sealed_yet_is_the_first_stretch(folder: Path) -> None:
    local_states.small(folder)
    first, *others = open_store(folder).history()
    assert (first.segment, first.summary) == ("", None)
    assert all(each.segment and each.summary for each in others)


def test_a_hundred_small_lock_leave_few_files(folder: Path) -> None:
    made = local_states.grow(folder, range(1, 101))
    files = list((folder / "history").iterdir())
    assert len(files) <= 2
    assert serials(open_store(folder)) == down_from(max(made)) == down_from(200)
    verified = open_store(folder).verify()
    assert (verified.problems, verified.unused) == ((), ())
    assert verified.changes == 200
    assert verified.oldest == 0


def test_a_full_segment_is_left_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SEGMENT_SIZE", 10_000)
    seen: dict[str, bytes] = {}
    for number in range(1, 60):
        local_states.grow(folder, range(number, number + 1))
        files = {path.name: path.read_bytes() for path in local_states.segments(folder)}
        assert set(files) - set(list(files)[:1]) <= set(seen), "only the newest may be new"
        seen |= files
    sizes = [each.summary.size for each in open_store(folder).history() if each.summary]
    assert 3 < len(sizes) < 20
    assert max(sizes) <= 10_000
    assert min(sizes[1:]) > 5_000, "a segment grows until the next changes do not fit"
    assert serials(open_store(folder)) == down_from(2 * 59)


def test_segments_count_themselves(folder: Path) -> None:
    local_states.small(folder)
    state = open_store(folder).read()
    assert state is not None
    assert state.sealed is not None
    assert (state.sealed.segments, state.sealed.serial) == (3, 6)


def test_a_segment_that_a_backup_names_takes_in_no_more(folder: Path) -> None:
    local_states.grow(folder, range(1, 3))
    (pinned,) = local_states.segments(folder)
    data = pinned.read_bytes()
    with lock_of(open_store(folder)) as lock:
        backup = lock.backup(MANUAL, keep=3)
    local_states.grow(folder, range(3, 6))
    newer, older = local_states.segments(folder)
    assert older == pinned
    assert pinned.read_bytes() == data
    assert newer != pinned, "what follows grows beside it"
    assert serials(open_store(folder)) == down_from(10)
    Path(backup.path).unlink()
    local_states.grow(folder, range(6, 7))
    assert len(local_states.segments(folder)) == 2
    assert pinned.exists(), "only the newest segment takes in more"


def test_a_segment_may_grow_again_once_its_backup_is_gone(folder: Path) -> None:
    local_states.grow(folder, range(1, 3))
    with lock_of(open_store(folder)) as lock:
        backup = lock.backup(MANUAL, keep=3)
    Path(backup.path).unlink()
    local_states.grow(folder, range(3, 5))
    assert len(list((folder / "history").iterdir())) == 1
    assert serials(open_store(folder)) == down_from(8)


@pytest.mark.usefixtures("segment_a_lock")
def test_a_prune_lets_go_of_what_lies_before_the_cut(folder: Path) -> None:
    local_states.grow(folder, range(1, 6))
    paths = local_states.segments(folder)
    gone = prune(folder, paths[2].stem)
    assert sorted(gone) == sorted(path.stem for path in paths[2:])
    assert [path.exists() for path in paths] == [True, True, False, False, False]
    assert serials(open_store(folder)) == [11, 10, 9, 8, 7]
    verified = open_store(folder).verify()
    assert (verified.problems, verified.unused, verified.oldest) == ((), (), 6)


@pytest.mark.usefixtures("segment_a_lock")
def test_a_prune_keeps_what_a_backup_names(folder: Path) -> None:
    local_states.grow(folder, range(1, 3))
    with lock_of(open_store(folder)) as lock:
        lock.backup(MANUAL, keep=3)
    pinned, oldest = local_states.segments(folder)
    local_states.grow(folder, range(3, 6))
    prune(folder, local_states.segments(folder)[2].stem)
    assert pinned.exists()
    assert not oldest.exists()
    verified = open_store(folder).verify()
    assert (verified.problems, verified.unused) == ((), ())


@pytest.mark.usefixtures("segment_a_lock")
def test_what_nothing_names_is_told_and_discarded(folder: Path) -> None:
    local_states.grow(folder, range(1, 4))
    cut = local_states.segments(folder)[1]
    with lock_of(open_store(folder)) as lock:
        lock.commit(PendingChange(operation="prune", gaps={cut.stem: None}))
    unused = open_store(folder).verify().unused
    assert str(cut) in unused
    with lock_of(open_store(folder)) as lock:
        assert {str(folder / "history" / f"{name}.zst") for name in lock.discard_unused()} == set(
            unused
        )
        assert lock.discard_unused() == ()
    assert open_store(folder).verify().unused == ()


def test_a_pruned_segment_does_not_come_back_in_a_larger_one(folder: Path) -> None:
    local_states.grow(folder, range(1, 4))
    (newest,) = local_states.segments(folder)
    with lock_of(open_store(folder)) as lock:
        lock.commit(PendingChange(operation="prune", gaps={newest.stem: None}))
    local_states.grow(folder, range(4, 6))
    assert serials(open_store(folder)) == [11, 10, 9, 8, 7]
    assert open_store(folder).verify().problems == ()


def test_a_summary_says_what_is_in_its_segment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SEGMENT_SIZE", 8_000)
    local_states.grow(folder, range(1, 30))
    summaries = 0
    for stretch in open_store(folder).history():
        if stretch.summary is not None:
            changes = [change for change, _ in stretch.read().changes]
            size, before = stretch.summary.size, stretch.summary.before
            again = codec.summarise(changes, first=stretch.first, size=size, before=before)
            assert stretch.summary == again
            assert_true(stretch.summary, {change.run for change in changes if change.run})
            summaries += 1
    assert summaries > 3


def assert_true(summary: Summary, runs: set[int]) -> None:
    """What is counted here differs from how the package counts it."""
    assert summary.runs == len(runs)
    assert summary.numbers == (min(runs), max(runs))
    assert summary.builds is not None
    assert set(summary.builds) == {f"b{number % 3}" for number in runs}
    assert summary.statuses == ("complete",)
    assert not summary.spans
    assert (summary.earliest, summary.latest) == (local_states.NOW, local_states.NOW)


@pytest.mark.usefixtures("segment_a_lock")
def test_a_summary_tells_that_a_run_spans_two_segments(folder: Path) -> None:
    begun, done = local_states.drafts(1)
    for draft in (begun, done):
        with lock_of(open_store(folder)) as lock:
            lock.commit(draft)
            lock.compact()
    newer, older = (each.summary for each in open_store(folder).history() if each.summary)
    assert (newer.runs, newer.spans) == (0, True)
    assert (older.runs, older.spans) == (1, False)


@pytest.mark.parametrize("names", [201, 150])
def test_a_segment_with_many_long_names_reads(folder: Path, names: int) -> None:
    builds = {f"{n}" + "x" * 9_000: Build(name=f"{n}" + "x" * 9_000) for n in range(names)}
    with lock_of(open_store(folder)) as lock:
        lock.commit(PendingChange(operation="test", builds=builds))
        lock.compact()
    assert local_states.serials(open_store(folder)) == [1]
    assert open_store(folder).verify().problems == ()


def grow_once(folder: Path, number: int) -> None:
    local_states.grow(folder, range(number, number + 1))


@pytest.mark.processes
def test_a_store_that_has_read_once_sees_the_commits_of_others(folder: Path) -> None:
    local_states.grow(folder, range(1, 2))
    store = open_store(folder)
    kept = store.read()
    assert store.read() is kept, "what did not change is not decoded again"
    for number in range(2, 20):
        pid = fork(partial(grow_once, folder, number))
        assert os.waitpid(pid, 0)[1] == 0
        state = store.read()
        assert state is not None
        assert state.serial == 2 * number


def test_a_store_sees_a_commit_of_another_that_is_of_the_same_size(folder: Path) -> None:
    local_states.grow(folder, range(1, 2))
    store = open_store(folder)
    with lock_of(open_store(folder)) as lock:
        for number in range(100):
            lock.commit(PendingChange(operation="test", why=f"{number:03}"))
            lock.compact()
            state = store.read()
            assert state is not None
            assert state.serial == 3 + number


@contextmanager
def compacting_thread(folder: Path) -> Iterator[Callable[[], int]]:
    """Commits and compactions for as long as the context lasts; tells how many there were."""
    done, made, errors = threading.Event(), [0], []

    def work() -> None:
        try:
            while not done.is_set():
                grow_once(folder, made[0] + 1000)
                made[0] += 1
        except BaseException as error:  # noqa: BLE001 (told by the test's own thread)
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: made[0]
    finally:
        done.set()
        thread.join()
    assert not errors


@contextmanager
def compacting_process(folder: Path) -> Iterator[Callable[[], int]]:
    def work() -> None:
        number = 1000
        while True:
            grow_once(folder, number)
            number += 1

    before = serial(folder)
    pid = fork(work)
    try:
        yield lambda: serial(folder) - before
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the writer failed"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def serial(folder: Path) -> int:
    state = open_store(folder).read()
    return state.serial if state else 0


WRITERS = pytest.mark.parametrize(
    "compacting",
    [compacting_thread, pytest.param(compacting_process, marks=pytest.mark.processes)],
)
Writing = Callable[[Path], AbstractContextManager[Callable[[], int]]]


@WRITERS
@pytest.mark.parametrize("limit", [5_000, 1 << 20])
def test_whoever_reads_while_others_write_sees_each_change_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, compacting: Writing, limit: int
) -> None:
    monkeypatch.setattr(history, "SEGMENT_SIZE", limit)
    local_states.grow(folder, range(1, 20))
    store = open_store(folder)
    with compacting(folder) as made:
        for _ in range(ROUNDS):
            least = serial(folder)
            found: list[int] = []
            for stretch in store.history():
                if len(found) < 10:
                    moved_on_from(made)
                found += [change.serial for change, _ in reversed(stretch.read().changes)]
            assert found[0] >= least
            assert found == down_from(found[0])


def moved_on_from(made: Callable[[], int]) -> None:
    """Wait until the writer has brought the state to rest once more."""
    before = made()
    eventually(lambda: made() > before + 1)


@WRITERS
def test_what_was_found_before_is_read_after_it_was_moved(
    folder: Path, compacting: Writing
) -> None:
    local_states.grow(folder, range(1, 4))
    stretches = list(open_store(folder).history())
    with compacting(folder) as made:
        for _ in range(ROUNDS):
            moved_on_from(made)
            found = [
                change.serial
                for stretch in stretches
                for change, _ in reversed(stretch.read().changes)
            ]
            assert found == down_from(6)


@WRITERS
def test_a_sound_store_is_not_called_damaged_while_others_write(
    folder: Path, compacting: Writing
) -> None:
    local_states.grow(folder, range(1, 10))
    with compacting(folder):
        for _ in range(3 * ROUNDS):
            assert open_store(folder).verify().problems == ()


@WRITERS
def test_a_sound_store_can_be_salvaged_while_others_write(
    folder: Path, compacting: Writing
) -> None:
    local_states.grow(folder, range(1, 10))
    with compacting(folder):
        for _ in range(ROUNDS):
            least = serial(folder)
            found = open_store(folder).recoverable()
            assert found.state is not None
            assert found.state.serial >= least
            assert found.lost == ()


@pytest.mark.processes
def test_backups_can_be_listed_while_they_are_rotated(folder: Path) -> None:
    local_states.grow(folder, range(1, 3))

    def work() -> None:
        with lock_of(open_store(folder)) as lock:
            while True:
                lock.backup("scheduled", keep=1)

    pid = fork(work)
    try:
        eventually(lambda: open_store(folder).backups())
        for _ in range(10 * ROUNDS):
            store = open_store(folder)
            assert len(store.backups()) <= 2
            assert store.verify().problems == ()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.usefixtures("segment_a_lock")
def test_a_prune_does_not_look_like_damage_to_whoever_reads(folder: Path) -> None:
    local_states.grow(folder, range(1, 8))
    reading = open_store(folder).history()
    found = [next(reading) for _ in range(3)]
    prune(folder, local_states.segments(folder)[4].stem)
    found += list(reading)
    last = [stretch.last for stretch in found]
    assert last[:5] == [14, 14, 12, 10, 8] or last[:5] == [14, 12, 10, 8, 6]


@pytest.mark.usefixtures("segment_a_lock")
def test_a_lost_segment_ends_the_history_with_its_name(folder: Path) -> None:
    local_states.grow(folder, range(1, 4))
    middle = local_states.segments(folder)[1]
    middle.unlink()
    with pytest.raises(DamagedError) as caught:
        list(local_states.changes(open_store(folder)))
    assert caught.value.path == str(middle)


@pytest.mark.usefixtures("segment_a_lock")
def test_a_cut_may_lead_around_a_segment(folder: Path) -> None:
    local_states.grow(folder, range(1, 5))
    layout = Layout(folder)
    state = open_store(folder).read()
    assert state is not None
    first, second, third, *_ = history.chain(layout, state)
    with lock_of(open_store(folder)) as lock:
        lock.commit(PendingChange(operation="test", gaps={second.segment: third}))
        assert lock.discard_unused() == (second.segment,)
    assert first.serial == 8
    assert serials(open_store(folder)) == [9, 8, 7, 4, 3, 2, 1]
    assert open_store(folder).verify().problems == ()


def test_verify_says_where_a_segment_is_followed_by_another_state(folder: Path) -> None:
    """As a program of another version might write it: every digest fits, and yet."""
    local_states.grow(folder, range(1, 3))
    state = open_store(folder).read()
    assert state is not None
    other = structs.replace(state, workspace="other")
    (folder / "state.json").write_bytes(bytes(seal(other).data))
    (problem,) = open_store(folder).verify().problems
    assert "follows" in problem.what
