"""Kernel locks of the participants, on two files each: locked for as long as a process lives.

The files of a participant are locked before the lock record lists it, and removed after it
has left. So a reader of the record can always ask the kernel about each participant.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from packer_fork import durable
from packer_fork.lean_imports import submodules_only
from packer_fork.locks import LockRecord
from packer_fork.stores import lock_record
from packer_fork.stores.local import lock_status
from packer_fork.stores.local.layout import Layout

# portalocker/__init__ imports logging, tempfile, random and metadata for classes of its own.
with submodules_only("portalocker"):
    from portalocker import portalocker
    from portalocker.constants import LockFlags


class KernelLocks:
    """The two locked files of a participant, open for as long as this object is."""

    def __init__(self, layout: Layout, token: int, participant: int) -> None:
        self._paths = layout.holder_lock(token, participant), layout.packer_lock(token, participant)
        holder = _locked(self._paths[0])
        try:
            self.packer_descriptor = _locked(self._paths[1])
        except BaseException:
            os.close(holder)
            raise
        self._held: tuple[int, ...] = (self.packer_descriptor, holder)
        self._inodes = _inode(os.fstat(holder)), _inode(os.fstat(self.packer_descriptor))

    def hand_over(self) -> None:
        """Let go without unlocking: what Packer's processes inherited stays locked."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held = ()

    def release(self) -> None:
        """Free both, the copies that Packer's processes inherited included."""
        for descriptor in self._held:
            portalocker.unlock(descriptor)
            os.close(descriptor)
        self._held = ()

    def remove(self) -> None:
        """Remove the files of a participant that has left.

        Where the folder was removed and made anew, files of these names are another run's.
        """
        for path, inode in zip(self._paths, self._inodes, strict=True):
            with contextlib.suppress(FileNotFoundError):
                if _inode(path.stat()) == inode:
                    path.unlink()


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _locked(path: Path) -> int:
    """A descriptor that holds the lock on a new file."""
    descriptor = durable.create(path)
    try:
        # Only who looks at it, shared and for microseconds, can be in the way.
        portalocker.lock(descriptor, LockFlags.EXCLUSIVE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def lock_newest(layout: Layout, record: LockRecord, *, is_durable: bool) -> KernelLocks:
    """Lock the files of the newest participant, then write the record. Under the mutex only."""
    locks = KernelLocks(layout, record.token, record.participants[-1].number)
    try:
        durable.replace(layout.lock, lock_record.encode(record), durable=is_durable)
    except BaseException:
        locks.release()
        if not is_durable:  # else the record may list it, and the files prove it dead
            locks.remove()
        raise
    return locks


def forget(layout: Layout, token: int) -> None:
    """Remove the files under an older token, unless a process still holds one of them."""
    if not lock_status.is_alive(layout, token):
        for path in layout.files_of(token):
            path.unlink(missing_ok=True)
