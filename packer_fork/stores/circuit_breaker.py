"""A circuit breaker that all processes of one user share.

A process lives for seconds, so the circuit is kept in a file, one per location, read and
rewritten under its flock. Five failures in a row open the circuit: no attempt is made until a
period is over, which grows from 1 s to 15 s. Then one attempt of all processes is admitted, the
probe: its success closes the circuit, its failure opens it again, and if it reports nothing
(its process was killed), another one is admitted.

If the file cannot be used, or may belong to another user, the breaker works for its own
process alone: it never fails or delays a caller.
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
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from packer_fork.errors import StoreError
from packer_fork.malformed import MALFORMED
from packer_fork.terminal import clean

THRESHOLD = 5
"""Failures in a row that open the circuit."""

LONGEST = 15.0
"""Seconds without an attempt at most, even if the clock is set back."""

PROBE_TIMEOUT = 15.0
"""Seconds after which a probe that reported nothing is given up."""

_MOST_REASON = 500
_YEAR_3000 = 32503680000
_LOCK_SECONDS = 0.5
_FILE_SIZE = 4096
_LONGEST_NAME = 200

T = TypeVar("T")


class Phase(StrEnum):
    """Closed: attempts are made. Open: none. Half-open: one is due, or under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Circuit(Struct, frozen=True, omit_defaults=True):
    """The content of the file. Times are seconds since the epoch.

    ``failures`` in a row; ``since`` is the time of the first, ``reason`` that of the last.
    The next attempt is admitted at ``again``. ``probe`` is the id of the one admitted until then.
    """

    failures: Annotated[int, Meta(ge=0)] = 0
    since: Annotated[float, Meta(ge=0, le=_YEAR_3000)] = 0.0
    reason: str = ""
    again: float = 0.0
    probe: str = ""


class Status(Struct, frozen=True):
    """The breaker as shown to users; ``wait``: seconds until an attempt is admitted."""

    phase: Phase
    failures: int
    since: float
    reason: str
    wait: float

    def __str__(self) -> str:
        if self.phase is Phase.CLOSED:
            return str(self.phase)
        since = datetime.fromtimestamp(self.since, UTC)
        next_try = f"next try in {math.ceil(self.wait)} s" if self.wait else "a try is due"
        return (
            f"{self.phase} ({self.failures} failures since {since:%Y-%m-%d %H:%M:%S} UTC, "
            f"{next_try}; the last one: {self.reason})"
        )


def remaining(circuit: Circuit, now: float) -> float:
    """Seconds until an attempt is admitted. A time too far ahead means the clock was set back."""
    wait = circuit.again - now
    return wait if circuit.failures >= THRESHOLD and 0 < wait <= LONGEST else 0.0


def phase(circuit: Circuit, now: float) -> Phase:
    if circuit.failures < THRESHOLD:
        return Phase.CLOSED
    is_due = bool(circuit.probe) or remaining(circuit, now) == 0
    return Phase.HALF_OPEN if is_due else Phase.OPEN


def admit(circuit: Circuit, now: float, attempt: str, timeout: float) -> tuple[Circuit, bool]:
    """Whether `attempt` is admitted; a probe has `timeout` seconds."""
    if circuit.failures < THRESHOLD:
        return circuit, True
    if remaining(circuit, now) > 0:
        return circuit, False
    return replace(circuit, probe=attempt, again=now + min(timeout, LONGEST)), True


def failed(circuit: Circuit, now: float, attempt: str, reason: str, spread: float) -> Circuit:
    """The circuit after `attempt` failed; `spread`, from 0 to 1, spreads the clients.

    The failure of an attempt from before the circuit opened, or of a probe that was given up,
    changes nothing.
    """
    if circuit.failures >= THRESHOLD and circuit.probe != attempt:
        return circuit
    failures = circuit.failures + 1
    return Circuit(
        failures=failures,
        since=circuit.since if circuit.failures else now,
        reason=clean(reason)[:_MOST_REASON],
        again=now + period(failures, spread),
    )


def period(failures: int, spread: float) -> float:
    """Seconds without an attempt after so many failures: doubled each time, less up to half."""
    if failures < THRESHOLD:
        return 0.0
    return min(LONGEST, 2.0 ** min(failures - THRESHOLD, 4)) * (1 - spread / 2)


class CircuitBreaker:
    """The circuit breaker of the store at `location`; safe for threads.

    A thread calls `before` ahead of each attempt, then `succeeded` or `failed`. `timeout`:
    seconds after which a probe that reported neither is given up.
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
        """Raises StoreError if no attempt may be made now."""
        attempt = os.urandom(8).hex()

        def step(circuit: Circuit) -> tuple[Circuit, StoreError | None]:
            now = time.time()  # under the lock, so that times are in order
            after, admitted = admit(circuit, now, attempt, self._timeout)
            return after, None if admitted else _away(self._location, after, now)

        refusal = self._change(step)
        if refusal is not None:
            raise refusal
        self._thread.attempt = attempt

    def succeeded(self) -> None:
        """Report a response of the store, of any kind."""
        self._change(lambda _: (Circuit(), None))

    def failed(self, reason: str) -> None:
        """Report that the store did not respond, or cannot work; `reason` is for users."""
        import random

        spread = random.random()  # noqa: S311 (spreads clients, no secret)
        attempt = self._thread.attempt
        self._change(lambda before: (failed(before, time.time(), attempt, reason, spread), None))

    def state(self) -> Status:
        """The state of the breaker. Changes nothing."""
        circuit, now = self._current(), time.time()
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

    def _current(self) -> Circuit:
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
    """This user's folder for files that need not survive a reboot."""
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
    """The file, created if missing, and locked. Raises OSError if it is unsafe or stays locked."""
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
    """Only a process that is stopped holds the lock for longer than a write takes."""
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
    """A new or damaged file is a closed circuit."""
    try:
        return msgspec.json.decode(os.pread(descriptor, _FILE_SIZE, 0), type=Circuit)
    except MALFORMED:
        return Circuit()


def _write(descriptor: int, circuit: Circuit) -> None:
    """Of a fixed size within one page, so that no kill leaves half of it."""
    data = msgspec.json.encode(circuit).ljust(_FILE_SIZE)
    if os.pwrite(descriptor, data, 0) != _FILE_SIZE:
        raise OSError(errno.EIO, "short write")


def _away(location: str, circuit: Circuit, now: float) -> StoreError:
    since = datetime.fromtimestamp(circuit.since, UTC)
    return StoreError(
        f"{location} is taken as away: {circuit.failures} failures since"
        f" {since:%Y-%m-%d %H:%M:%S} UTC, next try in {math.ceil(remaining(circuit, now))} s.",
        hint=f"The last one: {circuit.reason}" if circuit.reason else "",
    )
