"""What this machine's kernel knows of the participants that joined a shared lock on it.

A participant of a shared lock holds local kernel locks as well, in a folder that has the
layout of a local store. So a process on the same machine learns whether the holder
or its Packer lives, long before a lease runs out; another machine learns nothing from it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from packer_fork import durable
from packer_fork.errors import StoreError
from packer_fork.locks import LiveProcess, LockRecord, Participant, ParticipantStatus, Status
from packer_fork.stores import lock_record
from packer_fork.stores.local import lock_status, mutex
from packer_fork.stores.local.folder import Folder
from packer_fork.stores.local.layout import Layout

if TYPE_CHECKING:
    from packer_fork.stores.local.kernel_locks import KernelLocks

_PROVEN = frozenset({Status.HELD, Status.ORPHANED, Status.ABANDONED})


class Companion:
    """The folder of one template and workspace on this machine."""

    def __init__(
        self, folder: Path, *, root: Path, complain: mutex.Complain, group: str = ""
    ) -> None:
        self.layout = Layout(folder)
        self._folder = Folder(self.layout, root=root, complain=complain, group=group)

    def evidence(self, record: LockRecord, participant: Participant) -> ParticipantStatus | None:
        """The kernel's evidence on one participant; None if it did not join on this machine."""
        with self._folder.readable():
            file = self.layout.holder_lock(record.token, participant.number)
            if not self._is_here(record) or not file.exists():
                return None
            found = lock_status.of_participant(self.layout, record.token, participant)
        if found.status is Status.ABANDONED:
            return self._confirmed(record, participant)
        return found if found.status in _PROVEN else None

    def _confirmed(self, record: LockRecord, participant: Participant) -> ParticipantStatus | None:
        """The same under the mutex, where no participant is between its file and its lock."""
        with contextlib.suppress(StoreError), self._folder.exclusively():
            found = lock_status.of_participant(self.layout, record.token, participant)
            return found if found.status in _PROVEN else None
        return None

    def processes(self, record: LockRecord) -> tuple[LiveProcess, ...]:
        """Those of the lock that live here."""
        with self._folder.readable():
            return lock_status.processes_of(self.layout, record) if self._is_here(record) else ()

    def _is_here(self, record: LockRecord) -> bool:
        here = lock_status.read_record(self.layout).record
        return here is not None and here.id == record.id

    def open(self, record: LockRecord) -> KernelLocks:
        """The kernel locks of the newest participant, which the servers have admitted.

        Raises StoreError.
        """
        from packer_fork.stores.local import kernel_locks

        with self._folder.exclusively():
            for earlier in self.layout.known_tokens():
                if earlier != record.token:
                    kernel_locks.forget(self.layout, earlier)
            return kernel_locks.lock_newest(self.layout, record, is_durable=False)

    def note(self, record: LockRecord) -> None:
        """Keep what is known of the lock, for finding its processes on this machine."""
        with contextlib.suppress(OSError):
            durable.replace(self.layout.lock, lock_record.encode(record), durable=False)

    def make_sure(self) -> None:
        """Raises StoreError where no kernel lock could be taken here."""
        with self._folder.exclusively():
            pass

    def is_alive(self, token: int) -> bool:
        with self._folder.readable():
            return lock_status.is_alive(self.layout, token)

    def left_alive(self, newest: int) -> tuple[int, ...]:
        """Tokens before `newest` under which something still lives here."""
        with self._folder.readable():
            known = self.layout.known_tokens()
            return tuple(n for n in known if n < newest and lock_status.is_alive(self.layout, n))

    def newest(self) -> int:
        """The highest token that was held here; 0 if there was none."""
        with self._folder.readable():
            return max(self.layout.known_tokens(), default=0)
