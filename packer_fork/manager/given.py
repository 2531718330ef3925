"""Files that a command line names."""

from __future__ import annotations

from pathlib import Path

from packer_fork import durable
from packer_fork.errors import UsageError


def read(path: Path, limit: int) -> bytes:
    """At most `limit` bytes. Raises UsageError where that is no file, or cannot be read."""
    if path.exists() and not path.is_file():  # opening a pipe would wait for whoever writes
        raise UsageError(f"{path} is no plain file.", hint="Write it to a file and name that.")
    try:
        data = durable.read(path, limit)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    if data is None:
        raise UsageError(f"There is no file {path}.", hint="Check the path.")
    return data
