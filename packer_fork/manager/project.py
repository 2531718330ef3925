"""The project of a template: its root, which identities are relative to, and its marks."""

from __future__ import annotations

import re
from pathlib import Path

from packer_fork import config, durable
from packer_fork.model import Project

_MAX_GIT_CONFIG = 1 << 20
_SECTION = re.compile(r"\s*\[(.*)\]\s*")
_URL = re.compile(r"\s*url\s*=\s*(\S+)\s*")
_REMOTE = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://(?:[^@/]*@)?(?P<host>[^/:@]+)(?::\d+)?/"
    r"|(?![a-z][a-z0-9+.-]*://)(?:[^@/:]*@)?(?P<scp>[^/:@]+):)/*(?P<path>.+?)(?:\.git)?/*"
)
"""Host and path of ``https://user@host:1/path.git`` and of ``user@host:path``."""


def root_of(path: Path) -> Path:
    """The folder of packer-fork.toml, else the git root, else the folder of `path` itself."""
    own = _own_folder(path)
    for mark in (config.FILE_NAME, ".git"):
        for folder in (own, *own.parents):
            if (folder / mark).exists():
                return folder
    return own


def settings_folder(path: Path) -> Path | None:
    """The nearest folder at or above `path` with a packer-fork.toml, if any."""
    own = _own_folder(path)
    return next((f for f in (own, *own.parents) if (f / config.FILE_NAME).is_file()), None)


def marks_of(root: Path, name: str, *, is_shared: bool) -> Project:
    """What tells the project at `root`, with the setting ``project``, from all others."""
    return Project(origin=_origin(root), name=name, root="" if is_shared else str(root))


def _origin(root: Path) -> str:
    """Host and path of the git remote, and the folder of `root` in the repository; else ""."""
    checkout = next((f for f in (root, *root.parents) if (f / ".git").exists()), None)
    match = _REMOTE.fullmatch(_remote_url(checkout / ".git")) if checkout else None
    if checkout is None or match is None:
        return ""
    inside = root.relative_to(checkout).as_posix()
    host = (match["host"] or match["scp"]).lower()
    return f"{host}/{match['path']}" + (f"//{inside}" if inside != "." else "")


def _remote_url(git: Path) -> str:
    """The URL of ``origin`` in the configuration of a checkout, or "" if it has none."""
    section = ""
    for line in _read(_common_folder(git) / "config").splitlines():
        if match := _SECTION.fullmatch(line):
            section = match[1]
        elif section == 'remote "origin"' and (match := _URL.fullmatch(line)):
            return match[1]
    return ""


def _common_folder(git: Path) -> Path:
    """The folder of the configuration: that of the first checkout for a worktree."""
    if git.is_dir():
        return git
    folder = git.parent / _read(git).removeprefix("gitdir:").strip()
    return folder / (_read(folder / "commondir").strip() or ".")


def _read(path: Path) -> str:
    """The text of a file of git's, "" if it cannot be read."""
    try:
        return (durable.read(path, _MAX_GIT_CONFIG) or b"").decode("utf-8", "replace")
    except OSError:
        return ""


def _own_folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent
