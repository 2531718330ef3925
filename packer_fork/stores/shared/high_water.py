"""The high-water mark of a shared store: the newest change that this machine has seen there.

A server that was restored from an older copy has lost acknowledged changes and knows nothing
of it. The mark lies in the local folder of the state, where no restore of the server gets.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from packer_fork import durable
from packer_fork.codec.witness import WITNESS_SIZE, Witness, decode_witness, encode_witness


class HighWaterMark:
    """One file of fixed size. Safe for threads and processes: a lost update only lowers it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Witness | None:
        """None where this machine has seen no change yet, or the file is damaged."""
        with contextlib.suppress(OSError):
            return decode_witness(durable.read(self.path, WITNESS_SIZE + 1) or b"")
        return None

    def lift(self, newest: Witness) -> None:
        """Remember a newer change, where this machine keeps a folder for the state."""
        known = self.read()
        if known is None or known.serial < newest.serial:
            with contextlib.suppress(OSError):
                durable.overwrite(self.path, encode_witness(newest))
