"""Digests of files, remembered from one command to the next.

A digest is used again only if size, mtime, ctime and inode are what they were, and
was remembered only if both times lay two seconds back when the file was hashed: a
write within the granularity of a clock is never overlooked. What cannot be decoded
is forgotten.

Reading a file is an open that an observation of Packer must not count: see `Opens`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from packer_fork import durable
from packer_fork.malformed import MALFORMED

_SETTLED_NS = 2_000_000_000
_MAX_BYTES = 256 << 20
_CHUNK = 1 << 20
_EVERY = 1.0
"""Seconds of hashing between two reports of progress; none before the first second is over."""

Signature = tuple[int, int, int, int]
"""Size, mtime, ctime (both in nanoseconds) and inode."""

Known = tuple[int, int, int, int, str]
"""A signature, and the SHA-256 of what the file held then."""


class Opens(Struct, frozen=True):
    """Called with the path right after this process has opened, and closed, a file to read it."""

    opened: Callable[[str], None] = lambda _: None
    closed: Callable[[str], None] = lambda _: None


UNOBSERVED = Opens()


class Progress(Struct, frozen=True):
    """Of hashing: bytes that are hashed, bytes in all as far as is known, seconds that it took."""

    done: int
    total: int
    seconds: float


class DigestCache:
    """SHA-256 by absolute path, kept in the file `path`, or for this process if None."""

    def __init__(
        self, path: Path | None, progress: Callable[[Progress], object] = lambda _: None
    ) -> None:
        self._meter = _Meter(progress)
        self.opens = UNOBSERVED
        self.hashed: dict[str, Known] = {}
        """What each file was when it was asked for last."""
        self._path = path
        self._known = _load(path) if path else {}
        self._used: dict[str, Known] = {}

    def digest(self, path: str) -> str:
        """SHA-256 of a regular file, read as a stream if need be. Raises OSError."""
        known = self._used.get(path) or self._known.get(path)
        if known and known[:4] == signature(os.stat(path)):  # noqa: PTH116 (a hot loop)
            self._used[path] = self.hashed[path] = known
            return known[4]
        return self._read(path)

    def ahead(self, paths: Sequence[str]) -> None:
        """`paths` are asked for next: so progress can say how much is left."""
        self._meter.expect(lambda: sum(map(self._unread, paths)))

    def _unread(self, path: str) -> int:
        """Bytes of a file that is still to be hashed."""
        if path in self.hashed:
            return 0
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError:
            return 0
        known = self._known.get(path)
        return 0 if known and known[:4] == signature(status) else status.st_size

    def is_settled(self, path: str) -> bool:
        """Whether the digest that was given last holds until the signature changes."""
        return path in self._used

    def _read(self, path: str) -> str:
        with open(path, "rb", opener=nonblocking) as file:
            self.opens.opened(path)
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise OSError(f"{path} is no regular file any more")
            began = time.time_ns()
            digest = self._meter.digest(file, before.st_size)
            after = os.fstat(file.fileno())
        self.opens.closed(path)
        settled = max(before.st_mtime_ns, before.st_ctime_ns) < began - _SETTLED_NS
        self.hashed[path] = (*signature(before), digest)
        if settled and signature(before) == signature(after):
            self._used[path] = self.hashed[path]
        return digest

    def save(self) -> None:
        """Keep what was used; a cache that cannot be written is done without."""
        if self._path and self._used != self._known:
            with contextlib.suppress(OSError, UnicodeEncodeError):
                durable.replace(self._path, msgspec.json.encode(self._used), durable=False)


class _Meter:
    """Hashes, and reports how far that is."""

    def __init__(self, progress: Callable[[Progress], object]) -> None:
        self._ahead: Callable[[], int] = lambda: 0
        self._progress = progress
        self._done = 0
        self._total = 0
        self._seconds = 0.0
        self._reported = 0.0

    def expect(self, ahead: Callable[[], int]) -> None:
        """`ahead` tells how many bytes have yet to be hashed, none of the file under way read."""
        self._ahead, self._total = ahead, 0

    def digest(self, file: BinaryIO, size: int) -> str:
        digest = hashlib.sha256()
        read, last = 0, time.monotonic()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            read += len(chunk)
            self._done += len(chunk)
            now = time.monotonic()
            self._seconds += now - last
            last = now
            if self._seconds - self._reported >= _EVERY:
                self._report(size, size - read)
        return digest.hexdigest()

    def _report(self, size: int, left: int) -> None:
        """Of the file under way, `left` bytes of `size` have yet to be read."""
        self._reported = self._seconds
        if self._done + left > self._total:
            self._total = self._done + max(left, self._ahead() - (size - left))
        self._progress(Progress(self._done, self._total, self._seconds))


def nonblocking(path: str, flags: int) -> int:
    """An opener that a pipe without a writer does not hold up."""
    return os.open(path, flags | os.O_NONBLOCK)


def signature(status: os.stat_result) -> Signature:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _load(path: Path) -> dict[str, Known]:
    try:
        data = durable.read(path, _MAX_BYTES)
        return msgspec.json.decode(data, type=dict[str, Known]) if data else {}
    except (OSError, *MALFORMED):
        return {}
