"""A circuit breaker that all processes of one user share.

A process lives for seconds, so what it learns of a store that is away stands in a file, one
per location, read and rewritten under its flock. Five failures in a row open the circuit:
no attempt is made until a period is over, which grows from 1 s to 15 s. Then one attempt is
let through among all processes, the probe: its success closes the circuit, its failure
opens it anew, and if it never tells (its process was killed), another one may go.

Where the file cannot be had, or might be somebody else's, the breaker works for its own
process alone: it never fails, nor delays anybody, by itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from packer_fork.errors import StoreError
from packer_fork.malformed import MALFORMED
from packer_fork.stores.circuit import Circuit, Status, admit, failed, phase, remaining

PROBE_TIMEOUT = 15.0
"""Seconds after which a probe that told nothing is given up."""

_LOCK_SECONDS = 0.5
_SIZE = 4096
_LONGEST_NAME = 200

T = TypeVar("T")


class Breaker:
    """The circuit breaker of the store at `location`; safe for threads.

    Each attempt is `before`, then `succeeded` or `failed`, in one thread. `timeout`: seconds
    after which an attempt that told neither is given up, if it is the probe.
    """

    def __init__(
        self, location: str, *, folder: Path | None = None, timeout: float = PROBE_TIMEOUT
    ) -> None:
        self._location = location
        self._folder = folder or runtime_folder(os.environ)
        self._name = f"{_file_name(location)}.json"
        self._timeout = timeout
        self._alone = Circuit()
        self._mutex = threading.Lock()
        self._thread = _Thread()

    def before(self) -> None:
        """Raises StoreError if no attempt is to be made now."""
        attempt = os.urandom(8).hex()

        def step(circuit: Circuit) -> tuple[Circuit, StoreError | None]:
            now = time.time()  # under the lock: of two, the later one is later
            after, admitted = admit(circuit, now, attempt, self._timeout)
            return after, None if admitted else _away(self._location, after, now)

        refusal = self._change(step)
        if refusal is not None:
            raise refusal
        self._thread.attempt = attempt

    def succeeded(self) -> None:
        """The store answered, whatever it said."""
        self._change(lambda _: (Circuit(), None))

    def failed(self, reason: str) -> None:
        """The store did not answer, or cannot work; `reason` is fit to be shown."""
        import random

        spread = random.random()  # noqa: S311 (spreads clients, no secret)
        attempt = self._thread.attempt
        self._change(lambda before: (failed(before, time.time(), attempt, reason, spread), None))

    def state(self) -> Status:
        """How it stands now. Changes nothing."""
        circuit, now = self._look(), time.time()
        return Status(
            phase=phase(circuit, now),
            failures=circuit.failures,
            since=circuit.since,
            reason=circuit.reason,
            wait=remaining(circuit, now),
        )

    def _change(self, step: Callable[[Circuit], tuple[Circuit, T]]) -> T:
        with self._mutex:
            try:
                with _file(self._folder, self._name) as descriptor:
                    before = _read(descriptor)
                    after, result = step(before)
                    if after != before:
                        _write(descriptor, after)
            except OSError:
                after, result = step(self._alone)
            self._alone = after
        return result

    def _look(self) -> Circuit:
        with self._mutex:
            if not os.path.lexists(self._folder / self._name):
                return self._alone
            try:
                with _file(self._folder, self._name) as descriptor:
                    return _read(descriptor)
            except OSError:
                return self._alone


class _Thread(threading.local):
    """The attempt that this thread makes."""

    attempt = ""


def runtime_folder(environ: Mapping[str, str]) -> Path:
    """This user's folder for what lives no longer than the machine runs."""
    given = environ.get("XDG_RUNTIME_DIR", "")
    with contextlib.suppress(OSError):
        # Under `sudo` it may still be that of the user who called it.
        if given and Path(given).is_absolute() and Path(given).stat().st_uid == os.geteuid():
            return Path(given) / "packer-fork"
    temporary = environ.get("TMPDIR") or "/tmp"  # noqa: S108 (`_file` sees whose it is)
    return Path(temporary) / f"packer-fork-{os.geteuid()}"


def _file_name(location: str) -> str:
    name = quote(os.fsencode(location), safe="")
    if len(name) <= _LONGEST_NAME:
        return name
    import hashlib

    return f"{name[:_LONGEST_NAME]}~{hashlib.sha256(os.fsencode(location)).hexdigest()[:16]}"


@contextlib.contextmanager
def _file(folder: Path, name: str) -> Iterator[int]:
    """The file, made if missing, and its lock; OSError if it cannot be had soon, or not safely."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    with _opened(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)) as ours:
        found = os.fstat(ours)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
            raise PermissionError(errno.EPERM, "not a folder of ours alone", str(folder))
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        with _opened(os.open(name, flags, 0o600, dir_fd=ours)) as descriptor:
            _lock(descriptor)
            yield descriptor


@contextlib.contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Nobody keeps it for longer than a write, but for one that is stopped meanwhile."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while not _locked(descriptor):
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "the lock is kept")
        time.sleep(0.001)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> Circuit:
    """A new file, or a damaged one, is a closed circuit."""
    try:
        return msgspec.json.decode(os.pread(descriptor, _SIZE, 0), type=Circuit)
    except MALFORMED:
        return Circuit()


def _write(descriptor: int, circuit: Circuit) -> None:
    """Of fixed size and within one page, so that no kill leaves half of it."""
    data = msgspec.json.encode(circuit).ljust(_SIZE)
    if os.pwrite(descriptor, data, 0) != _SIZE:
        raise OSError(errno.EIO, "short write")


def _away(location: str, circuit: Circuit, now: float) -> StoreError:
    since = datetime.fromtimestamp(circuit.since, UTC)
    return StoreError(
        f"{location} is taken as away: {circuit.failures} failures since"
        f" {since:%Y-%m-%d %H:%M:%S} UTC, next try in {math.ceil(remaining(circuit, now))} s.",
        hint=f"The last one: {circuit.reason}" if circuit.reason else "",
    )
