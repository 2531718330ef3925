"""A commit whose reply is lost, and looked for only after others have gone on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from packer_fork.errors import LockLostError
from packer_fork.stores.shared.keys import Condition, UnsureError, Write
from packer_fork.stores.shared.store import SharedStore
from tests.support.store_operations import ANY, built, changes, tenure_of
from tests.support.stores import Ground


def test_what_others_wrote_since_is_not_taken_back(
    shared: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor by the note that a commit was refused, which a closed tenure may still write."""
    here, there = shared.open(), shared.open(machine="there")
    assert isinstance(here, SharedStore)
    transact = here._keys.transact

    def lost(conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        monkeypatch.undo()
        assert transact(conditions, writes)
        with tenure_of(there, over=ANY, lock_id=there.status().id) as other:
            other.commit(built(3))
            other.compact()
        raise UnsureError("Its reply was lost.")

    with tenure_of(here) as tenure:
        tenure.commit(built(1))
        monkeypatch.setattr(here._keys, "transact", lost)
        assert tenure.commit(built(2)).serial == 2
        with pytest.raises(LockLostError):
            tenure.commit(built(4))
    store = shared.open()
    found = [(change.operation, change.why) for change in changes(store)]
    assert [why for operation, why in found if operation == "test"] == ["1", "2", "3"]
    assert found[-1][0] == "refused"
    assert store.verify().problems == ()
