"""The names inside the folder of one template and workspace.

state.json           snapshot, then one line per change
acked                witness: serial and digest of the last acknowledged change
mutex                short lock around a commit and around each change of the lock record
mutex.turn           what everybody comes through before it, so that nobody is passed
lock                 the lock record, replaced by rename under the mutex
locks/N-M.packer-fork  locked by the packer-fork process of participant M under token N
locks/N-M.packer     locked by its Packer and all children of that
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
        self.locks = folder / "locks"
        self.queue = folder / "queue"
        self.history = folder / HISTORY
        self.backups = folder / BACKUPS
        self.logs = folder / "logs"

    def holder_lock(self, token: int, participant: int) -> Path:
        return self.locks / f"{token}-{participant}.packer-fork"

    def packer_lock(self, token: int, participant: int) -> Path:
        return self.locks / f"{token}-{participant}.packer"

    def ticket(self, number: int) -> Path:
        return self.queue / str(number)

    def segment(self, name: str) -> Path:
        return self.folder / segment(name)

    def known_tokens(self) -> tuple[int, ...]:
        """The tokens that left lock files, ascending."""
        return tuple(sorted({_token_of(name) for name in self._lock_files()} - {0}))

    def files_of(self, token: int) -> tuple[Path, ...]:
        """The lock files that are there of all participants under `token`."""
        return tuple(self.locks / name for name in self._lock_files() if _token_of(name) == token)

    def _lock_files(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return os.listdir(self.locks)  # noqa: PTH208
        return []


def _token_of(name: str) -> int:
    """0 for a name that is none of a lock file."""
    number = name.partition("-")[0]
    return int(number) if number.isdecimal() else 0
