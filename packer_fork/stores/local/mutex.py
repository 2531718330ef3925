"""The short lock around a commit and around opening or closing a tenure.

Held for milliseconds, by kernel flock, so that it ends with its holder. Whoever
holds it for long (a stopped process, a hanging disk) is named after five seconds,
and after a minute the waiter gives up, so that nothing ever hangs on it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from packer_fork import durable

NAMED_AFTER = 5.0
"""Seconds of waiting after which the holder is named."""

GIVEN_UP_AFTER = 60.0
"""Seconds of waiting after which it is an error."""

Complain = Callable[[str], None]


@contextlib.contextmanager
def held(path: Path, complain: Complain) -> Iterator[None]:
    """Hold the mutex at `path`; threads exclude each other as processes do.

    Raises TimeoutError, an OSError, when somebody else keeps it for a minute.
    """
    descriptor = durable.create(path)
    try:
        if not _locked(descriptor):
            _wait(descriptor, path, complain)
        ours = b"%-20d" % os.getpid()
        if os.pread(descriptor, 20, 0) != ours:  # each write would weigh on the next sync
            os.pwrite(descriptor, ours, 0)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(descriptor: int, path: Path, complain: Complain) -> None:
    start = time.monotonic()
    pause, named = 0.0002, False
    while not _locked(descriptor):
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 (spreads waiters, no secret)
        pause = min(2 * pause, 0.005)
        waited = time.monotonic() - start
        if waited > NAMED_AFTER and not named:
            complain(f"Still waiting for {path}, held by {_holder(descriptor)}.")
            named = True
        if waited > GIVEN_UP_AFTER:
            why = f"its mutex is held by {_holder(descriptor)}, which should go on or be ended"
            raise TimeoutError(errno.ETIMEDOUT, why, str(path))


def _holder(descriptor: int) -> str:
    pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
    return f"process {pid}" if pid else "an unknown process"
