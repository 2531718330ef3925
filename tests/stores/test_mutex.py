"""The short lock around every change: who keeps it long is named, and nothing hangs on it."""

import signal
import threading
from pathlib import Path

import pytest

from packer_fork.stores.local import mutex
from tests.conftest import eventually
from tests.support.local_store import open_store
from tests.support.stage import Player, Stage


@pytest.fixture
def stopped(stage: Stage) -> Player:
    """It was stopped while it held the mutex."""
    player = stage.enter()
    player.ask("take")
    player.ask("close")
    player.ask("hold_mutex")
    player.freeze()
    return player


def test_a_stopped_holder_is_named_and_then_waited_for(stage: Stage, stopped: Player) -> None:
    other = stage.enter()
    other.ask("patience", "0.1", "60")
    said = other.ask("take")["complaint"]
    assert f"held by process {stopped.pid}" in said
    assert str(stage.folder / "mutex") in said
    stopped.signal(signal.SIGCONT)
    stopped.ask("drop_mutex")
    assert other.answer()["lock"] == 2


def test_nobody_waits_for_ever(stage: Stage, stopped: Player) -> None:
    other = stage.enter()
    other.ask("patience", "0.1", "0.3")
    other.ask("take")
    refused = other.answer()
    assert refused["error"] == "StoreError"
    assert f"process {stopped.pid}" in refused["message"]
    other.tell("join")
    assert "complaint" in other.answer()
    assert other.answer()["error"] == "StoreError"
    stopped.kill()
    assert other.ask("take")["lock"] == 2, "the kernel frees it with its holder"


def test_a_commit_that_cannot_have_it_changes_nothing(stage: Stage) -> None:
    holder, other = stage.enter(), stage.enter()
    holder.ask("take")
    holder.ask("commit", "before")
    holder.ask("patience", "60", "0.2")
    other.ask("hold_mutex")
    other.freeze()
    refused = holder.ask("commit", "meanwhile")
    assert refused["error"] == "StoreError"
    assert f"process {other.pid}" in refused["message"]
    other.kill()
    assert holder.ask("commit", "again")["serial"] == 2


def test_a_holder_that_cannot_close_is_found_abandoned(stage: Stage) -> None:
    holder, other = stage.enter(), stage.enter()
    holder.ask("take")
    holder.ask("patience", "60", "0.2")
    other.ask("hold_mutex")
    other.freeze()
    holder.ask("close")
    assert open_store(stage.folder).status().status == "abandoned", "looking needs no mutex"
    other.signal(signal.SIGCONT)
    other.ask("drop_mutex")
    assert holder.ask("take")["replaced"] == "abandoned"


def test_a_waiter_is_not_passed_by_who_wants_it_again_at_once(tmp_path: Path) -> None:
    """On a busy machine it was, for a minute: a look now and then rarely met the free moment."""
    path, done = tmp_path / "mutex", threading.Event()
    had = 0

    def hog() -> None:
        nonlocal had
        while not done.is_set():
            with mutex.held(path, print):
                had += 1
                done.wait(0.02)

    thread = threading.Thread(target=hog)
    thread.start()
    try:
        eventually(lambda: had > 0)
        counts = []
        for _ in range(20):
            before = had
            with mutex.held(path, print):
                counts.append(had - before)
    finally:
        done.set()
        thread.join()
    assert max(counts) <= 3, counts


def test_who_is_stopped_in_the_turnstile_is_named(stage: Stage, stopped: Player) -> None:
    """It waits for the mutex, and everybody else for it."""
    first, second = stage.enter(), stage.enter()
    first.tell("hold_mutex")
    turn = mutex.turnstile(stage.folder / "mutex")
    eventually(lambda: turn.exists() and turn.read_text().split() == [str(first.pid)])
    first.freeze()
    stopped.signal(signal.SIGCONT)
    stopped.ask("drop_mutex")
    second.ask("patience", "0.1", "60")
    assert f"held by process {first.pid}" in second.ask("take")["complaint"]
    first.signal(signal.SIGCONT)
    first.answer()
    first.ask("drop_mutex")
    assert second.answer()["lock"] == 2


def test_the_mark_of_a_dead_waiter_holds_nobody_up(stage: Stage, stopped: Player) -> None:
    waiter, path = stage.enter(), stage.folder / "mutex"
    waiter.tell("hold_mutex")
    eventually(lambda: path.read_bytes()[20:] == b"w")
    waiter.kill()
    stopped.signal(signal.SIGCONT)
    stopped.ask("drop_mutex")
    assert stage.enter().ask("take")["lock"] == 2
    assert path.read_bytes()[20:] == b" "


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    inside = most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with mutex.held(tmp_path / "mutex", print):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
