"""The files of a stored state, by names that are the same in every store.

state.json          snapshot, then one line per change
acked               high-water mark: serial and digest of the last acknowledged change
history/SHA256.zst  sealed segments
backups/            copies of the state, and folders of damaged files
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from packer_fork.codec.statefile import StateFile
    from packer_fork.model import State

STATE = "state.json"
ACKED = "acked"
HISTORY = "history"
BACKUPS = "backups"

MAX_ACKED = 4096
"""Bytes that any high-water mark fits into."""

ATTEMPTS = 20
"""How often a reader of everything starts again because of a writer."""


class Files(Protocol):
    """Files by name. Raises OSError where a disk fails, StoreError where servers do."""

    @property
    def location(self) -> str:
        """What they all are in, for messages."""

    def where(self, name: str) -> str:
        """A file for messages: its path or URL."""

    def read(self, name: str, limit: int) -> bytes | None:
        """At most `limit` bytes from the beginning; None if there is no such file."""

    def size(self, name: str) -> int | None:
        """Bytes as stored; None if there is no such file."""

    def replace(self, name: str, data: bytes) -> None:
        """Durable when this returns; readers see the old bytes or the new ones."""

    def remove(self, name: str) -> None:
        """Does nothing if there is no such file."""

    def names(self, folder: str) -> list[str]:
        """What is in a folder, its name not included, in no order."""


class Reader(Protocol):
    """The state as it is proven now."""

    def read(self) -> StateFile | None:
        """None where there is no state. Raises DamagedError or NewerFormatError."""

    def marks(self) -> Hashable:
        """A value that changes with every write."""


class Journal(Reader, Protocol):
    """A state that can be replaced as a whole."""

    def put(self, state: State) -> None:
        """In the place of one that is missing, or damaged and kept by then.

        Its serial must be beyond every one that was acknowledged.
        """


def segment(name: str) -> str:
    """The file of a segment."""
    return f"{HISTORY}/{name}.zst"
