"""States that earlier releases wrote are read, and taken over at the first write."""

import shutil
from pathlib import Path

import pytest

from packer_fork.errors import NewerFormatError
from packer_fork.locks import LockStatus
from packer_fork.model import FORMAT_VERSION, Draft
from tests.support.local_store import holder, open_store

FORMATS = Path(__file__).parents[1] / "formats"


@pytest.mark.parametrize("kind", ["at-rest", "with-changes"])
def test_format_1_is_read_and_taken_over(tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(FORMATS / "v1" / kind, tmp_path / "t.pkr.hcl" / "default"))
    store = open_store(folder)
    before = store.read()
    assert before is not None
    assert set(before.builds) == {"file.greeting", "null.machine"}
    assert not store.verify().problems
    tenure = store.try_acquire(holder("test"))
    assert not isinstance(tenure, LockStatus)
    tenure.commit(Draft(operation="test"))
    tenure.compact()
    tenure.close()
    after = open_store(folder).read()
    assert after is not None
    assert (after.version, after.serial) == (FORMAT_VERSION, before.serial + 1)
    assert after.builds == before.builds
    assert [backup.reason for backup in store.backups()] == ["format-1"]
    assert not open_store(folder).verify().problems
    passages = [stretch.read() for stretch in open_store(folder).history()]
    serials = [change.serial for passage in passages for change, _ in reversed(passage.changes)]
    assert serials == list(range(after.serial, 0, -1))


def test_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "t.pkr.hcl" / "default"
    folder.mkdir(parents=True)
    data = b'{"version":3,"serial":1,"what":"ever"}\n'
    (folder / "state.json").write_bytes(data)
    for even_damaged in (False, True):
        with pytest.raises(NewerFormatError):
            open_store(folder).try_acquire(holder("test"), even_damaged=even_damaged)
    assert (folder / "state.json").read_bytes() == data
