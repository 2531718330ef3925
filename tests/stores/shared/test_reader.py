"""Reading a state that others write meanwhile, and one that lost its head, on real servers."""

from __future__ import annotations

import pytest

from packer_fork.errors import DamagedError
from packer_fork.model import Build, Draft
from packer_fork.stores.shared import names
from packer_fork.stores.shared.reader import SharedReader
from tests.support.store_operations import tenure_of
from tests.support.stores import Ground

DRAFT = Draft(operation="test", builds={"null.a": Build(name="null.a")})


def commit(ground: Ground) -> None:
    with tenure_of(ground.open()) as tenure:
        tenure.commit(DRAFT)


def test_somebody_begins_the_state_while_it_is_looked_for(
    shared: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = shared.keys()
    ask = keys.names

    def late(prefix: str) -> list[str]:
        monkeypatch.undo()
        commit(shared)
        return ask(prefix)

    monkeypatch.setattr(keys, "names", late)
    found = SharedReader(keys).read()
    assert found is not None
    assert list(found.state.builds) == ["null.a"]


def test_changes_without_a_head_are_no_empty_state(shared: Ground) -> None:
    commit(shared)
    keys = shared.keys()
    keys.remove([names.HEAD])
    with pytest.raises(DamagedError, match="missing, though changes were committed"):
        SharedReader(keys).read()
