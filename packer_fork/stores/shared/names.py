"""The keys of one template and workspace, relative to the store's prefix for it.

    head                the one thing that a commit moves: serial, last digest, snapshot
    snapshots/S-DIGEST  a whole state, sealed
    changes/S-DIGEST    a change, sealed; more than one of a serial where a commit failed
    files/NAME          history/ and backups/, as a local store has them
    pieces/KEY/N        what is too large for one value
    lock                the lock record
    participants/N/M    hangs on the lease of participant M under token N
    queue/ID            hangs on the lease of a waiter, in the order of their making

Whatever is named after a digest or a time is written once and never changed.
"""

from __future__ import annotations

HEAD = "head"
SNAPSHOTS = "snapshots/"
CHANGES = "changes/"
FILES = "files/"
LOCK = "lock"
QUEUE = "queue/"

_DIGITS = 20


def snapshot(serial: int, digest: str) -> str:
    return f"{SNAPSHOTS}{serial:0{_DIGITS}d}-{digest}"


def change(serial: int, digest: str = "") -> str:
    """Without a digest: what the keys of that serial begin with."""
    return f"{CHANGES}{serial:0{_DIGITS}d}-{digest}"


def serial_of(key: str) -> int:
    """Of a snapshot or a change; -1 for what is not called like one."""
    text = key.partition("/")[2].partition("-")[0]
    return int(text) if text.isdecimal() else -1


def digest_of(key: str) -> str:
    return key.rpartition("-")[2]


def participant(token: int, number: int) -> str:
    return f"{participants(token)}{number}"


def participants(token: int) -> str:
    """What the keys of all participants under that token begin with."""
    return f"participants/{token}/"


def ticket(name: str) -> str:
    return f"{QUEUE}{name}"
