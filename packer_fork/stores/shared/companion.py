"""What this machine's kernel knows of the tenures that were opened on it.

A tenure of a shared store holds local kernel locks as well, in a folder that has the
layout of a local store. So whoever asks on the same machine learns whether the holder
or its Packer lives, long before a lease runs out; on another machine nothing is known.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from packer_fork import durable
from packer_fork.locks import LiveProcess, LockRecord, LockStatus, Verdict
from packer_fork.stores.local import mutex, probe
from packer_fork.stores.local.folder import Folder
from packer_fork.stores.local.layout import Layout

if TYPE_CHECKING:
    from packer_fork.stores.local.tenure import KernelLocks

_PROVEN = frozenset({Verdict.HELD, Verdict.ORPHANED, Verdict.ABANDONED})


class Companion:
    """The folder of one template and workspace on this machine."""

    def __init__(
        self, folder: Path, *, root: Path, complain: mutex.Complain, group: str = ""
    ) -> None:
        self.layout = Layout(folder)
        self._folder = Folder(self.layout, root=root, complain=complain, group=group)

    def judge(self, record: LockRecord) -> LockStatus | None:
        """The kernel's verdict on that tenure; None if it was not opened here."""
        with self._folder.readable():
            if not self._is_here(record):
                return None
            found = probe.judge(self.layout)
        return found if found.verdict in _PROVEN else None

    def of_member(self, record: LockRecord, number: int) -> tuple[Verdict, str] | None:
        """The same of one member of a tenure that many hold; None if it did not join here."""
        with self._folder.readable():
            if not self._is_here(record) or not self.layout.wrapper(record.tenure, number).exists():
                return None
            verdict, proof = probe.of_tenure(self.layout, record.tenure, number)
        if verdict is Verdict.ABANDONED:
            # under the mutex nobody is just about to join
            with self._folder.exclusively():
                verdict, proof = probe.of_tenure(self.layout, record.tenure, number)
        return (verdict, proof) if verdict in _PROVEN else None

    def processes(self, record: LockRecord) -> tuple[LiveProcess, ...]:
        """Those of the tenure that live here."""
        with self._folder.readable():
            return probe.processes_of(self.layout, record) if self._is_here(record) else ()

    def _is_here(self, record: LockRecord) -> bool:
        here = probe.read_record(self.layout).record
        return here is not None and here.id == record.id

    def open(self, record: LockRecord, member: int = 0) -> Held:
        """The kernel locks of a tenure that the servers have granted. Raises StoreError."""
        from packer_fork.stores.local import tenure

        with self._folder.exclusively():
            for earlier in self.layout.known_tenures():
                if earlier != record.tenure:
                    tenure.forget(self.layout, earlier)
            locks = tenure.open_tenure(self.layout, record, member)
            return Held(self.layout, record, locks, member)

    def make_sure(self) -> None:
        """Raises StoreError where no tenure could be opened here."""
        with self._folder.exclusively():
            pass

    def is_alive(self, tenure: int) -> bool:
        with self._folder.readable():
            return probe.is_alive(self.layout, tenure)

    def left_alive(self, newest: int) -> tuple[int, ...]:
        """Tenures before `newest` of which something still lives here."""
        with self._folder.readable():
            known = self.layout.known_tenures()
            return tuple(n for n in known if n < newest and probe.is_alive(self.layout, n))

    def newest(self) -> int:
        """The highest number that a tenure had here; 0 if there was none."""
        with self._folder.readable():
            return max(self.layout.known_tenures(), default=0)


class Held:
    """The kernel locks of one tenure on this machine."""

    def __init__(self, layout: Layout, record: LockRecord, locks: KernelLocks, member: int) -> None:
        self._layout = layout
        self._tenure = record.tenure
        self._member = member
        self._locks = locks

    @property
    def packer_lock(self) -> int:
        return self._locks.packer_descriptor

    def note(self, record: LockRecord) -> None:
        """What is known of the tenure by now, for whoever looks for its processes here."""
        with contextlib.suppress(OSError):
            durable.replace(self._layout.lock, probe.encode_record(record), durable=False)

    def hand_over(self) -> None:
        self._locks.hand_over()

    def release(self) -> None:
        from packer_fork.stores.local import tenure

        self._locks.release()
        with contextlib.suppress(OSError):
            tenure.remove(self._layout, self._tenure, self._member)
