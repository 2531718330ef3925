"""Reading the state without a lock: the witness first, then one open of the state.

So a reader sees whatever was acknowledged before it began. What was read is kept for
as long as witness and file are the same, so that one process reads a large state once.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import NamedTuple

from packer_fork import durable
from packer_fork.codec import statefile
from packer_fork.codec.statefile import StateFile
from packer_fork.codec.witness import decode_witness
from packer_fork.errors import DamagedError, StateError
from packer_fork.stores.archive.files import MAX_ACKED
from packer_fork.stores.local.layout import Layout

_ATTEMPTS = 8


class Identity(NamedTuple):
    """What tells one content of a file from another."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class _Seen(NamedTuple):
    identity: Identity
    witness: bytes | None
    file: StateFile


class Reader:
    """Safe for threads: what is kept is replaced in one step."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._kept: _Seen | None = None

    def read(self) -> StateFile | None:
        """What is proven, or None where no state was ever written.

        Raises DamagedError once two reads in a row agree on the damage.
        """
        seen: tuple[bytes | None, bytes | None] | None = None
        for attempt in range(_ATTEMPTS):
            witness = durable.read(self._layout.acked, MAX_ACKED)
            kept = self._kept
            if kept and kept.witness == witness and kept.identity == self._identity():
                return kept.file
            identity, data = self._identity(), durable.read(self._layout.state, statefile.MAX_SIZE)
            try:
                file = judge(witness, data, self._layout)
            except StateError:
                now = (witness, data and hashlib.sha256(data).digest())
                if now == seen or attempt == _ATTEMPTS - 1:
                    raise
                seen = now
            else:
                if file is not None and identity is not None and identity.size == file.end:
                    self._kept = _Seen(identity, witness, file)
                return file
            time.sleep(0.001)
        raise AssertionError

    def marks(self) -> tuple[bytes | None, Identity | None]:
        """What changes with every write: if it did not, nobody wrote meanwhile."""
        return durable.read(self._layout.acked, MAX_ACKED), self._identity()

    def _identity(self) -> Identity | None:
        try:
            return Identity.of(self._layout.state.stat())
        except FileNotFoundError:
            return None


def judge(witness_data: bytes | None, data: bytes | None, layout: Layout) -> StateFile | None:
    """What the two files prove together; raises DamagedError where they contradict."""
    witness = decode_witness(witness_data) if witness_data is not None else None
    if witness_data is not None and witness is None:
        raise DamagedError(str(layout.acked), 0, "the witness of the last change is unreadable")
    if data is None:
        if witness is None or witness.serial == 0:
            return None
        what = f"it is missing, though serial {witness.serial} was acknowledged"
        raise DamagedError(str(layout.state), 0, what)
    file = statefile.decode_file(data, str(layout.state))
    if witness is None and file.rest:
        raise DamagedError(str(layout.state), file.end, file.rest, lost="no witness tells more")
    if witness is not None and not file.reaches(witness):
        what = file.rest or "its end is not the one that was acknowledged"
        lost = f"serials after {file.state.serial} up to {witness.serial} are lost"
        if witness.serial <= file.state.serial:
            lost = f"serial {witness.serial} is not the one that was acknowledged"
        raise DamagedError(str(layout.state), file.end, what, lost=lost)
    return file
