"""What is stored under a prefix, by the names that it has in every store."""

from __future__ import annotations

from packer_fork.codec.witness import encode_witness
from packer_fork.errors import DamagedError
from packer_fork.stores.archive.files import ACKED, STATE
from packer_fork.stores.shared import blobs, head
from packer_fork.stores.shared.keys import Keys
from packer_fork.stores.shared.names import FILES, HEAD
from packer_fork.stores.shared.reader import SharedReader


class SharedFiles:
    """Implements ``stores.archive.files.Files``.

    The state file is every line that is stored, the witness is what the head says.
    """

    def __init__(self, keys: Keys, reader: SharedReader) -> None:
        self._keys = keys
        self._reader = reader

    @property
    def location(self) -> str:
        return self._keys.location

    def where(self, name: str) -> str:
        return self._reader.where(HEAD if name in (STATE, ACKED) else f"{FILES}{name}")

    def read(self, name: str, limit: int) -> bytes | None:
        if name == STATE:
            data = self._reader.stored()
            return None if data is None else data[:limit]
        if name == ACKED:
            return self._witness()
        return blobs.read(self._keys, f"{FILES}{name}", limit)

    def size(self, name: str) -> int | None:
        if name in (STATE, ACKED):
            data = self._reader.stored() if name == STATE else self._witness()
            return None if data is None else len(data)
        return blobs.size(self._keys, f"{FILES}{name}")

    def replace(self, name: str, data: bytes) -> None:
        blobs.write(self._keys, f"{FILES}{name}", data, packed=False)

    def remove(self, name: str) -> None:
        blobs.remove(self._keys, [f"{FILES}{name}"])

    def names(self, folder: str) -> list[str]:
        prefix = f"{FILES}{folder}/"
        return [key.removeprefix(prefix) for key in self._keys.names(prefix)]

    def _witness(self) -> bytes | None:
        """Of the head, or of a newer change that this machine has seen."""
        item, mark = self._keys.get(HEAD), self._reader.mark.read()
        if item is None:
            return encode_witness(mark) if mark else None
        try:
            found = head.decode(item, self.where(ACKED)).witness
        except DamagedError:
            return item.value
        return encode_witness(mark if mark and mark.serial > found.serial else found)
