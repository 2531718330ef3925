"""Watching a project while Packer runs: which of its files are opened, and which written.

Folders are listed first, then watched, and then every file's signature is taken: listing
a folder opens it, and would fill the queue. Where watching fails or events are lost, the
signatures of before and after remain, and the whole tree counts.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum

from msgspec import Struct

from packer_fork.inputs import inotify
from packer_fork.inputs.cache import Signature, signature
from packer_fork.inputs.inotify import Inotify

_MASK = (
    inotify.OPEN
    | inotify.CLOSE_NOWRITE
    | inotify.CLOSE_WRITE
    | inotify.MODIFY
    | inotify.ATTRIB
    | inotify.CREATE
    | inotify.MOVED_TO
)
_WRITES = inotify.MODIFY | inotify.CREATE | inotify.MOVED_TO
_MOST_READS = 64
"""Buffers of events that one drain takes: Packer must not hold us up for ever."""

_BYTECODE = "__pycache__"
_SOURCE = re.compile(r"(.+?)\.[^.]+(?:\.opt-\w+)?\.pyc")
"""Bytecode is read in place of a source that is only looked at, not opened."""

OPENED = 1
WROTE = 2
TOUCHED = 4
READ_BEFORE = 8
"""Closed after reading before the first write."""

READ_AFTER = 16


class Scope(Struct, frozen=True, kw_only=True):
    """What is watched, by real paths: all below ``root``, and the files directly in
    ``folders``; but nothing that is ``ignored``. No more than ``max_files``.
    """

    root: str
    ignored: Callable[[str], bool]
    folders: tuple[str, ...] = ()
    max_files: int


class Role(StrEnum):
    """What a file was to a run."""

    NOTHING = "nothing"
    READ = "read"
    PRODUCT = "product"
    WRITTEN = "written"
    UNSETTLED = "unsettled"
    CHANGED = "changed"


class TooManyFilesError(Exception):
    """More files than `Scope.max_files`: this tree cannot be watched, nor counted."""


class Trace(Struct, frozen=True, kw_only=True):
    """What was seen. ``failure``: why whole trees count; then ``accesses`` says nothing.

    ``before`` and ``folders``: what was there when the watcher began, with the signatures of
    regular files; ``accesses``: by path,
    flags such as OPENED; ``listed``: folders that were opened; ``links``: symbolic links that
    were there; ``made``: folders that were not there before; ``unreadable``: folders that
    could not be listed.
    """

    before: dict[str, Signature]
    folders: frozenset[str]
    accesses: dict[str, int]
    listed: frozenset[str]
    links: tuple[str, ...]
    made: frozenset[str]
    unreadable: tuple[str, ...]
    failure: str


class Watcher:
    """Watches from its making until `finish`. Raises TooManyFilesError, and nothing else."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._folders: dict[int, str] = {}
        self._accesses: dict[str, int] = {}
        self._listed: set[str] = set()
        self._made: set[str] = set()
        self._failure = ""
        self._inotify: Inotify | None = None
        listing = _list(scope)
        self._links = tuple(listing.links)
        self._unreadable = tuple(listing.unreadable)
        self._known = frozenset(listing.folders)
        self._watch_all(listing.folders)
        self._before = dict(_signatures(listing.files))
        self.drain()
        self._accesses.clear()
        self._listed.clear()
        self._made.clear()

    @property
    def failure(self) -> str:
        """Why whole trees count, as far as is known by now."""
        return self._failure

    def drain(self, own: tuple[str, int] | None = None) -> None:
        """Take what is queued. `own`: a path and a mask of which one event is this process's."""
        try:
            for _ in range(_MOST_READS):
                events = self._inotify.read() if self._inotify is not None else []
                if not events:
                    return
                for watch, mask, name in events:
                    own = self._take(watch, mask, name, own)
        except OSError as error:
            self._fail(f"events cannot be read: {error.strerror}")

    def finish(self) -> Trace:
        """The end of watching."""
        self.drain()
        self.close()
        return Trace(
            before=self._before,
            folders=self._known,
            accesses=self._accesses,
            listed=frozenset(self._listed),
            links=self._links,
            made=frozenset(self._made),
            unreadable=self._unreadable,
            failure=self._failure,
        )

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _watch_all(self, folders: list[str]) -> None:
        if sys.platform != "linux":
            self._fail("only Linux tells what is opened")
            return
        try:
            self._inotify = Inotify()
            for folder in folders:
                self._watch(folder)
        except OSError as error:
            self._fail(_why(error))

    def _watch(self, folder: str) -> None:
        if self._inotify is not None:
            try:
                self._folders[self._inotify.watch(folder, _MASK)] = folder
            except (FileNotFoundError, NotADirectoryError):
                return  # it has gone since it was listed

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self.close()

    def _take(
        self, watch: int, mask: int, name: str, own: tuple[str, int] | None
    ) -> tuple[str, int] | None:
        """Note one event; `own`, unless it is that one."""
        if mask & inotify.OVERFLOW:
            self._fail("more files were opened at once than the kernel could tell")
            return own
        folder = self._folders.get(watch)
        if folder is None or mask & inotify.IGNORED:
            return own
        if mask & inotify.DIRECTORY:
            self._take_folder(folder, mask, name)
            return own
        path = f"{folder.rstrip('/')}/{name}"
        if own is not None and path == own[0] and mask & own[1]:
            return None
        if folder.endswith(f"/{_BYTECODE}"):
            self._take_bytecode(folder, mask, name)
        elif name and not self._scope.ignored(path):
            self._accesses[path] = noted(self._accesses.get(path, 0), mask)
        return own

    def _take_folder(self, folder: str, mask: int, name: str) -> None:
        if not name:
            if mask & inotify.OPEN:
                self._listed.add(folder)
        elif mask & (inotify.CREATE | inotify.MOVED_TO):
            path = f"{folder.rstrip('/')}/{name}"
            if path in self._known:
                self._watch_again(path)
            elif not self._scope.ignored(path):
                self._made.add(path)  # all that is in it is a product, and need not be watched

    def _watch_again(self, folder: str) -> None:
        """A folder was put in the place of one that was there before.

        Whatever lies in it was written, and may have been read before it was watched again.
        """
        below = [each for each in self._known if each.startswith(f"{folder}/")]
        try:
            for each in (folder, *below):
                self._watch(each)
        except OSError as error:
            self._fail(_why(error))
        for each in self._before:
            if each.startswith(f"{folder}/"):
                self._accesses[each] = self._accesses.get(each, 0) | OPENED | WROTE | READ_AFTER

    def _take_bytecode(self, folder: str, mask: int, name: str) -> None:
        source = _SOURCE.fullmatch(name)
        if source and mask & inotify.OPEN:
            path = f"{folder.removesuffix(_BYTECODE)}{source[1]}.py"
            self._accesses[path] = noted(self._accesses.get(path, 0), inotify.OPEN)


def noted(flags: int, mask: int) -> int:
    """The flags of a file after one more event."""
    if mask & _WRITES:
        flags |= WROTE
    if mask & inotify.OPEN:
        flags |= OPENED
    if mask & inotify.ATTRIB:
        flags |= TOUCHED
    if mask & inotify.CLOSE_NOWRITE:
        flags |= READ_AFTER if flags & WROTE else READ_BEFORE
    return flags


def role_of(
    before: Signature | None,
    after: Signature | None,
    flags: int,
    *,
    is_output: bool,
    was_written: bool,
) -> Role:
    """What a file was to a run, by its signatures (None: no such file) and its accesses.

    `is_output`: it was born in an earlier run, or the template says that it is made;
    `was_written`: the run before wrote it, too.
    """
    if before is None:
        return Role.PRODUCT if after is not None else Role.NOTHING
    if after is not None and not (flags & WROTE or _is_unexplained(before, after, flags)):
        return Role.READ if flags & OPENED else Role.NOTHING
    if is_output:
        return Role.PRODUCT
    return _of_written(flags, was_written=was_written)


def _of_written(flags: int, *, was_written: bool) -> Role:
    if flags & READ_BEFORE:
        return Role.CHANGED
    is_read = flags & READ_AFTER or (flags & OPENED and not flags & WROTE)
    if not is_read:
        return Role.WRITTEN
    return Role.PRODUCT if was_written else Role.UNSETTLED


def _is_unexplained(before: Signature, after: Signature, flags: int) -> bool:
    """Whether the content may have changed without a write that was seen: through a mapping,
    or by another name. Where only attributes were set, times say nothing.
    """
    size, mtime, _, inode = before
    if (size, inode) != (after[0], after[3]):
        return True
    return mtime != after[1] and not flags & TOUCHED


def signature_of(path: str) -> Signature | None:
    """None if it is not a regular file, or not there."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return signature(status) if stat.S_ISREG(status.st_mode) else None


def signatures(scope: Scope) -> dict[str, Signature]:
    """Those of all regular files as they are now. Raises TooManyFilesError."""
    return dict(_signatures(_list(scope).files))


def _signatures(files: list[str]) -> Iterator[tuple[str, Signature]]:
    for path in files:
        found = signature_of(path)
        if found is not None:
            yield path, found


class _Listing(Struct):
    folders: list[str]
    files: list[str]
    links: list[str]
    unreadable: list[str]


def _list(scope: Scope) -> _Listing:
    found = _Listing([], [], [], [])
    _list_tree(scope, scope.root, found, deep=True)
    for folder in scope.folders:
        _list_tree(scope, folder, found, deep=False)
    return found


def _list_tree(scope: Scope, top: str, found: _Listing, *, deep: bool) -> None:
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            found.unreadable.append(folder)
            continue
        found.folders.append(folder)
        for entry in entries:
            path = f"{folder.rstrip('/')}/{entry.name}"
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder and entry.name == _BYTECODE and deep:
                found.folders.append(path)
            if scope.ignored(path):
                continue
            if is_folder:
                waiting += [path] if deep else []
            elif entry.is_symlink():
                found.links.append(path)
            else:
                found.files.append(path)
        if len(found.files) + len(found.folders) > scope.max_files:
            raise TooManyFilesError


def _why(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "too few inotify watches (fs.inotify.max_user_watches)"
    if error.errno == errno.EMFILE:
        return "too few inotify instances (fs.inotify.max_user_instances)"
    return f"inotify: {error.strerror}"
