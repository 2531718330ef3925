"""A commit that meets what others, or its own late request, have written meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from packer_fork.errors import LockLostError
from packer_fork.stores.shared.held_lock import Unfenced
from packer_fork.stores.shared.journal import SharedJournal
from packer_fork.stores.shared.keys import Condition, UnsureError, Write
from packer_fork.stores.shared.store import SharedStore
from tests.support.local_store import holder
from tests.support.store_operations import ANY, built, changes, lock_of, whys
from tests.support.stores import Ground


def test_what_others_wrote_since_is_not_taken_back(
    shared: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor by the note that a commit was refused, which a closed lock may still write."""
    here, there = shared.open(), shared.open(machine="there")
    assert isinstance(here, SharedStore)
    transact = here._keys.transact

    def lost(conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        monkeypatch.undo()
        assert transact(conditions, writes)
        with lock_of(there, over=ANY, lock_id=there.status().id) as other:
            other.commit(built(3))
            other.compact()
        raise UnsureError("Its reply was lost.")

    with lock_of(here) as lock:
        lock.commit(built(1))
        monkeypatch.setattr(here._keys, "transact", lost)
        assert lock.commit(built(2)).serial == 2
        with pytest.raises(LockLostError):
            lock.commit(built(4))
    store = shared.open()
    found = [(change.operation, change.why) for change in changes(store)]
    assert [why for operation, why in found if operation == "test"] == ["1", "2", "3"]
    assert found[-1][0] == "refused"
    assert store.verify().problems == ()


def test_commit_that_lands_after_it_was_looked_for_counts(
    shared: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request is still on the way when the head is read, and is done when it is repeated."""
    store = shared.open()
    assert isinstance(store, SharedStore)
    transact, sent = store._keys.transact, []

    def late(conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        sent.append((conditions, writes))
        if len(sent) == 1:
            raise UnsureError("Its reply was lost.")
        monkeypatch.undo()
        assert transact(*sent[0])
        return transact(conditions, writes)

    with lock_of(store) as lock:
        lock.commit(built(1))
        monkeypatch.setattr(store._keys, "transact", late)
        assert lock.commit(built(2)).serial == 2
        assert lock.commit(built(3)).serial == 3
    assert whys(shared.open()) == ["1", "2", "3"]
    assert shared.open().verify().problems == ()


def test_older_token_commits_nothing_after_a_newer_one(shared: Ground) -> None:
    """The journal refuses it by itself, whatever else holds a closed lock back."""
    store = shared.open()
    assert isinstance(store, SharedStore)
    journal = SharedJournal(store._keys, store._start, store._reader, Unfenced())
    by = holder("test").by
    journal.commit(built(1), token=2, by=by)
    with pytest.raises(LockLostError, match="HeldLock 2 has written after 1"):
        journal.commit(built(2), token=1, by=by)
    journal.commit(built(3), token=2, by=by)
    assert whys(shared.open()) == ["1", "3"]
