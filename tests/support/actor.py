"""A process that does with the local lock what it is told, one command a line on stdin.

    python -m tests.support.actor FOLDER

Each command is answered by one line of JSON. ``{"error": …}`` where packer-fork says no;
what is said without being asked (of a mutex held long) comes as ``{"complaint": …}``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from packer_fork.errors import PackerForkError
from packer_fork.locks import LockStatus, Status
from packer_fork.model import Build, PendingChange
from packer_fork.stores.base import TAKE_OVER, HeldLock, Ticket
from packer_fork.stores.local import (
    kernel_locks,  # noqa: F401 (beforehand: after `become` its file may be out of reach)
    mutex,
)
from packer_fork.stores.local.layout import Layout
from tests.support.local_store import holder, open_store

ANY = frozenset(Status) - {Status.FREE}


class Actor:
    """The methods are the commands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = open_store(folder, lambda text: say({"complaint": text}))
        self._holder = holder("act")
        self._lock: HeldLock | None = None
        self._ticket: Ticket | None = None
        self._mutex = ExitStack()

    def take(self, over: str = "", lock_id: str = "") -> Any:
        """Once, without waiting; `over`: "any" status, "none", or those of a build."""
        statuses = {"any": ANY, "none": frozenset[Status]()}.get(over, TAKE_OVER)
        found = self._store.try_acquire(
            self._holder, over=statuses, lock_id=lock_id, ticket=self._ticket
        )
        if isinstance(found, LockStatus):
            return {"refused": found.status, "id": found.id}
        self._lock = found
        replaced = found.replaced.status if found.replaced else None
        record = found.record
        return {
            "lock": record.token,
            "id": record.id,
            "replaced": replaced,
            "got": time.monotonic_ns(),
        }

    def join(self) -> Any:
        self._ticket = self._store.join_queue(self._holder)
        return {"ahead": self._ticket.ahead}

    def wait(self, seconds: str) -> Any:
        assert self._ticket is not None
        start = time.monotonic()
        self._ticket.wait(float(seconds))
        return {"waited": time.monotonic() - start}

    def queue(self) -> Any:
        """Wait for the lock in the order of arrival, joining first where that is not done."""
        if self._ticket is None:
            self.join()
        while "refused" in (answer := self.take()):
            self.wait("60")
        self._ticket = None
        return answer

    def place(self) -> Any:
        assert self._ticket is not None
        return {"place": self._ticket.place()}

    def leave(self) -> Any:
        assert self._ticket is not None
        self._ticket.leave()
        self._ticket = None
        return {}

    def commit(self, *words: str) -> Any:
        assert self._lock is not None
        mark = " ".join(words)
        draft = PendingChange(operation="act", why=mark, builds={"b": Build(name="b", error=mark)})
        return {"serial": self._lock.commit(draft).serial}

    def packer(self) -> Any:
        """Start a process that inherits Packer's lock and outlives us."""
        assert self._lock is not None
        child = subprocess.Popen(["sleep", "300"], pass_fds=[self._lock.packer_lock])
        return {"pid": child.pid}

    def close(self) -> Any:
        assert self._lock is not None
        at = time.monotonic_ns()
        self._lock.close()
        self._lock = None
        return {"at": at}

    def status(self) -> Any:
        return msgspec.to_builtins(self._store.status())

    def hold_mutex(self) -> Any:
        self._mutex.enter_context(mutex.held(Layout(self._folder).mutex, lambda _: None))
        return {}

    def drop_mutex(self) -> Any:
        self._mutex.close()
        return {}

    def patience(self, named: str, given_up: str) -> Any:
        """Shorten the waits for the mutex, in seconds."""
        mutex.NAMED_AFTER, mutex.GIVEN_UP_AFTER = float(named), float(given_up)
        return {}

    def become(self, uid: str) -> Any:
        """Another user from now on."""
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
        return {}


def say(answer: Any) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


def main() -> None:
    actor = Actor(Path(sys.argv[1]))
    say({"pid": os.getpid()})
    for line in sys.stdin:
        name, *args = line.split()
        try:
            say(getattr(actor, name)(*args))
        except PackerForkError as error:
            text = {"message": error.message, "hint": error.hint}
            say({"error": type(error).__name__, **text})


if __name__ == "__main__":
    main()
