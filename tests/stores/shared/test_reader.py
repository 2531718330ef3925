"""Reading a state that others write meanwhile, and one that lost its head, on real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from packer_fork.errors import DamagedError
from packer_fork.model import Build, PendingChange
from packer_fork.stores.shared import names
from packer_fork.stores.shared.high_water import HighWaterMark
from packer_fork.stores.shared.keys import Keys
from packer_fork.stores.shared.reader import SharedReader
from tests.support.local_store import holder
from tests.support.store_operations import lock_of
from tests.support.stores import Ground

DRAFT = PendingChange(operation="test", builds={"null.a": Build(name="null.a")})


def commit(ground: Ground) -> None:
    with lock_of(ground.open()) as lock:
        lock.commit(DRAFT)


def test_somebody_begins_the_state_while_it_is_looked_for(
    shared: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = shared.keys()
    ask = keys.names

    def late(prefix: str) -> list[str]:
        monkeypatch.undo()
        commit(shared)
        return ask(prefix)

    monkeypatch.setattr(keys, "names", late)
    found = SharedReader(keys, HighWaterMark(tmp_path / "none")).read()
    assert found is not None
    assert list(found.state.builds) == ["null.a"]


def test_changes_without_a_head_are_no_empty_state(shared: Ground, tmp_path: Path) -> None:
    commit(shared)
    keys = shared.keys()
    keys.remove([names.HEAD])
    with pytest.raises(DamagedError, match="missing, though changes were committed"):
        SharedReader(keys, HighWaterMark(tmp_path / "none")).read()


def contents(keys: Keys) -> dict[str, bytes]:
    return {item.key: item.value for item in keys.items("")}


def restore(keys: Keys, copy: dict[str, bytes]) -> None:
    """What a server has after it was restored from a copy of its data."""
    keys.remove(keys.names(""))
    for key, value in copy.items():
        keys.put(key, value)


def test_server_restored_from_an_older_copy_is_noticed(shared: Ground) -> None:
    commit(shared)
    keys = shared.keys()
    copy = contents(keys)
    commit(shared)
    newest = shared.open().read()
    assert newest is not None
    restore(keys, copy)
    store = shared.open()
    with pytest.raises(DamagedError, match="went back in time") as raised:
        store.read()
    assert f"up to {newest.serial} are lost" in raised.value.lost
    with pytest.raises(DamagedError):
        store.try_acquire(holder("build"))
    assert contents(keys) == copy


def test_state_that_continued_from_an_older_copy_is_noticed(shared: Ground) -> None:
    commit(shared)
    keys = shared.keys()
    copy = contents(keys)
    commit(shared)
    restore(keys, copy)
    with lock_of(shared.open(machine="elsewhere")) as lock:
        lock.commit(PendingChange(operation="other"))
        lock.commit(PendingChange(operation="other"))
    with pytest.raises(DamagedError, match="went back in time") as raised:
        shared.open().read()
    assert "another change has serial" in raised.value.lost


def test_repair_of_an_older_copy_reuses_no_serial(shared: Ground) -> None:
    commit(shared)
    keys = shared.keys()
    copy = contents(keys)
    commit(shared)
    newest = shared.open().read()
    restore(keys, copy)
    store = shared.open()
    with lock_of(store, even_damaged=True) as lock:
        repaired = lock.repair()
    state = store.read()
    assert newest is not None
    assert state is not None
    assert state.serial == repaired.serial > newest.serial
    assert list(state.builds) == ["null.a"]


def test_removed_state_is_not_begun_anew_where_it_was_seen(shared: Ground) -> None:
    commit(shared)
    restore(shared.keys(), {})
    with pytest.raises(DamagedError, match="was acknowledged") as raised:
        shared.open().read()
    mark = Path(str(raised.value.lost).partition("remove ")[2].partition(" on this machine")[0])
    mark.unlink()
    assert shared.open().read() is None
    assert shared.open(machine="elsewhere").read() is None
