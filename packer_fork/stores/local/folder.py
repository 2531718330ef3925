"""The folder of one template and workspace as a writer needs it: made, swept, under its mutex."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from packer_fork import durable
from packer_fork.errors import StoreError, UsageError
from packer_fork.stores.local import mutex
from packer_fork.stores.local.layout import Layout

MIN_FREE = 256 << 10
"""Bytes that must be free on the file system before a lock is acquired."""


class Folder:
    """Made when it is first written to. Every OSError comes as a StoreError."""

    def __init__(
        self, layout: Layout, *, root: Path, complain: mutex.Complain, group: str = ""
    ) -> None:
        """`root` holds the folders of all states; git ignores it. `group` shares new folders."""
        self._layout = layout
        self._root = root
        self._complain = complain
        self._group = group

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        # It imports portalocker, which takes longer than all the rest: only who locks
        # pays, and not while others wait for the mutex or for us to be the next.
        import packer_fork.stores.local.kernel_locks  # noqa: F401

        with self._writable():
            self._make()
            with mutex.held(self._layout.mutex, self._complain):
                self._sweep()
                yield

    @contextlib.contextmanager
    def readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot read the state in {self._layout.folder}: {error.strerror}",
                hint="ask its owner to set shared_with_group, or use --state DIR of your own",
            ) from error

    def _make(self) -> None:
        _check_room(self._layout.folder)
        group = _group_id(self._group) if self._group else None
        for folder in (self._root, self._layout.folder, self._layout.locks, self._layout.logs):
            durable.make_folder(folder, group=group)
        ignore = self._root / ".gitignore"
        if not ignore.exists():
            durable.replace(ignore, b"*\n", durable=False)

    def _sweep(self) -> None:
        """Remove what a killed writer left half-made; under the mutex nobody else writes."""
        for name in os.listdir(self._layout.folder):  # noqa: PTH208 (on every acquisition)
            if name.startswith("."):
                (self._layout.folder / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot write in {self._layout.folder}: {error.strerror}",
                hint="make room or make the folder writable, or choose another with --state DIR",
            ) from error


def _group_id(name: str) -> int:
    """Raises UsageError if there is no such group."""
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(
            f"shared_with_group: there is no group {name!r} on this machine",
            hint="name a group that you are a member of: `id -Gn` lists them",
        ) from None


def _check_room(folder: Path) -> None:
    """Raise OSError where a run would hit a full disk at once, before anything is made."""
    try:
        room = os.statvfs(folder)
    except FileNotFoundError:
        _check_room(folder.parent)
        return
    if room.f_bavail * room.f_frsize < MIN_FREE:
        text = f"less than {MIN_FREE >> 10} KiB are free on its file system"
        raise OSError(errno.ENOSPC, text, str(folder))
