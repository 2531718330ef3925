"""Disk space reserved behind the end of a file, so that a full disk leaves room to end in order.

A file system without free space refuses every new block, but takes what is appended within
blocks that a file has already. On Linux ``fallocate(2)`` with ``FALLOC_FL_KEEP_SIZE``
allocates such blocks and leaves the size of the file as it is. Where a file system does not
support that, its free space is compared with what would be reserved.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable

RESERVE = 1 << 20
"""Bytes to reserve."""

SMALLEST_RESERVE = 64 << 10
"""Bytes that are reserved at the least; the disk counts as full if it has not even these."""

_KEEP_SIZE = 0x01
_FULL = {errno.ENOSPC, errno.EDQUOT}


class DiskReserve:
    """The reserve of one file that is open for writing. Belongs to one thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._end = 0
        self._size = RESERVE

    def top_up(self) -> bool:
        """Reserve anew if less than half is left; False if the disk is full.

        A disk with little free space gives a smaller reserve from the start. True as well if
        the file cannot be examined: whoever writes to it gets the error.
        """
        try:
            return self._top_up(os.fstat(self._descriptor).st_size)
        except OSError:
            return True

    def _top_up(self, size: int) -> bool:
        if self._end - size >= self._size // 2:
            return True
        while not _has_room(self._descriptor, size, self._size):
            if self._end or self._size <= SMALLEST_RESERVE:
                return False
            self._size //= 2
        self._end = size + self._size
        return True

    def release(self) -> None:
        """Give back what is left of the reserve. Nobody may append to the file meanwhile."""
        if self._end:
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size)
            self._end = 0


def _has_room(descriptor: int, offset: int, length: int) -> bool:
    try:
        _fallocate()(descriptor, _KEEP_SIZE, offset, length)
    except OSError as error:
        if error.errno in _FULL:
            return False
        free = os.fstatvfs(descriptor)
        return free.f_bavail * free.f_frsize >= length
    return True


@functools.cache
def _fallocate() -> Callable[[int, int, int, int], None]:
    """Raises OSError when it is called, also where the system has no such function."""
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if call is None:
        return _unsupported
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

    def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
        if call(descriptor, mode, offset, length) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return fallocate


def _unsupported(*_: int) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
