"""What a run of Packer was seen to read, and whether it is still the same.

A result keeps an Observation apart from its declared inputs. Observations of several
runs are never merged: each stands for one run of one build.

Names are relative to the project, and absolute outside of it. A name that is not UTF-8,
or that begins like one, is written as ``file:`` and its percent-encoded bytes.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

import msgspec
from msgspec import Struct

from packer_fork.inputs.cache import DigestCache, nonblocking
from packer_fork.inputs.record import EXECUTABLE
from packer_fork.inputs.request import MAX_FILES
from packer_fork.inputs.tree import keyed

_ENCODED = "file:"
_ABSENT = ""
_SPECIAL = "special"
_UNREADABLE = "unreadable"
_TOO_MANY = "too many files"


class Observation(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag="observation",
):
    """One build's share of what one run read.

    ``reads``: name to digest of the content, with ``+x`` if it is executable, or of the
    target of a symbolic link that led to a read. ``listings``: folder to digest of the names
    in it. ``folders``: ``DIR/*`` (all files in it) or ``DIR/**`` (all files below it) to one
    digest. Digests are keyed. ``products``: files that were born in a run of this template;
    ``written``: other files that the run wrote; of both, ``DIR/`` stands for all below.
    ``unsettled``: files that were written before they were read, by whom is not known.
    ``changed``: inputs that were changed while the run went on. ``status`` is "off" where
    nothing was observed; ``reason`` says why it is incomplete, or off, or why a tree counts.
    ``host``: where the run was.
    """

    status: Literal["complete", "off", "incomplete"]
    reason: str = ""
    host: str = ""
    reads: dict[str, str] = {}
    listings: dict[str, str] = {}
    folders: dict[str, str] = {}
    products: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def document(self) -> bytes:
        return msgspec.json.encode(self, order="deterministic")

    @property
    def digest(self) -> str:
        """SHA-256 of the document, which is its name in the state."""
        return hashlib.sha256(self.document).hexdigest()


UNFINISHED = Observation(status="incomplete", reason="packer-fork ended before Packer did")
"""Stands for a run that is under way, and for ever for one whose packer-fork was killed."""


class Names:
    """A set of names in which ``DIR/`` stands for all that is below."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(names)

    def __contains__(self, name: str) -> bool:
        if name in self._names:
            return True
        parts = name.split("/")
        return any("/".join(parts[:count]) + "/" in self._names for count in range(1, len(parts)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __or__(self, other: Names) -> Names:
        return Names(self._names | other._names)


class Past(Struct, frozen=True):
    """What earlier runs of the template did. ``products``: files that were born in them;
    ``written``: other files that the last ones wrote; ``made``: all of both that is known;
    ``unsettled``: files that the last ones left so.
    """

    products: Names
    written: Names
    made: Names
    unsettled: Names


class Project:
    """A checkout: names of its files, and digests of what they held when first asked for."""

    def __init__(
        self, root: str, key: bytes, cache: DigestCache, is_ignored: Callable[[str], bool]
    ) -> None:
        """`root` is a real path; `is_ignored` is asked with absolute paths."""
        self.root = root
        self._key = key
        self._cache = cache
        self._contents: dict[str, str] = {}
        self.is_ignored = is_ignored

    def name(self, path: str) -> str:
        """The name of an absolute path."""
        if path == self.root:
            return "."
        inside = path.startswith(f"{self.root.rstrip('/')}/")
        name = path[len(self.root.rstrip("/")) + 1 :] if inside else path
        try:
            name.encode()
        except UnicodeEncodeError:
            return _ENCODED + quote(os.fsencode(name), safe="/")
        return _ENCODED + quote(name, safe="/") if name.startswith(_ENCODED) else name

    def path(self, name: str) -> str:
        """The absolute path of a name."""
        if name.startswith(_ENCODED):
            name = os.fsdecode(unquote_to_bytes(name.removeprefix(_ENCODED)))
        return os.path.normpath(os.path.join(self.root, name))  # noqa: PTH118

    def content(self, path: str) -> str:
        """A digest of the file `path`, empty if there is none."""
        if path not in self._contents:
            self._contents[path] = self._content(path)
        return self._contents[path]

    def _content(self, path: str) -> str:
        try:
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                return keyed(self._key, f"link\0{os.readlink(path)}")  # noqa: PTH115
            if not stat.S_ISREG(mode):
                return _SPECIAL
            executable = EXECUTABLE if mode & stat.S_IXUSR else ""
            return keyed(self._key, self._cache.digest(path)) + executable
        except (FileNotFoundError, NotADirectoryError):
            return _ABSENT
        except OSError:
            return _UNREADABLE

    def text(self, path: str, most: int) -> str:
        """The first `most` bytes of a file, as far as they are text; else empty."""
        try:
            with open(path, "rb", opener=nonblocking) as file:
                self._cache.opens.opened(path)
                data = file.read(most)
            self._cache.opens.closed(path)
        except OSError:
            return ""
        return "" if b"\0" in data else data.decode("utf-8", "replace")

    def listing(self, folder: str, without: Names) -> str:
        """A digest of the names in `folder`, but for the ignored and `without`."""
        try:
            entries = os.listdir(folder)  # noqa: PTH208
        except OSError:
            return _UNREADABLE
        kept = sorted(each for each in entries if self._counts(f"{folder}/{each}", without))
        return keyed(self._key, "\0".join(kept))

    def folder(self, glob: str, without: Names) -> str:
        """One digest of all files that ``DIR/*`` or ``DIR/**`` stands for."""
        top, deep = folder_of(glob)
        lines = list[str]()
        for path in self._files(self.path(top), without, deep=deep):
            if len(lines) == MAX_FILES:
                return _TOO_MANY
            lines.append(f"{self.name(path)}\0{self.content(path)}")
        return keyed(self._key, "\n".join(sorted(lines)))

    def _files(self, top: str, without: Names, *, deep: bool) -> Iterator[str]:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError:
                yield folder
                continue
            for entry in entries:
                path = f"{folder.rstrip('/')}/{entry.name}"
                if not self._counts(path, without):
                    continue
                if not entry.is_dir(follow_symlinks=False):
                    yield path
                elif deep:
                    waiting.append(path)

    def _counts(self, path: str, without: Names) -> bool:
        return not self.is_ignored(path) and self.name(path) not in without


def folder_of(glob: str) -> tuple[str, bool]:
    """The folder's name of ``DIR/*`` or ``DIR/**``, and whether all below it is meant."""
    deep = glob.endswith("**")
    return glob.rstrip("*").rstrip("/") or ("/" if glob.startswith("/") else "."), deep


def glob_of(folder: str, *, deep: bool) -> str:
    """``DIR/**`` or ``DIR/*`` of a folder's name; for the project itself without a folder."""
    beginning = "" if folder == "." else f"{folder.rstrip('/')}/"
    return beginning + ("**" if deep else "*")


def differences(
    observation: Observation, run: int, project: Project, made: Callable[[], Names], host: str
) -> Iterator[str]:
    """What keeps a result of `run` from being up to date, in sentences; none if nothing does.

    `made` tells what runs of this template are known to have written, for where a whole tree
    counts. `host`: this machine.
    """
    if observation.status == "incomplete":
        yield f"run {run} was not observed to its end ({observation.reason})"
        return
    for name in observation.changed:
        yield f"{name}, an input of run {run}, changed while the run went on"
    for name in observation.unsettled:
        yield f"{name} was written while run {run} went on, and read later"
    for name, digest in observation.reads.items():
        if (now := project.content(project.path(name))) != digest:
            yield _read_difference(name, digest, now, f"run {run}", observation.host, host)
    own = Names((*observation.products, *observation.written))
    for folder, digest in observation.listings.items():
        if project.listing(project.path(folder), own) != digest:
            yield f"the names in {folder} changed since run {run} listed them"
    for glob, digest in observation.folders.items():
        if project.folder(glob, own | made()) != digest:
            yield _folder_difference(glob, run)


def _read_difference(name: str, old: str, new: str, run: str, host: str, here: str) -> str:
    if new == _ABSENT:
        return (
            f"{name}, read in {run}, is gone"
            if host == here
            else f"{name}, read in {run} on {host}, is not here"
        )
    if old.removesuffix(EXECUTABLE) == new.removesuffix(EXECUTABLE):
        now = "now" if new.endswith(EXECUTABLE) else "no longer"
        return f"{name}, read in {run}, is {now} executable"
    return f"{name}, read in {run}, changed"


def _folder_difference(glob: str, run: int) -> str:
    folder, deep = folder_of(glob)
    where = "the project" if folder == "." else folder
    return f"files {'below' if deep else 'in'} {where} changed since run {run} read them"
