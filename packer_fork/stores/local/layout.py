"""The names inside the folder of one template and workspace.

state.json           snapshot, then one line per change
acked                witness: serial and digest of the last acknowledged change
mutex                short lock around a commit and around opening or closing a tenure
mutex.turn           what everybody comes through before it, so that nobody is passed
lock                 record of the current tenure, replaced by rename under the mutex
tenures/N.wrapper    locked by the wrapper of tenure N for as long as it lives
tenures/N.packer     locked by Packer and all its children
tenures/N-M.wrapper  and N-M.packer: the same for member M of a tenure that many hold
history/             sealed segments, named by the SHA-256 of their bytes
backups/             copies of the state file, and what was damaged
queue/N              locked by the waiter that arrived as the Nth
hashes               digests of input files, so that what is untouched is not read again
evaluations          what Packer answered about the template, sealed with the state's key
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

    def wrapper(self, tenure: int, member: int = 0) -> Path:
        return self.tenures / f"{_named(tenure, member)}.wrapper"

    def packer(self, tenure: int, member: int = 0) -> Path:
        return self.tenures / f"{_named(tenure, member)}.packer"

    def ticket(self, number: int) -> Path:
        return self.queue / str(number)

    def segment(self, name: str) -> Path:
        return self.folder / segment(name)

    def known_tenures(self) -> tuple[int, ...]:
        """Numbers of the tenures that left files, ascending."""
        return tuple(sorted({_tenure_of(name) for name in self._locked_files()} - {0}))

    def files_of(self, tenure: int) -> tuple[Path, ...]:
        """The locked files that are there of a tenure, those of its members included."""
        names = self._locked_files()
        return tuple(self.tenures / name for name in names if _tenure_of(name) == tenure)

    def _locked_files(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return os.listdir(self.tenures)  # noqa: PTH208
        return []


def _named(tenure: int, member: int) -> str:
    return f"{tenure}-{member}" if member else str(tenure)


def _tenure_of(name: str) -> int:
    """0 for a file that is none of a tenure's."""
    number = name.partition(".")[0].partition("-")[0]
    return int(number) if number.isdecimal() else 0
