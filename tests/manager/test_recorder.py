"""A store that fails while a run is recorded: left alone for a while, and asked at the end."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from packer_fork.events import Event, Notice
from packer_fork.locks import LockStatus
from packer_fork.manager.record import Recorder
from packer_fork.manager.runlog import RunLog
from packer_fork.model import Run
from packer_fork.packer import outcome
from packer_fork.packer.mask import Mask
from packer_fork.packer.outline import BuildOutline
from packer_fork.stores.base import Tenure
from packer_fork.stores.breaker import Breaker
from packer_fork.stores.circuit import THRESHOLD, Phase
from tests.manager.test_disk import fill
from tests.support.local_store import holder, open_store

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def tenure(small_disk: Path) -> Iterator[Tenure]:
    found = open_store(small_disk / "default").try_acquire(holder("build"))
    assert not isinstance(found, LockStatus)
    yield found
    found.close()


def test_a_disk_that_stays_full_is_left_alone_until_the_end(
    small_disk: Path, tenure: Tenure, tmp_path: Path
) -> None:
    told: list[Event] = []
    breaker = Breaker(str(small_disk), folder=tmp_path / "run")
    log = RunLog(tmp_path / "log", told.append)
    run = Run(number=1, tenure=1, started=datetime.now(UTC), by=tenure.record.holder.by)
    begin = outcome.begin(run, [BuildOutline("null.n", "null")])
    recorder = Recorder(begin, tenure, Mask(()), log, told.append, guard=breaker)
    recorder.commit("start")
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
    recorder.commit("finish")
    assert unsaved(recorder) == "", "the end of a run is tried in any case"
    assert breaker.state().phase is Phase.CLOSED
    assert len([each for each in told if isinstance(each, Notice)]) == 1, "it is told once"
    log.close()


def unsaved(recorder: Recorder) -> str:
    """Why the last commit failed; "" if it did not."""
    return recorder.unsaved.message if recorder.unsaved else ""
