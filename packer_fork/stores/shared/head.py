"""The head: where the state is by now. A commit moves it, and nothing else does."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from packer_fork.codec.witness import Witness
from packer_fork.errors import DamagedError, NewerFormatError
from packer_fork.malformed import MALFORMED
from packer_fork.stores.shared import names
from packer_fork.stores.shared.keys import Item

VERSION = 1

_MAX = 64 << 10


class Head(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``serial`` and ``digest`` are those of the last change; ``first`` and ``snapshot`` those
    of the state that the changes begin with; ``token`` is the one that wrote last.
    """

    version: int = VERSION
    serial: int
    digest: str
    first: int
    snapshot: str
    token: int

    @property
    def witness(self) -> Witness:
        return Witness(self.serial, self.digest)

    @property
    def snapshot_key(self) -> str:
        return names.snapshot(self.first, self.snapshot)


class _Versioned(Struct, frozen=True):
    version: int = 0


def encode(head: Head) -> bytes:
    return msgspec.json.encode(head)


def decode(item: Item, where: str) -> Head:
    """Raises DamagedError, or NewerFormatError where a newer packer-fork wrote it."""
    data = item.value[:_MAX]
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version > VERSION:
            raise NewerFormatError(where, version, VERSION)
        return msgspec.json.decode(data, type=Head)
    except MALFORMED as error:
        raise DamagedError(where, 0, f"the head of the state is unreadable ({error})") from error
