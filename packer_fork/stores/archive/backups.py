"""backups/: copies of the state file, made before anything destructive and on schedule.

A backup holds the proven lines of the state, each a frame of zstd, so that it reads like a
state file. Its name has serial, reason, time, and the newest segment that it names, which
is kept as long as the backup is. Damaged files are copied into folders beside the backups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import PurePosixPath

from packer_fork.codec import statefile
from packer_fork.codec.compression import compress
from packer_fork.codec.lines import Line
from packer_fork.codec.statefile import StateFile
from packer_fork.errors import StoreError
from packer_fork.responses import Backup
from packer_fork.stores.archive import history
from packer_fork.stores.archive.files import BACKUPS, Files
from packer_fork.stores.base import MANUAL

_NAME = re.compile(r"(\d{12})-([a-z0-9-]+)-(\d{8}T\d{6}\d{6}Z)(?:-([0-9a-f]{16}))?\.zst")
_STAMP = "%Y%m%dT%H%M%S%fZ"


def write(files: Files, file: StateFile, reason: str) -> Backup:
    """Copy what is proven of `file`, and read it back. Raises OSError, StoreError."""
    stamp = datetime.now(UTC).strftime(_STAMP)
    sealed = file.state.sealed
    pin = f"-{history.pin(sealed.segment)}" if sealed else ""
    name = f"{file.state.serial:012d}-{reason}-{stamp}{pin}.zst"
    files.replace(f"{BACKUPS}/{name}", b"".join(compress(line.data) for line in file.lines))
    if [line.digest for line in read(files, name).lines] != [line.digest for line in file.lines]:
        raise StoreError(f"The backup {where(files, name)} does not read back as it was written.")
    made = _describe(files, name)
    if made is None:
        raise StoreError(f"The backup {where(files, name)} is gone.")
    return made


def read(files: Files, name: str) -> StateFile:
    """Raises DamagedError, NewerFormatError, or OSError."""
    data = files.read(f"{BACKUPS}/{name}", statefile.MAX_SIZE)
    return statefile.decode_file(data or b"", where(files, name))


def where(files: Files, name: str) -> str:
    """The backup for messages."""
    return files.where(f"{BACKUPS}/{name}")


def found(files: Files) -> tuple[Backup, ...]:
    """All backups, the oldest first."""
    described = filter(None, (_describe(files, name) for name in _names(files)))
    return tuple(sorted(described, key=lambda each: (each.at, each.serial)))


def bytes_of(files: Files, path: str) -> bytes | None:
    """The undecoded backup at `path`; None if there is none."""
    name = next((name for name in _names(files) if where(files, name) == path), None)
    return None if name is None else files.read(f"{BACKUPS}/{name}", statefile.MAX_SIZE)


def pinned(files: Files) -> frozenset[str]:
    """The beginnings of the segment names that backups hold."""
    matches = map(_NAME.fullmatch, _names(files))
    return frozenset(match[4] for match in matches if match and match[4])


def rotate(files: Files, keep: int) -> None:
    """Remove all automatic backups but the newest `keep`."""
    made = [each for each in found(files) if each.reason != MANUAL]
    for each in made[: max(0, len(made) - keep)]:
        files.remove(f"{BACKUPS}/{name_of(each)}")


def set_aside(files: Files, names: Iterable[str]) -> str:
    """Copy files, damaged or not, to a new folder; returns its location."""
    folder = f"{BACKUPS}/damaged-{datetime.now(UTC).strftime(_STAMP)}"
    for name in names:
        data = files.read(name, statefile.MAX_SIZE)
        if data is not None:
            files.replace(f"{folder}/{PurePosixPath(name).name}", data)
    return files.where(folder)


def as_lines(lines: Iterable[Line], *, compressed: bool) -> bytes:
    """Lines as the bytes of a state file."""
    return b"".join(compress(line.data) if compressed else line.data for line in lines)


def name_of(backup: Backup) -> str:
    """The last part of its path."""
    return PurePosixPath(backup.path).name


def _names(files: Files) -> list[str]:
    """The backups' names, in no order."""
    return [name for name in files.names(BACKUPS) if _NAME.fullmatch(name)]


def _describe(files: Files, name: str) -> Backup | None:
    """None if somebody removed it meanwhile."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(name)
    size = files.size(f"{BACKUPS}/{name}")
    if size is None:
        return None
    return Backup(
        path=where(files, name),
        serial=int(match[1]),
        reason=match[2],
        at=datetime.strptime(match[3], _STAMP).replace(tzinfo=UTC),
        size=size,
    )
