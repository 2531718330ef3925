"""Backups: in the store's own keeping, or in one file that holds the whole history.

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
from packer_fork.manager import given, replacing
from packer_fork.manager.changing import Command, changing
from packer_fork.manager.places import Place
from packer_fork.model import Draft, State
from packer_fork.responses import Backup
from packer_fork.stores.base import MANUAL, Passage

_STATE = "state.json"
_HISTORY = "history/"
_ATTEMPTS = 5
_HEADER, _MAGIC = 512, 257


def in_store(place: Place, notify: Notify, *, environ: Mapping[str, str]) -> Backup:
    """A copy of the state in the store's keeping; it stays until it is removed by hand."""
    command = Command(operation="backup", words=("state", "backup"), environ=environ)
    with changing(place, command, notify) as tenure:
        return tenure.backup(MANUAL, keep=place.settings.keep_backups)


def in_file(place: Place, path: Path) -> Backup:
    """State and history in one new file, read back. Takes no lock.

    Raises UsageError if it cannot be written, StateError if there is nothing to back up.
    """
    if path.exists():
        raise UsageError(f"{path} is there already.", hint="Give a new name, or remove it.")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        state = _write(temporary, place)
        _check(temporary, state)
        os.link(temporary, path)
        durable.sync_folder(path.parent)
    except FileExistsError as error:
        raise UsageError(f"{path} is there already.", hint="Give a new name.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
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


def _write(path: Path, place: Place) -> State:
    """The state that was written; from the start again if its history is replaced meanwhile."""
    for _ in range(_ATTEMPTS):
        newest = next(place.store.history(), None)
        if newest is None:
            raise StateError(f"There is no state of {place.folder.label} to back up.")
        passage = newest.read()
        state, unsealed = _sealed(passage)
        # What a change cut off since the snapshot may be gone already.
        sealed = structs.replace(passage.state, cuts=state.cuts)
        try:
            _write_once(path, state, chain(unsealed, place.store.segments(sealed)))
        except DamagedError:
            if place.store.read() == apply_changes(passage.state, passage.changes):
                raise
        else:
            return state
    raise StoreError(f"The state of {place.folder.label} changes faster than it can be copied.")


def _sealed(passage: Passage) -> tuple[State, tuple[tuple[str, bytes], ...]]:
    """The state with all of its changes sealed, and the segment of those that were not yet."""
    state = apply_changes(passage.state, passage.changes)
    changes = tuple(change for change, _ in passage.changes)
    lines = (seal(passage.state), *map(seal, changes))
    if not changes or [line.digest for line in lines[1:]] != [d for _, d in passage.changes]:
        return state, ()
    made = encode_segment(lines, changes, passage.state.serial, passage.state.sealed)
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
        raise StoreError(f"The backup {path} does not read back as it was written.")


def read(path: Path) -> StateFile:
    """The state in a file of any kind. Raises UsageError, StateError or NewerFormatError."""
    data = _state_in_tar(path) if _is_tar(path) else given.read(path, MAX_SIZE)
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
        f"{path} is no sound backup: byte {offset}: {what}.",
        hint="Nothing was done. Choose another: packer-fork state backup --list.",
    )


def _is_tar(path: Path) -> bool:
    """By the signature of POSIX.1 and of GNU in the first header, where `in_file` has it."""
    if not path.is_file():  # opening a pipe would wait for whoever writes
        return False
    try:
        with path.open("rb") as file:
            return file.read(_HEADER)[_MAGIC : _MAGIC + 5] == b"ustar"
    except OSError:
        return False


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the plain files in a tar.

    Raises UsageError where it is not as `in_file` writes it: cut off, sparse, with headers
    that go on in others, or with sizes beyond its own.
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
        raise UsageError(f"{path} cannot be read: {error}.") from error


class _PlainMember(tarfile.TarInfo):
    """A header that says all itself: what others add can claim any amount of memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in tarfile.REGULAR_TYPES:
            raise tarfile.ReadError(f"{self.name} is no plain file")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


def _state_in_tar(path: Path) -> bytes:
    for name, data in _members(path):
        if name == _STATE:
            return data
    raise UsageError(f"{path} holds no {_STATE}.", hint="Give a file that `state backup` wrote.")


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


def look(place: Place, file: str) -> replacing.Replacement | State:
    """What restoring would change, or what would be put where there is no sound state.

    `file`: a path, or what `state backup` calls one that servers keep. Raises UsageError or
    StateError where that is no sound backup, or one of another lineage.
    """
    then = _named(place, file).state
    now = sound_state(place)
    known = now or place.store.salvage().state
    if known is not None and known.lineage != then.lineage:
        raise StateError(
            f"{file} is a backup of another state (lineage {then.lineage}, not {known.lineage}).",
            hint="Name the template and workspace that it was made of.",
        )
    return then if now is None else replacing.look(now, then)


def _named(place: Place, file: str) -> StateFile:
    if not (place.folder.is_shared and "://" in file):
        return read(Path(file))
    data = place.store.read_backup(file)
    if data is None:
        raise UsageError(
            f"There is no backup {file}.", hint="packer-fork state backup --list tells of all."
        )
    return _decoded(data, file)


def sound_state(place: Place) -> State | None:
    """The state, None where there is none or it is damaged. Raises NewerFormatError."""
    try:
        return place.store.read()
    except DamagedError:
        return None


def restore(
    place: Place,
    file: str,
    found: replacing.Replacement | State,
    notify: Notify,
    *,
    environ: Mapping[str, str],
) -> Backup | None:
    """Do what was looked at; where what was replaced is, if there was a sound state.

    Raises StateError if the state moved on meanwhile.
    """
    if isinstance(found, replacing.Replacement):
        why = f"{Path(file).name}, serial {found.then.serial}"
        return replacing.replace(
            place, found, notify, operation="restore", why=why, environ=environ
        )
    put(place, found, segments(Path(file)), notify, operation="restore", environ=environ)
    return None


def put(
    place: Place,
    state: State,
    history: Iterator[bytes],
    notify: Notify,
    *,
    operation: str,
    environ: Mapping[str, str],
) -> None:
    """Put a whole state, and what there is of its history, where there is no sound one."""
    command = Command(operation=operation, words=("state", operation), environ=environ, mends=True)
    with changing(place, command, notify) as tenure:
        if sound_state(place) is not None:
            raise StateError("Meanwhile there is a state.", hint="Nothing was done; look again.")
        for data in history:
            tenure.put_segment(data)
        tenure.put(state)
    # Its tenures may be ahead of the one that put it there, so another one tells of it.
    told = Command(operation=operation, words=command.words, environ=environ, recovers=False)
    with changing(place, told, notify) as tenure:
        tenure.commit(Draft(operation=operation, why=f"serial {state.serial} was put in place"))
