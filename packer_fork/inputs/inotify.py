"""The kernel's inotify(7), through ctypes: events of the names in watched folders. Linux only."""

from __future__ import annotations

import ctypes
import os
import struct

MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
CLOSE_NOWRITE = 0x10
OPEN = 0x20
MOVED_TO = 0x80
CREATE = 0x100
OVERFLOW = 0x4000
IGNORED = 0x8000
ONLY_DIRECTORIES = 0x1000000
DONT_FOLLOW = 0x2000000
DIRECTORY = 0x40000000

_HEADER = struct.Struct("iIII")
_BUFFER = 256 << 10

Event = tuple[int, int, str]
"""Watch descriptor (-1 for an overflow), mask, and name; "" is the watched folder itself."""


class Inotify:
    """One queue of events. Every method but `close` raises OSError."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._add_watch = library.inotify_add_watch
        self._add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        self._descriptor = _checked(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, folder: str, mask: int) -> int:
        """The watch descriptor of `folder`; ENOSPC means that no more are allowed."""
        flags = mask | ONLY_DIRECTORIES | DONT_FOLLOW
        return _checked(self._add_watch(self._descriptor, os.fsencode(folder), flags))

    def read(self) -> list[Event]:
        """What is queued now, as far as it fits one buffer; empty if nothing is."""
        try:
            data = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return []
        events, offset = list[Event](), 0
        while offset < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + length].rstrip(b"\0")
            offset += length
            events.append((watch, mask, os.fsdecode(name)))
        return events

    def close(self) -> None:
        os.close(self._descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
