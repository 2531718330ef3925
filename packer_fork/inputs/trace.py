"""What collecting inputs saw of the file system, so that a later command can tell a change.

Paths that exist are kept as they are. A name that was missing may be a word of a script, and
so a secret: it is kept as a keyed digest, by the nearest folder that exists. Contents of files
are not traced, but for those that decide which other files count.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from packer_fork.inputs import globs

_NAME_BYTES = 12
"""Of the digest of a missing name: enough that no other name has it by chance."""

_FOLDS_CASE = sys.platform == "darwin"
_MOST_FOLDERS = 20_000

LeavesOut = Callable[[str], bool]
"""Whether an absolute path does not count."""


class Child(Struct, frozen=True, gc=False):
    """An entry of a folder. ``path`` is absolute."""

    path: str
    is_folder: bool
    is_link: bool


class Trace(Struct, frozen=True, kw_only=True):
    """``present``: what each path was that was looked for and exists; ``real``: real paths;
    ``absent``: digests of names that are missing, by folder; ``listings``: digest of a folder's
    entries, by the filter and the folder; ``contents``: SHA-256 by path.
    """

    present: dict[str, str]
    real: dict[str, str]
    absent: dict[str, tuple[bytes, ...]]
    listings: dict[str, bytes]
    contents: dict[str, str]

    def holds(
        self, key: bytes, filters: Mapping[str, LeavesOut], digest: Callable[[str], str]
    ) -> bool:
        """Whether all of it is still so. `filters`: by the names that the tracer was given."""
        try:
            return (
                all(_kind(path) == kind for path, kind in self.present.items())
                and all(os.path.realpath(path) == real for path, real in self.real.items())
                and all(_lacks(key, folder, names) for folder, names in self.absent.items())
                and all(_is_listed(each, seen, filters) for each, seen in self.listings.items())
                and all(digest(path) == seen for path, seen in self.contents.items())
            )
        except (OSError, ValueError):
            return False


class Tracer:
    """Answers questions about the file system, and writes down the answers.

    ``is_lost``: something was seen that a trace cannot hold.
    """

    def __init__(self, key: bytes) -> None:
        self.is_lost = False
        self._key = key
        self._present: dict[str, str] = {}
        self._real: dict[str, str] = {}
        self._absent: dict[str, set[bytes]] = {}
        self._listings: dict[str, bytes] = {}
        self._contents: dict[str, str] = {}
        self._folders: set[str] = set()

    def trace(self) -> Trace:
        return Trace(
            present=self._present,
            real=self._real,
            absent={folder: tuple(sorted(names)) for folder, names in self._absent.items()},
            listings=self._listings,
            contents=self._contents,
        )

    def exists(self, path: str) -> bool:
        """Whether there is anything at `path`; a link that leads nowhere counts."""
        kind = _kind(path)
        if kind:
            self._present[path] = kind
        else:
            self._miss(path)
        return bool(kind)

    def real_path(self, path: str) -> str:
        found = os.path.realpath(path)
        self._real[path] = found
        return found

    def content(self, path: str, digest: str) -> None:
        self._contents[path] = digest

    def children(self, folder: str, leaves_out: LeavesOut, name: str) -> list[Child]:
        """What is in `folder`, by name, without what `leaves_out`; that filter's `name`.

        Raises OSError.
        """
        found = _children(folder, leaves_out)
        self._listings[f"{name}\0{folder}"] = _digest(found)
        return found

    def glob(self, folder: str, wild: str, leaves_out: LeavesOut, name: str) -> list[str]:
        """What exists in `folder` of what `wild` names, unfiltered."""
        self._list_below(folder, wild, leaves_out, name)
        return list(globs.expand(folder, wild))

    def _list_below(self, folder: str, wild: str, leaves_out: LeavesOut, name: str) -> None:
        fixed = globs.fixed_folder(wild, "*?[{}")
        rest = wild[len(fixed) :].strip("/")
        start = os.path.normpath(os.path.join(folder, fixed))  # noqa: PTH118
        if ".." in rest.split("/") or not (self.exists(start) or not rest):
            self.is_lost = self.is_lost or ".." in rest.split("/")
            return
        depth = _MOST_FOLDERS if "**" in rest else rest.count("/") + 1
        waiting, seen = [(start, depth)], set[str]()
        while waiting:
            top, left = waiting.pop()
            real = os.path.realpath(top)
            if not os.path.isdir(top) or real in seen:  # noqa: PTH112
                continue
            seen.add(real)
            if len(seen) > _MOST_FOLDERS:
                self.is_lost = True
                return
            try:
                inner = self.children(top, leaves_out, name)
            except OSError:
                self.is_lost = True
                return
            waiting += ((each.path, left - 1) for each in inner if each.is_folder and left > 1)

    def _miss(self, path: str) -> None:
        """Remember that `path` is missing: by its first part that is."""
        above, name = os.path.split(path.rstrip("/"))
        while above not in self._folders:
            if kind := _kind(above):
                if not kind.endswith(_FOLDER):
                    self._present[above] = kind
                    return
                self._folders.add(above)
                break
            if above in ("", "/"):
                self.is_lost = True
                return
            above, name = os.path.split(above)
        self._absent.setdefault(above, set()).add(_name_digest(self._key, name))


_FOLDER, _FILE, _SPECIAL, _NOWHERE = "d", "f", "s", "n"


def _kind(path: str) -> str:
    """What is at `path`, "" for nothing; begins with "l" for a link."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return ""
    if not stat.S_ISLNK(found.st_mode):
        return _kind_of(found.st_mode)
    try:
        return f"l{_kind_of(os.stat(path).st_mode)}"  # noqa: PTH116
    except OSError:
        return f"l{_NOWHERE}"


def _kind_of(mode: int) -> str:
    return _FOLDER if stat.S_ISDIR(mode) else _FILE if stat.S_ISREG(mode) else _SPECIAL


def _children(folder: str, leaves_out: LeavesOut) -> list[Child]:
    top = folder.rstrip("/")
    with os.scandir(folder) as entries:
        found = [(f"{top}/{entry.name}", entry) for entry in entries]
    return [
        Child(path, _is_folder(entry), entry.is_symlink())
        for path, entry in sorted(found, key=lambda each: each[0])
        if not leaves_out(path)
    ]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _digest(children: list[Child]) -> bytes:
    text = "\0\0".join(map(_line, children))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _line(child: Child) -> str:
    target = os.path.realpath(child.path) if child.is_link else ""
    return f"{child.path}\0{child.is_folder:d}{target}"


def _is_listed(listing: str, seen: bytes, filters: Mapping[str, LeavesOut]) -> bool:
    name, _, folder = listing.partition("\0")
    return _digest(_children(folder, filters[name])) == seen


def _lacks(key: bytes, folder: str, names: tuple[bytes, ...]) -> bool:
    """Whether `folder` is still one, with none of the missing names in it."""
    missing = frozenset(names)
    return all(_name_digest(key, name) not in missing for name in _names(folder))


def _names(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)


def _name_digest(key: bytes, name: str) -> bytes:
    """The same however a file system without case spells it."""
    text = name.casefold() if _FOLDS_CASE else name
    return hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha256")[:_NAME_BYTES]
