"""The short lock around a commit and around opening or closing a lock.

Held for milliseconds, by kernel flock, so that it ends with its holder. Whoever
holds it for long (a stopped process, a hanging disk) is named after five seconds,
and after a minute the waiter gives up, so that nothing ever hangs on it.

One waiter alone looks whether it is free again: the one that holds the lock on the
turnstile, and has marked the mutex. Whoever gives the mutex up and wants it again at once
sees the mark and comes behind that one, so that nobody is passed for ever.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from packer_fork import durable

NAMED_AFTER = 5.0
"""Seconds of waiting after which the holder is named."""

GIVEN_UP_AFTER = 60.0
"""Seconds of waiting after which it is an error."""

_MARK, _WAITED_FOR = 20, b"w"
"""Where the mark stands, behind the pid, and what it is."""

Complain = Callable[[str], None]

_waiting: set[_Patience] = set()
"""Of the threads of this process: the more they are, the more rarely each of them looks, since
they share one interpreter with the one that they wait for.
"""

os.register_at_fork(after_in_child=_waiting.clear)


@contextlib.contextmanager
def held(path: Path, complain: Complain) -> Iterator[None]:
    """Hold the mutex at `path`; threads exclude each other as processes do.

    Raises TimeoutError, an OSError, when somebody else keeps it for a minute.
    """
    descriptor = durable.create(path)
    try:
        if not _locked(descriptor) or _passes_somebody(descriptor, path):
            _wait(descriptor, path, complain)
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def turnstile(path: Path) -> Path:
    """What goes before the mutex at `path`."""
    return path.with_name(f"{path.name}.turn")


def _passes_somebody(descriptor: int, path: Path) -> bool:
    """Whether somebody waits already; then the mutex is let go. A dead waiter's mark is removed."""
    if os.pread(descriptor, 1, _MARK) != _WAITED_FOR:
        return False
    turn = durable.create(turnstile(path))
    try:
        is_waited_for = not _locked(turn)
    finally:
        os.close(turn)
    if is_waited_for:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    else:
        os.pwrite(descriptor, b" ", _MARK)
    return is_waited_for


def _wait(descriptor: int, path: Path, complain: Complain) -> None:
    patience = _Patience(complain)
    turn = durable.create(turnstile(path))
    _waiting.add(patience)
    try:
        patience.until_locked(turn, turnstile(path))
        _sign(turn)
        os.pwrite(descriptor, _WAITED_FOR, _MARK)
        patience.until_locked(descriptor, path)
        os.pwrite(descriptor, b" ", _MARK)
    finally:
        _waiting.discard(patience)
        os.close(turn)


def _sign(descriptor: int) -> None:
    """Say who holds it. Not if that stands there: each write would weigh on the next sync."""
    ours = b"%-20d" % os.getpid()
    if os.pread(descriptor, 20, 0) != ours:
        os.pwrite(descriptor, ours, 0)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Patience:
    """One waiter's patience, with turnstile and mutex together."""

    def __init__(self, complain: Complain) -> None:
        self._complain = complain
        self._start = time.monotonic()
        self._named = False

    def until_locked(self, descriptor: int, path: Path) -> None:
        import random

        pause = 0.0002
        while not _locked(descriptor):
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 (spreads waiters, no secret)
            waited = time.monotonic() - self._start
            pause = min(2 * pause, 0.005 * max(1, len(_waiting) / 10))
            if waited > NAMED_AFTER and not self._named:
                self._complain(f"Still waiting for {path}, held by {_holder(descriptor)}.")
                self._named = True
            if waited > GIVEN_UP_AFTER:
                why = f"its mutex is held by {_holder(descriptor)}, which should go on or be ended"
                raise TimeoutError(errno.ETIMEDOUT, why, str(path))


def _holder(descriptor: int) -> str:
    pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
    return f"process {pid}" if pid else "an unknown process"
