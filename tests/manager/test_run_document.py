"""What a run comes to, by its work items: the table, and the same from a state that was left."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from packer_fork.codec.builds import decode_build
from packer_fork.config import Settings
from packer_fork.events import Event
from packer_fork.manager.build import outbox, recovery
from packer_fork.manager.build.run_document import add_newer, concluded
from packer_fork.manager.state.history import RunFilter, runs
from packer_fork.manager.state_ref import StateFolder, StateRef
from packer_fork.model import (
    Actor,
    Build,
    BuildStatus,
    Late,
    PendingChange,
    Run,
    RunStatus,
    State,
    WorkItem,
)
from packer_fork.stores.base import HeldLock
from tests.support.local_store import open_store
from tests.support.store_operations import lock_of

AT = datetime(2026, 3, 2, tzinfo=UTC)
BY = Actor(user="u", host="h", pid=1)

COMPLETE, FAILED = RunStatus.COMPLETE, RunStatus.FAILED
CANCELLED, INTERRUPTED = RunStatus.CANCELLED, RunStatus.INTERRUPTED
UNVERIFIED = RunStatus.UNVERIFIED


def ignore(_: Event) -> None:
    """These tests check results, not messages."""


def run(*names: str) -> Run:
    return Run(number=1, token=1, started=AT, by=BY, builds=names)


def item(number: int, status: RunStatus, *sources: str, code: int | None = 0) -> WorkItem:
    error = "" if status is COMPLETE else f"item {number}"
    return WorkItem(
        run=1,
        number=number,
        token=1,
        started=AT,
        by=BY,
        sources=sources,
        status=status,
        ended=None if status is RunStatus.RUNNING else AT,
        exit_code=code,
        error=error,
    )


def build(name: str, number: int, status: str) -> Build:
    return Build(name=name, run=1, item=number, status=BuildStatus(status), by=BY)


@pytest.mark.parametrize(
    ("items", "builds", "status", "exit_code", "error"),
    [
        ([item(1, COMPLETE, "a")], [build("a", 1, "complete")], COMPLETE, 0, ""),
        ([item(1, FAILED, "a", code=1)], [build("a", 1, "failed")], FAILED, 1, "item 1"),
        ([item(1, FAILED, code=0)], [], FAILED, 0, "item 1"),
        ([item(1, FAILED, "a", code=1)], [build("a", 1, "complete")], FAILED, 1, "item 1"),
        ([item(1, COMPLETE, "a", code=None)], [build("a", 1, "complete")], COMPLETE, None, ""),
        (
            [item(1, FAILED, "a", "b", code=1), item(2, COMPLETE, "b")],
            [build("a", 1, "complete"), build("b", 2, "complete")],
            *(COMPLETE, 0, ""),
        ),
        (
            [item(1, FAILED, "a", "b", code=1), item(2, COMPLETE, "b")],
            [build("a", 1, "unverified"), build("b", 2, "complete")],
            *(FAILED, 1, "item 1"),
        ),
        (
            [item(1, FAILED, "a", code=1), item(2, FAILED, "a", code=2)],
            [build("a", 2, "failed")],
            *(FAILED, 2, "item 2"),
        ),
        (
            [item(1, COMPLETE, "a"), item(2, CANCELLED, "b", code=1)],
            [build("a", 1, "complete"), build("b", 2, "cancelled")],
            *(CANCELLED, 1, "item 2"),
        ),
        (
            [item(1, FAILED, "a", code=1), item(2, CANCELLED, "b", code=1)],
            [build("a", 1, "failed"), build("b", 2, "cancelled")],
            *(FAILED, 1, "item 1"),
        ),
        (
            [item(1, FAILED, "a", code=1), item(2, INTERRUPTED, "b", code=None)],
            [build("a", 1, "failed"), build("b", 2, "interrupted")],
            *(INTERRUPTED, None, "item 1"),
        ),
        (
            [item(1, COMPLETE, "a")],
            [build("a", 1, "complete"), build("b", 0, "pending")],
            *(CANCELLED, 0, ""),
        ),
        ([], [build("a", 0, "pending")], CANCELLED, None, ""),
        ([], [], CANCELLED, None, ""),
        ([item(1, UNVERIFIED, "a")], [build("a", 1, "unverified")], UNVERIFIED, 0, "item 1"),
    ],
)
def test_status_of_a_run(
    items: Sequence[WorkItem],
    builds: Sequence[Build],
    status: RunStatus,
    exit_code: int | None,
    error: str,
) -> None:
    for order in (items, [*reversed(items)]):
        found = concluded(run(), order, builds, AT).run
        assert (found.status, found.exit_code) == (status, exit_code)
        assert found.builds == tuple(build.name for build in builds)
    assert concluded(run(), items, builds, AT).run.error == error


def test_a_build_that_no_item_began_has_changed_nothing() -> None:
    builds = [build("a", 1, "complete"), build("b", 0, "pending")]
    found = concluded(run(), [item(1, COMPLETE, "a")], builds, AT, "a failed")
    assert found.builds[0] is builds[0]
    assert list(found.changed) == ["b"]
    left = found.changed["b"]
    assert (left.status, left.ended, left.evidence.never_started) == ("cancelled", AT, True)
    assert found.run.error == "a failed"


def test_a_build_of_a_later_item_is_newer() -> None:
    pending, first, done, retried = (
        build("a", number, status)
        for number, status in ((0, "pending"), (1, "failed"), (1, "unverified"), (2, "complete"))
    )
    builds: dict[str, Build] = {}
    for each in (pending, first, done):
        add_newer(builds, each)
        assert builds["a"] is each, "what an item came to replaces what it was at"
    for each in (retried, first, pending):
        add_newer(builds, each)
        assert builds["a"] is retried


@pytest.fixture
def place(tmp_path: Path) -> StateRef:
    folder = StateFolder(tmp_path, "t.pkr.hcl", "default")
    return StateRef(folder, open_store(tmp_path / "t.pkr.hcl" / "default"), Settings())


def state_of(place: StateRef) -> State:
    state = place.store.read()
    assert state is not None
    return state


def begin(lock: HeldLock, *items: WorkItem) -> Run:
    """Run 1 with these items, all under way."""
    names = tuple(name for each in items for name in each.sources)
    begun = structs.replace(run(*names), token=lock.record.token)
    pending = {name: Build(name=name, run=1) for name in names}
    lock.commit(PendingChange(operation="start", last_run=begun, builds=pending))
    for each in items:
        now = structs.replace(each, status=RunStatus.RUNNING, ended=None, error="")
        builds = {name: build(name, each.number, "creating") for name in each.sources}
        lock.commit(PendingChange(operation="begin", items=(now,), builds=builds))
    return begun


def end(lock: HeldLock, ended: WorkItem) -> None:
    done = (build(name, ended.number, "complete") for name in ended.sources)
    builds = {each.name: structs.replace(each, ended=AT) for each in done}
    lock.commit(PendingChange(operation="end", items=(ended,), builds=builds))


def test_a_run_whose_items_have_ended_is_concluded_by_the_next_command(place: StateRef) -> None:
    """Its packer-fork was killed between the last item's end and its own."""
    with lock_of(place.store) as lock:
        begin(lock, item(1, COMPLETE, "a"), item(2, COMPLETE, "b"))
        end(lock, item(1, COMPLETE, "a"))
        end(lock, item(2, COMPLETE, "b"))
    with lock_of(place.store) as lock:
        recovery.recover(place.store, lock, ignore, reason="test")
    last = state_of(place).last_run
    assert last is not None
    assert (last.status, last.exit_code, last.builds) == (COMPLETE, 0, ("a", "b"))
    assert last.recovered is not None
    assert last.ended == AT, "when its last build ended, not when it was recovered"


def test_a_run_that_began_no_item_leaves_its_builds_as_they_were(place: StateRef) -> None:
    with lock_of(place.store) as lock:
        begun = run("a")
        pending = {"a": Build(name="a", run=1)}
        lock.commit(PendingChange(operation="start", last_run=begun, builds=pending))
    with lock_of(place.store) as lock:
        recovery.recover(place.store, lock, ignore, reason="test")
    state = state_of(place)
    assert state.last_run is not None
    assert state.last_run.status is INTERRUPTED
    left = decode_build(state.builds["a"])
    assert (left.status, left.evidence.never_started) == ("interrupted", True)


def test_a_run_that_began_nothing_is_not_complete(place: StateRef) -> None:
    """Packer itself finds its builds, and its packer-fork was killed before Packer started."""
    with lock_of(place.store) as lock:
        lock.commit(PendingChange(operation="start", last_run=run()))
    with lock_of(place.store) as lock:
        recovery.recover(place.store, lock, ignore, reason="test")
    last = state_of(place).last_run
    assert last is not None
    assert (last.status, last.exit_code) == (INTERRUPTED, None)


@pytest.mark.parametrize("seed", range(3))
def test_late_items_make_a_run_complete_in_any_order(place: StateRef, seed: int) -> None:
    """It was unlocked while its Packers lived."""
    items = [item(number, COMPLETE, name) for number, name in enumerate("abc", 1)]
    with lock_of(place.store) as lock:
        begun = begin(lock, *items)
        state = state_of(place)
        lock.commit(recovery.interrupted(state, begun, "unlocked"))
        random.Random(seed).shuffle(items)
        statuses = []
        for each in items:
            builds = {name: build(name, each.number, "complete") for name in each.sources}
            late = Late(lineage=state.lineage, run=begun, item=each, builds=builds)
            draft = outbox.draft_of(place.store, late, Path("late"))
            assert draft is not None
            lock.commit(draft)
            assert outbox.draft_of(place.store, late, Path("late")) is None, "it is known now"
            (entry,) = runs(place.store, RunFilter())
            statuses.append(entry.run.status)
            assert state_of(place).last_run == entry.run
    assert statuses == [INTERRUPTED, INTERRUPTED, COMPLETE]
    assert {str(each.status) for each in entry.builds} == {"complete"}


def test_a_late_item_of_a_run_under_way_does_not_end_it(place: StateRef) -> None:
    """Others still share the run, and may be between two of its items."""
    with lock_of(place.store) as lock:
        begun = begin(lock, item(1, COMPLETE, "a"), item(2, COMPLETE, "b"))
        end(lock, item(1, COMPLETE, "a"))
        state, late = state_of(place), item(2, COMPLETE, "b")
        builds = {"b": build("b", 2, "complete")}
        results = Late(lineage=state.lineage, run=begun, item=late, builds=builds)
        draft = outbox.draft_of(place.store, results, Path("late"))
        assert draft is not None
        lock.commit(draft)
        assert state_of(place).last_run == begun
        assert state_of(place).items["1-2"] == late
        recovery.recover(place.store, lock, ignore, reason="test", only_daemons=True)
        last = state_of(place).last_run
        assert last is not None
        assert last.status is COMPLETE


def test_the_state_keeps_the_items_of_the_last_run_alone(place: StateRef) -> None:
    with lock_of(place.store) as lock:
        begin(lock, item(1, COMPLETE, "a"))
        end(lock, item(1, COMPLETE, "a"))
        assert list(state_of(place).items) == ["1-1"]
        later = structs.replace(run("a"), number=2, started=AT + timedelta(hours=1))
        lock.commit(PendingChange(operation="start", last_run=later))
        assert state_of(place).items == {}
        end(lock, item(1, COMPLETE, "a"))
        assert state_of(place).items == {}, "it is of an earlier run"
