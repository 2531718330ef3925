"""A store that fails while a run is recorded or recovered: nothing of it is lost."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

from packer_fork.codec.builds import decode_build
from packer_fork.errors import StoreError
from packer_fork.events import Event, Notice
from packer_fork.locks import LockStatus
from packer_fork.manager.build import recovery
from packer_fork.manager.build.log_files import ItemLog, LogFiles
from packer_fork.manager.build.outbox import Outbox
from packer_fork.manager.build.recorder import Recorder
from packer_fork.model import BuildStatus, PendingChange, Run, WorkItem
from packer_fork.packer import outcome
from packer_fork.packer.mask import Mask
from packer_fork.packer.outline import BuildOutline
from packer_fork.stores.base import HeldLock
from packer_fork.stores.circuit_breaker import THRESHOLD, CircuitBreaker, Phase
from tests.manager.test_disk import fill
from tests.support import raw_log
from tests.support.local_store import holder, open_store

pytestmark = pytest.mark.usefixtures("root")

MORE_THAN_A_PAGE = "x" * 10_000
"""A full disk still takes what fits into the last page of a file."""


@pytest.fixture
def lock(small_disk: Path) -> Iterator[HeldLock]:
    found = open_store(small_disk / "default").try_acquire(holder("build"))
    assert not isinstance(found, LockStatus)
    yield found
    found.close()


def test_a_disk_that_stays_full_is_left_alone_until_the_end(
    small_disk: Path, lock: HeldLock, tmp_path: Path
) -> None:
    told: list[Event] = []
    breaker = CircuitBreaker(str(small_disk), folder=tmp_path / "run")
    log = ItemLog(tmp_path / "log", told.append)
    begin = outcome.begin(first_item(lock), [BuildOutline("null.n", "null")])
    recorder = Recorder(begin, lock, Mask(()), log, told.append, guard=breaker)
    recorder.commit("begin")
    assert unsaved(recorder) == ""
    ballast = fill(small_disk)
    for _ in range(50):  # what is left of the last page takes some more
        recorder.commit("progress")
        if breaker.state().phase is not Phase.CLOSED:
            break
        assert "No space left" in unsaved(recorder) or not breaker.state().failures
    assert breaker.state().failures == THRESHOLD
    recorder.commit("progress")
    assert "is taken as away" in unsaved(recorder)
    ballast.unlink()
    recorder.commit("end")
    assert unsaved(recorder) == "", "the end of a run is tried in any case"
    assert breaker.state().phase is Phase.CLOSED
    assert len([each for each in told if isinstance(each, Notice)]) == 1, "it is told once"
    log.close()


def test_what_one_commit_could_not_take_comes_with_the_next(
    small_disk: Path, lock: HeldLock, tmp_path: Path
) -> None:
    log = ItemLog(tmp_path / "log", ignore)
    begin = outcome.begin(first_item(lock), [BuildOutline(f"null.{name}", "null") for name in "ab"])
    recorder = Recorder(begin, lock, Mask(()), log, ignore)
    recorder.commit("begin")
    ballast = fill(small_disk)
    recorder.feed(
        raw_log.says("error", f"Build 'null.a' errored after 1 second: {MORE_THAN_A_PAGE}")
    )
    assert "No space left" in unsaved(recorder)
    ballast.unlink()
    recorder.feed(raw_log.says("say", "Build 'null.b' finished after 2 seconds."))
    assert unsaved(recorder) == ""
    state = open_store(small_disk / "default").read()
    assert state is not None
    assert decode_build(state.builds["null.a"]).status is BuildStatus.FAILED
    log.close()


def test_recovery_that_could_not_be_committed_keeps_the_log(
    small_disk: Path, lock: HeldLock
) -> None:
    store = open_store(small_disk / "default")
    run = Run(
        number=1,
        token=1,
        started=datetime.now(UTC),
        by=lock.participant.holder.by,
        builds=("null.n",),
    )
    begun = outcome.begin(
        structs.replace(first_item(lock), error=MORE_THAN_A_PAGE),
        [BuildOutline("null.n", "null")],
    )
    item = begun.item
    lock.commit(PendingChange(operation="start", last_run=run))
    lock.commit(PendingChange(operation="begin", items=(item,), builds=dict(begun.builds)))
    files = LogFiles(store.logs, item.key)
    files.keep_secrets(())
    files.raw.write_bytes(raw_log.of_complete("null.n"))
    ballast = fill(small_disk)
    with pytest.raises(StoreError, match="No space left"):
        recovery.recover_item(store, lock, item, ignore, "test")
    assert files.raw.exists()
    ballast.unlink()
    recovery.recover_item(store, lock, item, ignore, "test")
    assert not files.raw.exists()
    state = store.read()
    assert state is not None
    assert decode_build(state.builds["null.n"]).status is BuildStatus.COMPLETE


def test_results_are_in_the_outbox_durably(
    lock: HeldLock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(number=1, token=1, started=datetime.now(UTC), by=lock.participant.holder.by)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda one: synced.append(os.fstat(one).st_ino))
    folder = tmp_path / "outbox"
    begun = outcome.begin(first_item(lock), [])
    assert Outbox(folder, "lineage", run, ignore).keep(begun, {})
    (kept,) = folder.iterdir()
    inodes = [path.stat().st_ino for path in (tmp_path, kept, folder)]
    assert synced == inodes


def first_item(lock: HeldLock) -> WorkItem:
    by = lock.participant.holder.by
    return WorkItem(run=1, number=1, token=1, started=datetime.now(UTC), by=by)


def ignore(_: Event) -> None:
    """These tests check results, not messages."""


def unsaved(recorder: Recorder) -> str:
    """Why the last commit failed; "" if it did not."""
    return recorder.unsaved.message if recorder.unsaved else ""
