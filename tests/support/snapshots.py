"""Results of commands, and the folder that each left behind, for as long as a worker lives.

A build by real Packer takes a third of a second of a processor, and many tests begin with
the same one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import Any, NamedTuple, TypeVar, cast

T = TypeVar("T")

_PER_TEST = ("TMPDIR", "PROCESS_OF_TEST")
"""Variables of the environment that differ from test to test, and change no result."""


class _Snapshot(NamedTuple):
    folder: Path
    result: Any


class Snapshots:
    """Snapshots of one folder, which is at the same path in each test."""

    def __init__(self, place: Path, folder: Path) -> None:
        """`place` is the folder that commands change; the snapshots are kept in `folder`."""
        self._place = place
        self._folder = folder
        self._kept: dict[bytes, _Snapshot] = {}

    def result(
        self, words: Sequence[str], cwd: Path, environ: Mapping[str, str], run: Callable[[], T]
    ) -> T:
        """The result of `run`, or of an earlier one that began with the same files and arguments.

        `run` must change nothing outside the folder, and be over when it returns.
        """
        assert cwd.is_relative_to(self._place), f"{cwd} is not in the folder that is copied"
        known = {name: text for name, text in environ.items() if name not in _PER_TEST}
        key = _digest((*words, str(cwd), repr(sorted(known.items()))), self._place)
        if key not in self._kept:
            result = run()
            copy = self._folder / f"{len(self._kept)}"
            shutil.copytree(self._place, copy, symlinks=True)
            self._kept[key] = _Snapshot(copy, result)
            return result
        found = self._kept[key]
        _replace_contents(self._place, found.folder)
        return cast("T", found.result)


def _replace_contents(place: Path, source: Path) -> None:
    for path in place.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)


def _digest(words: Sequence[str], place: Path) -> bytes:
    """Digest of `words` and of names, modes and contents of all files in `place`."""
    found = hashlib.sha256(repr(words).encode("utf-8", "surrogateescape"))
    for path, status in _walk(place):
        name = os.fsencode(path.relative_to(place))
        if S_ISLNK(status.st_mode):
            content = os.fsencode(path.readlink())
        else:
            assert S_ISREG(status.st_mode) or S_ISDIR(status.st_mode), f"{path} cannot be copied"
            content = path.read_bytes() if S_ISREG(status.st_mode) else b""
        for part in (name, str(status.st_mode).encode(), content):
            found.update(hashlib.sha256(part).digest())
    return found.digest()


def _walk(place: Path) -> Iterator[tuple[Path, os.stat_result]]:
    return ((path, path.lstat()) for path in sorted(place.rglob("*")))
