"""The project of a template: the folder that the template's identity is relative to."""

from __future__ import annotations

from pathlib import Path

from packer_fork import config


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


def _own_folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent
