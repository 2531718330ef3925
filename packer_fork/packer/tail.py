"""Reading a file that somebody else is still writing."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from packer_fork.errors import StoreError

_CHUNK = 1 << 20


class Tail:
    """What is appended to the file at `path` from byte `offset` on."""

    def __init__(self, path: Path, offset: int) -> None:
        """Raises FileNotFoundError or another OSError."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = offset

    def read(self) -> bytes:
        """The next bytes, at most 1 MiB of them; empty if there are none yet.

        Raises StoreError if the file cannot be read any more.
        """
        try:
            data = os.pread(self._descriptor, _CHUNK, self._offset)
        except OSError as error:
            raise StoreError(
                f"{self._path} cannot be read: {error.strerror}.",
                hint="Packer goes on without us, and keeps the lock until it ends.",
            ) from error
        self._offset += len(data)
        return data

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
