"""Files that a command line names."""

from __future__ import annotations

from pathlib import Path

from packer_fork import durable
from packer_fork.errors import UsageError


def read(path: Path, limit: int) -> bytes:
    """At most `limit` bytes. Raises UsageError where `path` is no plain file or not readable."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise UsageError(f"{path} is not a plain file", hint="copy it to a file and name that")
        data = durable.read(path, limit)
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", hint="check its path and permissions"
        ) from error
    if data is None:
        raise UsageError(f"there is no file {path}", hint="check the path")
    return data
