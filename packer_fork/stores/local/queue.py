"""Waiting for the local lock, first come first served.

A waiter holds the kernel lock on a ticket of its own, numbered under the mutex,
and sleeps in the kernel until the ticket before it, or the lock, is released: by
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
from msgspec import Struct

from packer_fork import durable
from packer_fork.locks import Waiter
from packer_fork.malformed import MALFORMED
from packer_fork.stores.local import lock_status
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.lock_record import Found

_GLANCE = 0.1
"""Seconds between looks at the lock's record: force-unlock frees it under a living holder."""

_MAX_TICKET = 1 << 20


def numbers(layout: Layout) -> list[int]:
    """All tickets, dead ones included, in the order of arrival."""
    with contextlib.suppress(FileNotFoundError):
        names = os.listdir(layout.queue)  # noqa: PTH208 (on every acquisition)
        return sorted(int(name) for name in names if name.isdecimal())
    return []


def is_live(layout: Layout, number: int) -> bool:
    return bool(lock_status.is_busy(layout.ticket(number)))


def is_empty(layout: Layout) -> bool:
    return not any(is_live(layout, number) for number in numbers(layout))


def live(layout: Layout) -> list[int]:
    """The tickets whose owners live, in the order of arrival."""
    return [number for number in numbers(layout) if is_live(layout, number)]


def waiters(layout: Layout) -> tuple[Waiter, ...]:
    """Who waits, in the order of arrival; a ticket that cannot be read still counts."""
    return tuple(_waiter(layout.ticket(number)) for number in live(layout))


def _waiter(path: Path) -> Waiter:
    with contextlib.suppress(OSError, *MALFORMED):
        return msgspec.json.decode(durable.read(path, _MAX_TICKET) or b"", type=Waiter)
    return Waiter()


def sweep(layout: Layout, before: int | None) -> None:
    """Remove the tickets `before` one, or all. For who found them dead, under the mutex."""
    for number in numbers(layout):
        if before is None or number < before:
            layout.ticket(number).unlink(missing_ok=True)


class _Situation(Struct, frozen=True):
    """What a waiter waits for: the ticket before it, or the lock as its record tells."""

    before: int | None
    record: Found


class Ticket:
    """A place in the queue, held until `leave` or death. Opened under the mutex only."""

    look = 1.0

    def __init__(self, layout: Layout, waiter: Waiter, served: int) -> None:
        """`served` is the highest ticket that ever got the lock: numbers never come again."""
        durable.make_folder(layout.queue)
        self.number = 1 + max(served, *numbers(layout), 0)
        self.ahead = 0
        self._layout = layout
        self._watched: tuple[Path, ...] = ()
        self._changed = threading.Event()
        self._woken_by: _Situation | None = None
        self._descriptor = durable.create(layout.ticket(self.number))
        with self._unless_failed():
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # only who looks at it can be in the way
            durable.write_all(self._descriptor, msgspec.json.encode(waiter))

    def arrive(self) -> None:
        """Count who is ahead; not under the mutex, as it takes longer the more there are."""
        with self._unless_failed():
            self.ahead = self.place()

    def place(self) -> int:
        return sum(is_live(self._layout, number) for number in self._earlier())

    def before(self) -> int | None:
        """The nearest live ticket before this one; all but that one need not be looked at."""
        earlier = reversed(self._earlier())
        return next((number for number in earlier if is_live(self._layout, number)), None)

    def wait(self, timeout: float) -> None:
        """Return when the one before has let go, the lock's record changed, or time is up.

        A situation wakes us but once: who was woken by a lock that nobody holds, and
        did not want it so (abandoned, unknown), sleeps until its record changes.
        """
        deadline = time.monotonic() + timeout
        situation = _Situation(self.before(), lock_status.read_record(self._layout))
        if situation != self._woken_by:
            self._watch(self._obstacles(situation))
        changed = self._changed if situation != self._woken_by else threading.Event()
        is_first = situation.before is None
        while not changed.is_set() and (left := deadline - time.monotonic()) > 0:
            changed.wait(min(left, _GLANCE) if is_first else left)
            if is_first and lock_status.read_record(self._layout) != situation.record:
                return
        if changed.is_set():
            self._woken_by = situation

    def leave(self) -> None:
        if self._descriptor >= 0:
            try:
                self._layout.ticket(self.number).unlink(missing_ok=True)
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    @contextlib.contextmanager
    def _unless_failed(self) -> Iterator[None]:
        """Whoever does not come in must not be waited for while its process lives on."""
        try:
            yield
        except BaseException:
            self.leave()
            raise

    def _earlier(self) -> list[int]:
        return [number for number in numbers(self._layout) if number < self.number]

    def _obstacles(self, situation: _Situation) -> tuple[Path, ...]:
        if situation.before is not None:
            return (self._layout.ticket(situation.before),)
        record = situation.record.record
        return self._layout.files_of(record.token) if record else ()

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
