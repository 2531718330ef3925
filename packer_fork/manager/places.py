"""From a command line's words to the store they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from packer_fork import config
from packer_fork.events import Notice, Notify
from packer_fork.manager import locate
from packer_fork.stores.base import Store
from packer_fork.stores.local.store import LocalStore


class Place(Struct, frozen=True):
    """A state that can be spoken of: its folder, its store, its settings."""

    folder: locate.StateFolder
    store: Store
    settings: config.Settings


def of_template(
    template: locate.Template, flags: Mapping[str, Any], environ: Mapping[str, str], notify: Notify
) -> Place:
    """The place of one template. Raises UsageError."""
    settings, _ = config.load(locate.settings_folder(template.path), environ, flags)
    folder = locate.state_folder(template, settings)
    return Place(folder, _open(folder, template.identity, notify), settings)


def moved(
    source: Place, identity: str, to: str, environ: Mapping[str, str], notify: Notify
) -> Place:
    """The place of the template `identity`, same workspace, in `to`. Raises UsageError."""
    settings, _ = config.load(None, environ, {"state": to, "workspace": source.folder.workspace})
    folder = locate.folder_in(settings, identity)
    kept = structs.replace(source.settings, state=to)
    return Place(folder, _open(folder, identity, notify), kept)


def below(flags: Mapping[str, Any], environ: Mapping[str, str], notify: Notify) -> Iterator[Place]:
    """Every place below the working directory; `flags` may narrow the workspace."""
    here = Path.cwd()
    settings, origins = config.load(locate.settings_folder(here), environ, flags)
    chosen = origins["workspace"].origin != "default"
    for folder in locate.below(here, settings.state):
        if not chosen or folder.workspace == settings.workspace:
            yield Place(folder, _open(folder, folder.label, notify), settings)


def _open(folder: locate.StateFolder, identity: str, notify: Notify) -> Store:
    return LocalStore(
        folder.folder,
        root=folder.root,
        template=identity,
        workspace=folder.workspace,
        complain=lambda text: notify(Notice(level="warning", text=text)),
    )
