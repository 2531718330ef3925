"""Contending for a lock as a build does, every step on record."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from packer_fork import host
from packer_fork.errors import LockLostError
from packer_fork.locks import Holder, LockStatus
from packer_fork.manager.acquire import look_after
from packer_fork.model import Build, Draft
from packer_fork.stores.base import Store, Tenure
from packer_fork.stores.local.queue import Ticket
from packer_fork.stores.local.store import LocalStore
from stress.checker import Acquired, Committed, Released
from stress.recorder import Recorder, now


def complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def open_store(folder: Path, said: Callable[[str], None] = complain) -> LocalStore:
    """The store in `folder`, which lies in the folder of all states of a test."""
    return LocalStore(
        folder, root=folder.parent, template="t.pkr.hcl", workspace="default", complain=said
    )


def holder(operation: str) -> Holder:
    return Holder(operation=operation, by=host.this_actor(), process=host.this_process())


class Got(NamedTuple):
    """A tenure, when it was asked for, and the ticket that it was got with (0: none)."""

    tenure: Tenure
    asked: int
    ticket: int


def queue_up(store: Store, asking: Holder) -> Got:
    """The lock, in the order of arrival, however long it takes."""
    asked = now()
    ticket = store.join_queue(asking)
    try:
        while isinstance(found := store.try_acquire(asking, ticket=ticket), LockStatus):
            ticket.wait(look_after(ticket.ahead))
    finally:
        ticket.leave()
    # Only those of the local lock are numbered for good.
    return Got(found, asked, ticket.number if isinstance(ticket, Ticket) else 0)


class Contender:
    """One process that gets the lock again and again, and notes what it was promised."""

    def __init__(
        self, store: Store, record: Recorder, asking: Holder | None = None, *, name: str = ""
    ) -> None:
        self.name = name or f"{os.getpid()}.{now()}"
        self.store = store
        self._holder = asking or holder("contend")
        self._record = record
        self._changes = 0

    def enter(self, *, queue: bool = True) -> Tenure | None:
        """A tenure; without `queue` None where somebody else has it or waits for it."""
        if queue:
            got = queue_up(self.store, self._holder)
        else:
            asked = now()
            found = self.store.try_acquire(self._holder)
            if isinstance(found, LockStatus):
                return None
            got = Got(found, asked, 0)
        self._record.note(
            Acquired(
                tenure=got.tenure.record.tenure,
                lock=got.tenure.record.id,
                process=self.name,
                asked=got.asked,
                got=now(),
                ticket=got.ticket,
            )
        )
        return got.tenure

    def change(self, tenure: Tenure) -> bool:
        """Commit once; False if the tenure was closed meanwhile."""
        mark, begun = f"{self.name}.{self._changes}", now()
        self._changes += 1
        draft = Draft(operation="contend", why=mark, builds={"b": Build(name="b", error=mark)})
        try:
            serial = tenure.commit(draft).serial
        except LockLostError:
            return False
        number = tenure.record.tenure
        self._record.note(
            Committed(tenure=number, serial=serial, mark=mark, begun=begun, acknowledged=now())
        )
        return True

    def leave(self, tenure: Tenure) -> None:
        self._record.note(Released(tenure=tenure.record.tenure, at=now()))
        tenure.close()


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a process group of its own; from processes of one thread only."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        work()
        code = 0
    except BaseException:  # noqa: BLE001 (a child tells by its exit code and its words)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait_for(pids: list[int]) -> None:
    """Raises ChildProcessError if one of them ended in any way but well."""
    failed = [pid for pid in pids if os.waitpid(pid, 0)[1] != 0]
    if failed:
        raise ChildProcessError(f"{len(failed)} of {len(pids)} processes failed")
