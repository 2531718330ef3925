"""The names inside the folder of one template and workspace.

state.json           snapshot, then one line per change
acked                witness: serial and digest of the last acknowledged change
mutex                short lock around a commit and around opening or closing a tenure
mutex.turn           what everybody comes through before it, so that nobody is passed
lock                 record of the current tenure, replaced by rename under the mutex
tenures/N.wrapper    locked by the wrapper of tenure N for as long as it lives
tenures/N.packer     locked by Packer and all its children
history/             sealed segments, named by the SHA-256 of their bytes
backups/             copies of the state file, and what was damaged
queue/N              locked by the waiter that arrived as the Nth
hashes               digests of input files, so that what is untouched is not read again
logs/                masked logs, late results, and the raw log while its run lives
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from packer_fork.stores.archive.files import ACKED, BACKUPS, HISTORY, STATE, segment
from packer_fork.stores.local.files import LocalFiles


class Layout(LocalFiles):
    """Paths, made once: this is asked several times in every commit."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.state = folder / STATE
        self.acked = folder / ACKED
        self.mutex = folder / "mutex"
        self.lock = folder / "lock"
        self.tenures = folder / "tenures"
        self.queue = folder / "queue"
        self.history = folder / HISTORY
        self.backups = folder / BACKUPS
        self.logs = folder / "logs"

    def wrapper(self, tenure: int) -> Path:
        return self.tenures / f"{tenure}.wrapper"

    def packer(self, tenure: int) -> Path:
        return self.tenures / f"{tenure}.packer"

    def ticket(self, number: int) -> Path:
        return self.queue / str(number)

    def segment(self, name: str) -> Path:
        return self.folder / segment(name)

    def known_tenures(self) -> tuple[int, ...]:
        """Numbers of the tenures that left files, ascending."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            stems = {name.partition(".")[0] for name in os.listdir(self.tenures)}  # noqa: PTH208
            return tuple(sorted(int(stem) for stem in stems if stem.isdecimal()))
        return ()
