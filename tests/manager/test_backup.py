"""A backup in one file, made while the history is let go of."""

from pathlib import Path

import pytest

from packer_fork.config import Settings
from packer_fork.manager.state import backup
from packer_fork.manager.state_ref import StateFolder, StateRef
from packer_fork.model import PendingChange
from packer_fork.stores.archive import history
from tests.support import local_states


def test_a_backup_leaves_out_what_was_pruned_since_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SEGMENT_SIZE", 1)
    folder = tmp_path / "t.pkr.hcl" / "default"
    local_states.grow(folder, range(1, 6))
    kept, cut, *_ = local_states.segments(folder)
    store = local_states.open_store(folder)
    with local_states.lock_of(store) as lock:
        lock.commit(PendingChange(operation="prune", gaps={cut.stem: None}))
        lock.discard_unused()
    assert not cut.exists()
    at = StateFolder(tmp_path, "t.pkr.hcl", "default")
    file = tmp_path / "backup.tar"
    backup.in_file(StateRef(at, store, Settings()), file)
    assert backup.read(file).state.gaps == {cut.stem: None}
    assert len(list(backup.segments(file))) == 2  # the one kept, and the change that cut
    assert kept.exists()
