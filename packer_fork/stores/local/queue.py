"""Waiting for the local lock, first come first served.

A waiter holds the kernel lock on a ticket of its own, numbered under the mutex,
and sleeps in the kernel until the ticket before it, or the tenure, is let go: by
its owner or by its owner's death, which are the same to the kernel. Nobody polls,
nobody is woken in vain, and whoever dies in the queue simply is no longer in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from packer_fork import durable
from packer_fork.locks import Waiter
from packer_fork.stores.local import probe
from packer_fork.stores.local.layout import Layout

_GLANCE = 0.1
"""Seconds between looks at the lock's record: force-unlock frees it under a living holder."""

_MAX_TICKET = 1 << 20


def numbers(layout: Layout) -> list[int]:
    """All tickets, dead ones included, in the order of arrival."""
    with contextlib.suppress(FileNotFoundError):
        names = [path.name for path in layout.queue.iterdir()]
        return sorted(int(name) for name in names if name.isdecimal())
    return []


def live(layout: Layout) -> list[int]:
    """The tickets whose owners live, in the order of arrival."""
    return [number for number in numbers(layout) if probe.is_busy(layout.ticket(number))]


def waiters(layout: Layout) -> tuple[Waiter, ...]:
    """Who waits, in the order of arrival; a ticket that cannot be read still counts."""
    return tuple(_waiter(layout.ticket(number)) for number in live(layout))


def _waiter(path: Path) -> Waiter:
    with contextlib.suppress(OSError, msgspec.MsgspecError, RecursionError):
        return msgspec.json.decode(durable.read(path, _MAX_TICKET) or b"", type=Waiter)
    return Waiter()


def sweep(layout: Layout) -> None:
    """Remove the tickets of the dead. Under the mutex only."""
    for number in set(numbers(layout)) - set(live(layout)):
        layout.ticket(number).unlink(missing_ok=True)


class Ticket:
    """A place in the queue, held until `leave` or death. Opened under the mutex only."""

    def __init__(self, layout: Layout, waiter: Waiter, served: int) -> None:
        """`served` is the highest ticket that ever got the lock: numbers never come again."""
        durable.make_folder(layout.queue)
        self.number = 1 + max(served, *numbers(layout), 0)
        self._layout = layout
        self._descriptor = durable.create(layout.ticket(self.number))
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # only who looks at it can be in the way
        durable.write_all(self._descriptor, msgspec.json.encode(waiter))
        self.ahead = len(self.before())
        self._watched: tuple[Path, ...] = ()
        self._changed = threading.Event()

    def place(self) -> int:
        return len(self.before())

    def before(self) -> list[int]:
        """The live tickets before this one, the nearest last."""
        return [number for number in live(self._layout) if number < self.number]

    def wait(self, timeout: float) -> None:
        """Return when the one before has let go, the lock's record changed, or time is up."""
        deadline = time.monotonic() + timeout
        before = self.before()
        record = probe.read_record(self._layout)
        self._watch(self._obstacles(before, record))
        while not self._changed.is_set() and (left := deadline - time.monotonic()) > 0:
            self._changed.wait(min(left, _GLANCE if not before else left))
            if not before and probe.read_record(self._layout) != record:
                return

    def leave(self) -> None:
        if self._descriptor >= 0:
            self._layout.ticket(self.number).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def _obstacles(self, before: list[int], record: probe.Record) -> tuple[Path, ...]:
        if before:
            return (self._layout.ticket(before[-1]),)
        tenure = record.record.tenure if record.record else 0
        return (self._layout.wrapper(tenure), self._layout.packer(tenure))

    def _watch(self, paths: tuple[Path, ...]) -> None:
        """Have a thread sleep in the kernel until all of `paths` are let go."""
        if paths == self._watched and not self._changed.is_set():
            return
        self._watched, self._changed = paths, threading.Event()
        thread = threading.Thread(target=_sleep_on, args=(paths, self._changed), daemon=True)
        thread.start()


def _sleep_on(paths: tuple[Path, ...], changed: threading.Event) -> None:
    for path in paths:
        with _opened(path) as descriptor:
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
    changed.set()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
