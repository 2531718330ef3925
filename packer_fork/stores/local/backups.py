"""backups/: copies of the state file, made before anything destructive and now and then.

A backup is the proven lines of the state, each a frame of zstd, so that it reads like a
state file. Its name tells serial, why, when, and the newest segment that it names, which
is kept as long as the backup is. What was damaged is copied into folders beside them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from packer_fork import durable
from packer_fork.answers import Backup
from packer_fork.codec import statefile
from packer_fork.codec.compression import compress
from packer_fork.codec.lines import Line
from packer_fork.codec.statefile import StateFile
from packer_fork.errors import StoreError
from packer_fork.stores.base import MANUAL
from packer_fork.stores.local import history
from packer_fork.stores.local.layout import Layout

_NAME = re.compile(r"(\d{12})-([a-z0-9-]+)-(\d{8}T\d{6}\d{6}Z)(?:-([0-9a-f]{16}))?\.zst")
_STAMP = "%Y%m%dT%H%M%S%fZ"


def write(layout: Layout, file: StateFile, reason: str) -> Backup:
    """Copy what is proven of `file`, and read it back. Raises OSError, StoreError."""
    durable.make_folder(layout.backups)
    stamp = datetime.now(UTC).strftime(_STAMP)
    sealed = file.state.sealed
    pin = f"-{history.pin(sealed.segment)}" if sealed else ""
    path = layout.backups / f"{file.state.serial:012d}-{reason}-{stamp}{pin}.zst"
    durable.replace(path, b"".join(compress(line.data) for line in file.lines))
    if [line.digest for line in read(path).lines] != [line.digest for line in file.lines]:
        raise StoreError(f"The backup {path} does not read back as it was written.")
    made = _described(path)
    if made is None:
        raise StoreError(f"The backup {path} is gone.")
    return made


def read(path: Path) -> StateFile:
    """Raises DamagedError, NewerFormatError, or OSError."""
    data = durable.read(path, statefile.MAX_SIZE)
    return statefile.decode_file(data or b"", str(path))


def found(layout: Layout) -> tuple[Backup, ...]:
    """All backups, the oldest first."""
    found = filter(None, (_described(layout.backups / name) for name in _names(layout)))
    return tuple(sorted(found, key=lambda each: (each.at, each.serial)))


def pinned(layout: Layout) -> frozenset[str]:
    """How the names of the segments begin that backups name."""
    matches = map(_NAME.fullmatch, _names(layout))
    return frozenset(match[4] for match in matches if match and match[4])


def rotate(layout: Layout, keep: int) -> None:
    """Remove all but the newest `keep` of those that were not asked for by name."""
    made = [each for each in found(layout) if each.reason != MANUAL]
    for each in made[: max(0, len(made) - keep)]:
        Path(each.path).unlink(missing_ok=True)


def set_aside(layout: Layout, files: Iterable[Path]) -> Path:
    """Copies of files as they are, damaged or not, in a folder of their own."""
    folder = layout.backups / f"damaged-{datetime.now(UTC).strftime(_STAMP)}"
    durable.make_folder(folder)
    for path in files:
        data = durable.read(path, statefile.MAX_SIZE)
        if data is not None:
            durable.replace(folder / path.name, data)
    return folder


def as_lines(lines: Iterable[Line], *, compressed: bool) -> bytes:
    """Lines as the bytes of a state file."""
    return b"".join(compress(line.data) if compressed else line.data for line in lines)


def _names(layout: Layout) -> list[str]:
    try:
        return [name for name in os.listdir(layout.backups) if _NAME.fullmatch(name)]  # noqa: PTH208
    except FileNotFoundError:
        return []


def _described(path: Path) -> Backup | None:
    """None if it was removed meanwhile."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(path.name)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    return Backup(
        path=str(path),
        serial=int(match[1]),
        reason=match[2],
        at=datetime.strptime(match[3], _STAMP).replace(tzinfo=UTC),
        size=size,
    )
