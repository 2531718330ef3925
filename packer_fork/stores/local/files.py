"""What is stored in a folder, by the names that it has in every store."""

from __future__ import annotations

import os
from pathlib import Path

from packer_fork import durable


class LocalFiles:
    """Implements ``stores.archive.files.Files``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def location(self) -> str:
        return str(self.folder)

    def where(self, name: str) -> str:
        return str(self.folder / name)

    def read(self, name: str, limit: int) -> bytes | None:
        return durable.read(self.folder / name, limit)

    def size(self, name: str) -> int | None:
        try:
            return (self.folder / name).stat().st_size
        except FileNotFoundError:
            return None

    def replace(self, name: str, data: bytes) -> None:
        path = self.folder / name
        durable.make_folder(path.parent)
        durable.replace(path, data)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        try:
            return os.listdir(self.folder / folder)  # noqa: PTH208 (on every compaction)
        except FileNotFoundError:
            return []
