"""Working on a store as a build does, as the tests of every store need it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from packer_fork.locks import Holder, LockStatus, Status
from packer_fork.model import Build, BuildStatus, Change, PendingChange, State
from packer_fork.stores.base import HeldLock, Store
from tests.support.local_store import holder

ANY = frozenset(set(Status) - {Status.FREE})

T = TypeVar("T")


@contextlib.contextmanager
def lock_of(store: Store, asking: Holder | None = None, **how: object) -> Iterator[HeldLock]:
    found = store.try_acquire(asking or holder("test"), **how)  # type: ignore[arg-type]
    assert not isinstance(found, LockStatus), found
    try:
        yield found
    finally:
        found.close()


@contextlib.contextmanager
def waited_for(store: Store, asking: Holder | None = None) -> Iterator[HeldLock]:
    """The lock, in the order of arrival."""
    asking = asking or holder("test")
    ticket = store.join_queue(asking)
    try:
        while isinstance(found := store.try_acquire(asking, ticket=ticket), LockStatus):
            ticket.wait(5)
    finally:
        ticket.leave()
    with contextlib.closing(found):
        yield found


@contextlib.contextmanager
def in_a_process(work: Callable[[], T]) -> Iterator[int]:
    """What `work` returns is held by another process, which is killed in the end."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            held = work()
            os.write(write, b"+" if held else b"-")
            threading.Event().wait()
        finally:
            os._exit(1)
    os.close(write)
    assert os.read(read, 1) == b"+"
    os.close(read)
    try:
        yield child
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def built(number: int, *, text: str = "") -> PendingChange:
    build = Build(name=f"b{number % 5}", status=BuildStatus.COMPLETE, run=number, error=text)
    return PendingChange(operation="test", why=str(number), builds={build.name: build})


def changes(store: Store) -> list[Change]:
    """All, the oldest first."""
    found = [pair for stretch in store.history() for pair in reversed(stretch.read().changes)]
    return [change for change, _ in reversed(found)]


def whys(store: Store) -> list[str]:
    return [change.why for change in changes(store) if change.operation == "test"]


def state_of(store: Store) -> State:
    state = store.read()
    assert state is not None
    return state
