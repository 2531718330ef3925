"""The files below what a template refers to, by names that are the same in every checkout."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from packer_fork.inputs.cache import DigestCache
from packer_fork.inputs.exclusions import Exclusions
from packer_fork.inputs.record import EXECUTABLE
from packer_fork.template.contents import Mention
from packer_fork.template.reader import SourceFile


class TooManyFilesError(Exception):
    """More files than `InputsRequest.max_files`."""


class Tree:
    """Gathers entries of files; what cannot be read goes to ``unreadable``."""

    def __init__(
        self,
        root: Path,
        key: bytes,
        cache: DigestCache,
        excluded: Exclusions,
        max_files: int,
    ) -> None:
        self._root = str(root)
        self._key = key
        self._cache = cache
        self._excluded = excluded
        self._left = max_files
        self._seen: set[str] = set()
        self._outside: set[str] = set()
        self._listed: dict[str, list[str]] = {}
        self.entries: dict[str, str] = {}
        self.files: set[str] = set()
        """Paths of all files among the entries."""
        self.mention: Mention | None = None
        """What names the files that are added next; None if nothing in the template does."""
        self.mentions: dict[str, Mention | None] = {}
        """What named each entry first."""
        self.named: set[str] = set()
        """Paths that the template names, whether there is anything or not."""
        self.made: dict[str, str] = {}
        """Entries of files and folders that builds make, to their paths."""
        self.unreadable: list[str] = []

    def add_loaded(self, kind: str, file: SourceFile) -> None:
        """A file that Packer loads itself: only its content counts."""
        real = os.path.realpath(file.path)
        self._seen.add(real)
        digest = hashlib.sha256(file.source).hexdigest()
        self.entries[f"{kind} {self.name(real)}"] = keyed(self._key, digest)

    def add(self, path: str, *, named: bool = False, outside: bool = False) -> None:
        """A file, or a folder with all that is in it. Raises TooManyFilesError.

        `named`: the template names this very path, so that it counts even if a build makes it.
        `outside` is one that does not move with the project: its name is its path.
        """
        if named:
            self.named.add(path)
        made = named and self._excluded.is_made(path)
        leaves_out = self._excluded.is_ignored if made else self._excluded
        by_pattern = named and not made and not self._excluded.is_product(path)
        left_out = self._excluded.is_ignored(path) if by_pattern else leaves_out(path)
        if path in self._seen or left_out:
            return
        self._seen.add(path)
        if outside:
            self._outside.add(path)
        before = set(self.entries) if made else set()
        if os.path.isdir(path):  # noqa: PTH112 (a hot loop, as all below)
            key = f"directory {self.name(path)}"
            self.entries[key] = "present"
            self.mentions[key] = self.mention
            self._add_folder(path, leaves_out)
        else:
            self._spend()
            self._add_file(path)
        if made:
            self.made |= dict.fromkeys(self.entries.keys() - before, path)

    def _add_folder(self, top: str, leaves_out: Callable[[str], bool]) -> None:
        real = os.path.realpath(top)
        files: list[str] = []
        waiting = [(top, real, frozenset((real,)))]
        while waiting:
            folder, real, above = waiting.pop()
            for path in self._children(folder, leaves_out):
                if os.path.isdir(path):  # noqa: PTH112
                    inner = _real(path, real)
                    if inner not in above:
                        waiting.append((path, inner, above | {inner}))
                elif path not in self._seen:
                    self._seen.add(path)
                    files.append(path)
        self._cache.ahead(files)
        for path in files:
            self._add_file(path)

    def _children(self, folder: str, leaves_out: Callable[[str], bool]) -> Iterator[str]:
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208
        except OSError:
            self.unreadable.append(f"directory {self.name(folder)}")
            return
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            if not leaves_out(path):
                self._spend()
                yield path

    def _add_file(self, path: str) -> None:
        key = f"file {self.name(path)}"
        self.files.add(path)
        self.mentions[key] = self.mention
        try:
            self.entries[key] = self._state(path)
        except FileNotFoundError:
            self.entries[key] = "dangling"
        except OSError:
            self.unreadable.append(key)

    def _state(self, path: str) -> str:
        mode = os.stat(path).st_mode  # noqa: PTH116
        if not stat.S_ISREG(mode):
            return "special"
        executable = EXECUTABLE if mode & stat.S_IXUSR else ""
        return keyed(self._key, self._cache.digest(path)) + executable

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TooManyFilesError

    def below(self, folder: str) -> list[str]:
        """Every file below `folder` that is not excluded; symlinked folders are not entered."""
        if folder not in self._listed:
            present = os.path.isdir(folder)  # noqa: PTH112
            self._listed[folder] = list(self._walk(folder)) if present else []
        return self._listed[folder]

    def _walk(self, top: str) -> Iterator[str]:
        waiting = [top]
        while waiting:
            for path in self._children(waiting.pop(), self._excluded):
                if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
                    waiting.append(path)
                else:
                    yield path

    def name(self, path: str) -> str:
        """Relative to the project, also where that leads out of it; UTF-8 in any case."""
        outside = any(path == top or path.startswith(f"{top}/") for top in self._outside)
        name = path if outside else os.path.relpath(path, self._root)
        try:
            name.encode()
        except UnicodeEncodeError:
            return quote(os.fsencode(name), safe="/")
        return name


def _real(path: str, parent: str) -> str:
    """The real path of `path`, whose folder's is `parent`: only a link has to be followed."""
    if os.path.islink(path):  # noqa: PTH114
        return os.path.realpath(path)
    return f"{parent.rstrip('/')}/{os.path.basename(path)}"  # noqa: PTH119


def keyed(key: bytes, content: str) -> str:
    """A digest that tells nothing to whom the key is not known."""
    return hmac.new(key, content.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
