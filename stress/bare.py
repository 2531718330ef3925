"""What ours is compared with: the bare system calls, and the way of the ancestor."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packer_fork import durable


class Appender:
    """A file that is open, to which so many bytes are appended and synced at a time."""

    def __init__(self, path: Path, size: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._data = b"x" * (size - 1) + b"\n"

    def append(self) -> None:
        os.write(self._descriptor, self._data)
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def save_ancestor(path: Path, document: Mapping[str, Any], *, sync: bool) -> None:
    """All of it, indented, into a temporary file that is renamed."""
    put(path, json.dumps(document, indent=2).encode(), sync=sync)


def load_ancestor(path: Path) -> Any:
    with path.open(encoding="utf-8") as file:
        return json.load(file)


def put(path: Path, data: bytes, *, sync: bool) -> None:
    """The bare way to put bytes in the place of others."""
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
    if sync:
        durable.sync_folder(path.parent)
