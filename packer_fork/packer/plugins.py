"""The plugins that a Packer would load, and what tells one version from another.

Since 1.8 Packer lists those that it installed, ``..._v1.2.3_x5.0_linux_amd64``, each
beside its SHA-256. Others, and all of earlier releases, are programs without a
version named ``packer-builder-NAME`` or the like: their content is what counts.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from packer_fork.packer.program import Program

if TYPE_CHECKING:
    from packer_fork.packer.question import Question

_LISTS_PLUGINS = (1, 8, 0)
_MOST_FILES = 10_000
_INSTALLED = re.compile(r"(.+/)?packer-plugin-([^/]+?)_v(\d[^_/]*)_x[\d.]+_[^/]+")
_UNVERSIONED = re.compile(
    r"packer-(?:builder|provisioner|post-processor|datasource|plugin)-[A-Za-z0-9._-]+"
)

Signature = tuple[str, int, int, int, int]
"""Path, size, mtime, ctime (both in nanoseconds) and inode of a file."""


def installed(program: Program, environ: Mapping[str, str]) -> Question | None:
    """Ask which plugins Packer installed; None if it does not list them."""
    if program.version < _LISTS_PLUGINS:
        return None
    from packer_fork.packer.question import Question

    return Question((program.path, "plugins", "installed"), environ)


def in_use(program: Program, environ: Mapping[str, str], listed: str | None) -> dict[str, str]:
    """Version by plugin, several joined by a comma; ``sha256:...`` of one without a version.

    `listed`: the answer to `installed`.
    """
    found: dict[str, set[str]] = {}
    for line in (listed or "").splitlines():
        if "/" in line:
            name, version = _named(Path(line.strip()))
            found.setdefault(name, set()).add(version)
    for folder in _folders(program, environ):
        for path in _programs_in(folder):
            found.setdefault(path.name, set()).add(_digest(path))
    return {name: ", ".join(sorted(versions)) for name, versions in sorted(found.items())}


def signatures(program: Program, environ: Mapping[str, str]) -> tuple[Signature, ...] | None:
    """Of every file that could be a plugin of `program`; None if there are too many to tell."""
    found = {path for folder in {*_beside(program)} for path in _beginning_so(folder)}
    entered = set[str]()
    for folder in _own(environ):
        for parent, folders, names in os.walk(folder, followlinks=True):
            if (real := os.path.realpath(parent)) in entered:
                folders.clear()  # a link that leads back
                continue
            entered.add(real)
            found.update(os.path.join(parent, name) for name in names)  # noqa: PTH118
            if len(found) > _MOST_FILES:
                return None
    return tuple(sorted(map(_signature, found)))


def _beginning_so(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 (of all programs of a machine)
    except OSError:
        return []
    return [f"{folder}/{name}" for name in names if name.startswith("packer-")]


def _signature(path: str) -> Signature:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return path, 0, 0, 0, 0
    return path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _named(path: Path) -> tuple[str, str]:
    """Source address as far as the path has it, and version: ``github.com/hashicorp/docker``."""
    match = _INSTALLED.fullmatch(path.as_posix())
    if not match:
        return path.name, _digest(path)
    return "/".join((*path.parent.parts[-3:-1], match[2])), match[3]


def _folders(program: Program, environ: Mapping[str, str]) -> list[Path]:
    """Where Packer looks for unversioned ones: beside itself, right here, in its folders."""
    return list(dict.fromkeys([*_beside(program), *_own(environ)]))


def _beside(program: Program) -> list[Path]:
    """Folders of which Packer looks at the programs directly in them."""
    return [Path(program.path).resolve().parent, Path(program.path).parent, Path.cwd()]


def _own(environ: Mapping[str, str]) -> list[Path]:
    """Folders for plugins."""
    home = Path(environ.get("HOME", "/"))
    configured = environ.get("PACKER_PLUGIN_PATH", "")
    named = [Path(part) for part in configured.split(os.pathsep) if part]
    config = Path(environ.get("PACKER_CONFIG_DIR") or home)
    settings = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return [config / ".packer.d/plugins", settings / "packer/plugins", *named]


def _programs_in(folder: Path) -> list[Path]:
    try:
        files = [path for path in folder.iterdir() if _UNVERSIONED.fullmatch(path.name)]
    except OSError:
        return []
    return sorted(path for path in files if path.is_file() and not _INSTALLED.fullmatch(path.name))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError:
        return "sha256:unreadable"
