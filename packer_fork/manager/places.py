"""From a command line's words to the store they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from packer_fork import config
from packer_fork.events import Notice, Notify
from packer_fork.manager import locate, servers
from packer_fork.stores.base import Store
from packer_fork.stores.circuit_breaker import CircuitBreaker
from packer_fork.stores.local.store import LocalStore


class Place(Struct, frozen=True):
    """A state that can be spoken of: its folder, its store, its settings."""

    folder: locate.StateFolder
    store: Store
    settings: config.Settings

    @property
    def backups(self) -> str:
        """Where copies of what was replaced are kept, for messages."""
        return f"{self.store.location}/{'files/' if self.folder.is_shared else ''}backups"

    @property
    def circuit_breaker(self) -> CircuitBreaker:
        """That of the store, shared by all processes of this user on this machine."""
        if self.folder.is_shared:
            return servers.circuit_breaker(self.settings)
        return CircuitBreaker(self.store.location)

    @property
    def outbox(self) -> Path | None:
        """Where results wait for a store that is away; a local one needs none."""
        if not self.folder.is_shared:
            return None
        chosen, here = self.settings.outbox, self.folder
        if not chosen:
            return here.folder / "outbox"
        return Path(chosen) / here.root.name / here.template / here.workspace


def of_template(
    template: locate.Template, flags: Mapping[str, Any], environ: Mapping[str, str], notify: Notify
) -> Place:
    """The place of one template. Raises UsageError."""
    settings, _ = config.load(locate.settings_folder(template.path), environ, flags)
    folder = locate.state_folder(template, settings)
    return Place(folder, _open(folder, template.identity, settings, notify), settings)


def moved(
    source: Place, identity: str, to: str, environ: Mapping[str, str], notify: Notify
) -> Place:
    """The place of the template `identity`, same workspace, in `to`. Raises UsageError."""
    settings, _ = config.load(None, environ, {"state": to, "workspace": source.folder.workspace})
    kept = structs.replace(source.settings, state=settings.state)
    folder = locate.folder_in(kept, identity, locate.project_of(Path.cwd()))
    return Place(folder, _open(folder, identity, kept, notify), kept)


def below(flags: Mapping[str, Any], environ: Mapping[str, str], notify: Notify) -> Iterator[Place]:
    """Every place below the working directory; `flags` may narrow the workspace.

    Raises UsageError, StoreError.
    """
    here = Path.cwd()
    settings, origins = config.load(locate.settings_folder(here), environ, flags)
    chosen = origins["workspace"].origin != "default"
    found = [(folder, folder.label) for folder in locate.below(here, settings.state)]
    for folder, identity in (*_on_servers(settings, here), *found):
        if not chosen or folder.workspace == settings.workspace:
            yield Place(folder, _open(folder, identity, settings, notify), settings)


def workspaces(place: Place) -> list[str]:
    """All that there are of the same template. Raises UsageError, StoreError."""
    if not place.folder.is_shared:
        return locate.workspaces(place.folder)
    from packer_fork.manager import remote

    states = remote.states(place.settings)
    return [name for identity, name in states if locate.escape(identity) == place.folder.template]


def _on_servers(settings: config.Settings, here: Path) -> list[tuple[locate.StateFolder, str]]:
    if "://" not in settings.state:
        return []
    from packer_fork.manager import remote

    project = locate.project_of(here)
    states = [
        (identity, structs.replace(settings, workspace=workspace))
        for identity, workspace in remote.states(settings)
    ]
    return [(locate.folder_in(its, identity, project), identity) for identity, its in states]


def _open(
    folder: locate.StateFolder, identity: str, settings: config.Settings, notify: Notify
) -> Store:
    def complain(text: str) -> None:
        notify(Notice(level="warning", text=text))

    if folder.is_shared:
        from packer_fork.manager import remote

        return remote.store(folder, identity, settings, complain)
    return LocalStore(
        folder.folder,
        root=folder.root,
        template=identity,
        workspace=folder.workspace,
        complain=complain,
    )
