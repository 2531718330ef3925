"""Changes a state for ever, as one contender after another, until its disk fails.

    python -m stress.writer FOLDER EVENTS

Compactions and new segments come often. EVENTS is on another disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

from packer_fork.stores.archive import history
from packer_fork.stores.local import journal
from stress.contender import Contender
from stress.recorder import Recorder
from tests.support.local_store import open_store

REST_SIZE, SEGMENT_SIZE = 3_000, 10_000


def main(folder: Path, events: Path) -> None:
    journal.REST_SIZE, history.SEGMENT_SIZE = REST_SIZE, SEGMENT_SIZE
    me = Contender(open_store(folder), Recorder(events))
    while True:
        lock = me.enter(queue=False)
        assert lock is not None
        for _ in range(5):
            me.change(lock)
        lock.compact()
        me.leave(lock)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
