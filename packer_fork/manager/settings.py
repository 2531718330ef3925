"""The settings that hold for a template, or for the working directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from packer_fork import config
from packer_fork.manager import locate


class Found(Struct, frozen=True):
    """``file``: the packer-fork.toml that was read, if any; ``origins``: each setting by name."""

    settings: config.Settings
    origins: Mapping[str, config.Setting]
    file: Path | None


def of(template: str | None, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Found:
    """Raises TemplateError if there is no such template, UsageError for a bad setting."""
    path = Path.cwd() if template is None else locate.template(template).path
    folder = locate.settings_folder(path)
    settings, origins = config.load(folder, environ, flags)
    return Found(settings, origins, folder / config.FILE_NAME if folder else None)
