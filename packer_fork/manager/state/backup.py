"""Backups: among the store's own files, or in one file that holds the whole history.

Such a file is a tar: ``state.json``, a snapshot in a frame of zstd, and ``history/NAME.zst``,
its segments, the newest first.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from msgspec import structs

from packer_fork import durable
from packer_fork.changes import apply_changes
from packer_fork.codec.compression import compress
from packer_fork.codec.lines import seal
from packer_fork.codec.segment import decode_unnamed, encode_segment
from packer_fork.codec.statefile import MAX_SIZE, StateFile, decode_file
from packer_fork.errors import DamagedError, StateError, StoreError, UsageError
from packer_fork.events import Notify
from packer_fork.manager.state import user_file
from packer_fork.manager.state.operation import Operation, under_lock
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import State
from packer_fork.responses import Backup
from packer_fork.stores.base import MANUAL, SegmentContents

_STATE = "state.json"
_HISTORY = "history/"
_ATTEMPTS = 5
_HEADER, _MAGIC = 512, 257


def in_store(ref: StateRef, notify: Notify, *, environ: Mapping[str, str]) -> Backup:
    """A copy of the state among the store's files; it stays until somebody removes it."""
    operation = Operation(name="backup", words=("state", "backup"), environ=environ)
    with under_lock(ref, operation, notify) as lock:
        return lock.backup(MANUAL, keep=ref.settings.keep_backups)


def in_file(ref: StateRef, path: Path) -> Backup:
    """State and history in one new file, read back. Takes no lock.

    Raises UsageError if it cannot be written, StateError if there is nothing to back up.
    """
    if path.exists():
        raise _exists(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        state = _write(temporary, ref)
        _check(temporary, state)
        os.link(temporary, path)
        durable.sync_folder(path.parent)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", hint="check the folder and its permissions"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return Backup(
        path=str(path),
        serial=state.serial,
        reason=MANUAL,
        at=datetime.now(UTC),
        size=path.stat().st_size,
    )


def _exists(path: Path) -> UsageError:
    return UsageError(
        f"{path} exists, and a backup overwrites no file", hint="give the name of a new file"
    )


def _write(path: Path, ref: StateRef) -> State:
    """The state that was written; starts again if a writer replaced its history meanwhile."""
    for _ in range(_ATTEMPTS):
        newest = next(ref.store.history(), None)
        if newest is None:
            raise StateError(
                f"{ref.folder.label} has no state to back up",
                hint="start with `packer-fork build TEMPLATE`",
            )
        contents = newest.read()
        state, unsealed = _sealed(contents)
        # What was pruned since the snapshot may be gone already.
        sealed = structs.replace(contents.state, gaps=state.gaps)
        try:
            _write_once(path, state, chain(unsealed, ref.store.segments(sealed)))
        except DamagedError:
            if ref.store.read() == apply_changes(contents.state, contents.changes):
                raise
        else:
            return state
    raise StoreError(
        f"the state of {ref.folder.label} changes faster than it can be copied",
        hint="try again once its builds have ended",
    )


def _sealed(contents: SegmentContents) -> tuple[State, tuple[tuple[str, bytes], ...]]:
    """The state with every change in a segment, and the segment of those that had none yet."""
    state = apply_changes(contents.state, contents.changes)
    changes = tuple(change for change, _ in contents.changes)
    lines = (seal(contents.state), *map(seal, changes))
    if not changes or [line.digest for line in lines[1:]] != [d for _, d in contents.changes]:
        return state, ()
    made = encode_segment(lines, changes, contents.state.serial, contents.state.sealed)
    return structs.replace(state, sealed=made.sealed), ((made.sealed.segment, made.data),)


def _write_once(path: Path, state: State, segments: Iterator[tuple[str, bytes]]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            _add(archive, _STATE, compress(seal(state).data))
            for name, data in segments:
                _add(archive, f"{_HISTORY}{name}.zst", data)
        file.flush()
        os.fsync(file.fileno())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    archive.addfile(member, io.BytesIO(data))


def _check(path: Path, state: State) -> None:
    if read(path).state != state:
        raise StoreError(
            f"the backup {path} does not read back as it was written", hint="check the disk"
        )


def read(path: Path) -> StateFile:
    """The state in a file of any kind. Raises UsageError, StateError or NewerFormatError."""
    data = _state_in_tar(path) if _is_tar(path) else user_file.read(path, MAX_SIZE)
    return _decoded(data, str(path))


def _decoded(data: bytes, path: str) -> StateFile:
    try:
        file = decode_file(data, path)
    except DamagedError as error:
        raise _unsound(path, error.offset, error.what) from error
    if file.rest:
        raise _unsound(path, file.end, file.rest)
    return file


def _unsound(path: Path | str, offset: int, what: str) -> StateError:
    return StateError(
        f"{path} is not a sound backup: byte {offset}: {what}",
        hint="choose another: packer-fork state backup --list",
    )


def _is_tar(path: Path) -> bool:
    """By the signature of POSIX.1 and of GNU in the first header."""
    if not path.is_file():  # opening a pipe would wait for its writer
        return False
    try:
        with path.open("rb") as file:
            return file.read(_HEADER)[_MAGIC : _MAGIC + 5] == b"ustar"
    except OSError:
        return False


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the plain files in a tar.

    Raises UsageError for a tar that `in_file` does not write: cut off, sparse, with extended
    headers, or with sizes beyond its own.
    """
    size = path.stat().st_size
    try:
        with tarfile.open(path, mode="r:", tarinfo=_PlainMember) as archive:
            for member in archive:
                if member.size > size - member.offset_data:
                    raise tarfile.ReadError(f"{member.name} is cut off")
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None:
                    yield member.name, stream.read()
    except (OSError, tarfile.TarError) as error:
        raise UsageError(
            f"cannot read {path}: {error}", hint="give a file that `state backup` wrote"
        ) from error


class _PlainMember(tarfile.TarInfo):
    """A header without extensions: those can claim any amount of memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in tarfile.REGULAR_TYPES:
            raise tarfile.ReadError(f"{self.name} is not a plain file")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


def _state_in_tar(path: Path) -> bytes:
    for name, data in _members(path):
        if name == _STATE:
            return data
    raise UsageError(f"{path} holds no {_STATE}", hint="give a file that `state backup` wrote")


def segments(path: Path) -> Iterator[bytes]:
    """The sealed segments in a backup, if it holds any."""
    if not _is_tar(path):
        return
    for name, data in _members(path):
        if name.startswith(_HISTORY):
            yield _proven(path, name, data)


def _proven(path: Path, name: str, data: bytes) -> bytes:
    try:
        decode_unnamed(data, f"{path}: {name}")
    except DamagedError as error:
        raise _unsound(path, error.offset, f"{name}: {error.what}") from error
    return data


def read_named(ref: StateRef, file: str) -> StateFile:
    """The state in a file, or in a backup that servers keep, by its URL. Raises as `read`."""
    if not (ref.folder.is_shared and "://" in file):
        return read(Path(file))
    data = ref.store.read_backup(file)
    if data is None:
        raise UsageError(
            f"there is no backup {file}", hint="packer-fork state backup --list shows all"
        )
    return _decoded(data, file)
