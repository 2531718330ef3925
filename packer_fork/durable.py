"""Bytes that survive: the few ways in which packer-fork writes files.

After a failed write or fsync an inode is never written to or synced again (the
kernel may have dropped the page and would report success): the caller writes a
new one. Folders are 0700 and files 0600; below a folder that is shared with its group
(2770) they are 2770 and 0660. What root makes belongs to the owner of the folder around
it, so that a root container leaves a user's checkout usable.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700
GROUP_FILE_MODE = 0o660
GROUP_FOLDER_MODE = 0o2770

_fdatasync = getattr(os, "fdatasync", os.fsync)


def make_folder(path: Path, *, group: int | None = None) -> None:
    """Make `path` and what is missing above it, each made durable in its parent.

    `group`: the ID of the group that the new folders are shared with; below a shared folder
    they are shared anyway.
    """
    if path.is_dir():
        return
    make_folder(path.parent, group=group)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=FOLDER_MODE)
        give_to_owner_of(path.parent, path)
        if group is not None:
            os.chown(path, -1, group)
        if group is not None or is_group_shared(path.parent):
            path.chmod(GROUP_FOLDER_MODE)
        sync_folder(path.parent)


def is_group_shared(folder: Path) -> bool:
    return stat.S_IMODE(folder.stat().st_mode) == GROUP_FOLDER_MODE


def share_like(folder: Path, descriptor: int) -> None:
    """Open a new file to the group that its folder is shared with, if it is."""
    if is_group_shared(folder):
        with contextlib.suppress(PermissionError):  # another user made it just now
            os.fchmod(descriptor, GROUP_FILE_MODE)


def give_to_owner_of(folder: Path, path: Path) -> None:
    if os.geteuid() == 0:
        owner = folder.stat()
        if (owner.st_uid, owner.st_gid) != (0, 0):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def create(path: Path, *, flags: int = 0) -> int:
    """Open a file of our own for writing, made if missing; never inherited."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags)
    except FileNotFoundError:
        descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, FILE_MODE
        )
        give_to_owner_of(path.parent, path)
        share_like(path.parent, descriptor)
        return descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte or raise OSError: a short write is followed until it says why."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def append(descriptor: int, data: bytes) -> None:
    """Append and sync. After an OSError the inode must be given up."""
    write_all(descriptor, data)
    _fdatasync(descriptor)


def overwrite(path: Path, data: bytes) -> None:
    """Write a small file of fixed size in place, unsynced, in one system call."""
    descriptor = create(path)
    try:
        if os.pwrite(descriptor, data, 0) != len(data):
            raise OSError(errno.EIO, "short write", str(path))
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put a new file in the place of `path`; readers see the old bytes or the new ones.

    On OSError the old file still stands and nothing is left behind. Without `durable`
    a power cut may bring the old file back.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            share_like(path.parent, descriptor)
            write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        give_to_owner_of(path.parent, temporary)
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path, limit: int) -> bytes | None:
    """At most `limit` bytes of a file that may be missing (None)."""
    try:
        # Without O_NONBLOCK a pipe without a writer would hold it up.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        return _read_all(descriptor, min(os.fstat(descriptor).st_size, limit))
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    """As much as is there of `size` bytes; one call hands out 2 GB at the most."""
    data = os.read(descriptor, size)
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data
