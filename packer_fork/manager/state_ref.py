"""From a command line to a state: template, project, workspace and ``--state`` in one step.

A template's identity is its real path relative to the project's root. Beside the template its
state is in ``.packer-fork/<file name>/<workspace>``; in a folder given by ``--state`` in
``<identity>/<workspace>``. Names are percent-encoded, so that no name becomes another path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from msgspec import Struct, structs

from packer_fork import config
from packer_fork.errors import StoreError, TemplateError
from packer_fork.events import Notice, Notify
from packer_fork.manager import project
from packer_fork.model import Project
from packer_fork.stores.base import Store
from packer_fork.stores.circuit_breaker import CircuitBreaker
from packer_fork.stores.local.store import LocalStore

FOLDER = ".packer-fork"
SHARED = "@shared"
"""Below FOLDER: the local files of states on servers."""

_DIRECTORY_TEMPLATE = "@directory"
_LONGEST_NAME = 200
_DEEPEST = 12
_NOT_SEARCHED = frozenset({".git", "node_modules", "__pycache__", ".venv", "packer_cache"})


class Template(Struct, frozen=True):
    """A template that exists. ``given``: its path as typed, which Packer gets as well."""

    given: str
    path: Path
    project: Path

    @property
    def identity(self) -> str:
        return self.path.relative_to(self.project).as_posix()


class StateFolder(Struct, frozen=True):
    """The local folder of one template and workspace; ``root`` holds the states of many."""

    root: Path
    template: str
    workspace: str

    @property
    def folder(self) -> Path:
        return self.root / self.template / self.workspace

    @property
    def is_shared(self) -> bool:
        """Whether the state itself is on servers."""
        return self.root.parent.name == SHARED

    @property
    def label(self) -> str:
        """The template for messages and tables, relative to the working directory if below."""
        name = "" if self.template == _DIRECTORY_TEMPLATE else unquote(self.template)
        path = self.root.parent / name if self.root.name == FOLDER else Path(name)
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


class StateRef(Struct, frozen=True):
    """One state: its local folder, its store, and the settings that hold for it."""

    folder: StateFolder
    store: Store
    settings: config.Settings

    @property
    def backups(self) -> str:
        """The folder or URL of the backups, for messages."""
        return f"{self.store.location}/{'files/' if self.folder.is_shared else ''}backups"

    @property
    def circuit_breaker(self) -> CircuitBreaker:
        """That of the store, shared by all processes of this user on this machine."""
        if self.folder.is_shared:
            from packer_fork.manager import shared_store

            return shared_store.circuit_breaker(self.settings)
        return CircuitBreaker(self.store.location)

    @property
    def outbox(self) -> Path | None:
        """The folder for results that the store does not take; None for the folder of the logs."""
        chosen, here = self.settings.outbox, self.folder
        if not chosen:
            return here.folder / "outbox" if here.is_shared else None
        root = here.root.name if here.is_shared else quote(str(here.root.resolve()), safe="")
        return Path(chosen) / root[-_LONGEST_NAME:] / here.template / here.workspace


def find_template(given: str) -> Template:
    """Raises TemplateError if the file or directory is missing or cannot be read."""
    if given == "-":
        raise TemplateError(
            "a template from standard input has no place for its state",
            hint="write it to a file and name that, or run `packer build -` itself",
        )
    path = Path(os.path.realpath(given))
    if not (_is_utf8(path) and _is_utf8(Path.cwd())):
        raise TemplateError(
            f"the path of {given} is not UTF-8, so no state can name it",
            hint="rename the file or its folders",
        )
    if not given or not os.path.exists(path):  # noqa: PTH110 (a name may be too long to ask for)
        raise TemplateError(f"there is no template {given or repr(given)}", hint="check the path")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise TemplateError(f"cannot read the template {given}", hint="check its permissions")
    if path.is_dir() and not any(map(_is_hcl, path.iterdir())):
        raise TemplateError(
            f"the directory {given} holds no template",
            hint="Packer loads files from it that end in .pkr.hcl or .pkr.json",
        )
    return Template(given, path, project.root_of(path))


def resolve(
    template: Template, flags: Mapping[str, Any], environ: Mapping[str, str], notify: Notify
) -> StateRef:
    """The state of `template`. Raises UsageError."""
    settings, _ = config.load(project.settings_folder(template.path), environ, flags)
    folder = _state_folder(template, settings)
    owner = _owner(template.project, settings)
    return StateRef(folder, _open(folder, template.identity, settings, notify, owner), settings)


def resolve_elsewhere(
    source: StateRef, identity: str, to: str, environ: Mapping[str, str], notify: Notify
) -> StateRef:
    """The state of template `identity`, same workspace, in the store `to`. Raises UsageError."""
    settings, _ = config.load(None, environ, {"state": to, "workspace": source.folder.workspace})
    kept = structs.replace(source.settings, state=settings.state)
    root = project.root_of(Path.cwd())
    folder, owner = _folder_in_store(kept, identity, root), _owner(root, kept)
    return StateRef(folder, _open(folder, identity, kept, notify, owner), kept)


def resolve_all(
    flags: Mapping[str, Any], environ: Mapping[str, str], notify: Notify
) -> Iterator[StateRef]:
    """Every state below the working directory; `flags` may name a workspace.

    Raises UsageError, StoreError.
    """
    here = Path.cwd()
    settings, origins = config.load(project.settings_folder(here), environ, flags)
    chosen = origins["workspace"].origin != "default"
    found = [(folder, folder.label) for folder in _folders_below(here, settings.state)]
    for folder, identity in (*_on_servers(settings, here), *found):
        if not chosen or folder.workspace == settings.workspace:
            yield StateRef(folder, _open(folder, identity, settings, notify), settings)


def workspaces(ref: StateRef) -> list[str]:
    """All workspaces of the same template. Raises UsageError, StoreError."""
    if not ref.folder.is_shared:
        return local_workspaces(ref.folder)
    from packer_fork.manager import shared_store

    states = shared_store.states(ref.settings)
    return [name for identity, name in states if escape(identity) == ref.folder.template]


def local_workspaces(state: StateFolder) -> list[str]:
    """The workspaces that have a folder beside that of `state`. Raises StoreError."""
    return _folders(state.root / state.template)


class LoadedSettings(Struct, frozen=True):
    """``file``: the packer-fork.toml that was read, if any; ``origins``: each setting by name."""

    settings: config.Settings
    origins: Mapping[str, config.Setting]
    file: Path | None


def load_settings(
    template: str | None, flags: Mapping[str, Any], environ: Mapping[str, str]
) -> LoadedSettings:
    """The settings for a template, or for the working directory.

    Raises TemplateError if there is no such template, UsageError for a bad setting.
    """
    path = Path.cwd() if template is None else find_template(template).path
    folder = project.settings_folder(path)
    settings, origins = config.load(folder, environ, flags)
    return LoadedSettings(settings, origins, folder / config.FILE_NAME if folder else None)


def escape(name: str) -> str:
    """`name` as one part of a path, which begins with no dot and, but for the root, no @."""
    if name == ".":
        return _DIRECTORY_TEMPLATE
    escaped = quote(os.fsencode(name), safe="")
    if escaped.startswith("."):
        escaped = f"%2E{escaped[1:]}"
    if len(escaped) <= _LONGEST_NAME:
        return escaped
    from hashlib import sha256

    return f"{escaped[:_LONGEST_NAME]}~{sha256(os.fsencode(name)).hexdigest()[:16]}"


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_hcl(path: Path) -> bool:
    return path.name.endswith((".pkr.hcl", ".pkr.json"))


def _state_folder(found: Template, settings: config.Settings) -> StateFolder:
    """Raises UsageError for the URL of an unknown kind of store."""
    if settings.state:
        return _folder_in_store(settings, found.identity, found.project)
    if found.path.is_dir():
        root, name = found.path / FOLDER, _DIRECTORY_TEMPLATE
    else:
        root, name = found.path.parent / FOLDER, escape(found.path.name)
    return StateFolder(root, name, settings.workspace)


def _folder_in_store(settings: config.Settings, identity: str, root: Path) -> StateFolder:
    """The folder of a template in the folder of all states, or of its files beside servers.

    Raises UsageError.
    """
    if "://" in settings.state:
        from packer_fork.manager import shared_store

        local = root / FOLDER / SHARED / shared_store.local_name(settings)
        return StateFolder(local, escape(identity), settings.workspace)
    return StateFolder(Path(os.path.realpath(settings.state)), escape(identity), settings.workspace)


def _folders_below(start: Path, state: str) -> Iterator[StateFolder]:
    """Every state below `start`, and every one in the folder `state` if that is set.

    Raises StoreError.
    """
    given = [Path(os.path.realpath(state))] if state and "://" not in state else []
    roots = [*given]
    for parent, folders, _ in os.walk(start):
        found = Path(parent) / FOLDER
        if FOLDER in folders and found.resolve() not in given:
            roots.append(found)
        depth = len(Path(parent).relative_to(start).parts)
        folders[:] = sorted(set(folders) - _NOT_SEARCHED - {FOLDER}) if depth < _DEEPEST else []
    for root in roots:
        for name in _folders(root):
            for workspace in _folders(root / name) if name != SHARED else ():
                yield StateFolder(root, name, workspace)


def _folders(path: Path) -> list[str]:
    """Raises StoreError for a folder that cannot be listed: it may hold states."""
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(
            f"cannot read the states in {path}: {error.strerror}",
            hint="ask its owner, or keep states of your own elsewhere with --state DIR",
        ) from error


def _on_servers(settings: config.Settings, here: Path) -> list[tuple[StateFolder, str]]:
    if "://" not in settings.state:
        return []
    from packer_fork.manager import shared_store

    root = project.root_of(here)
    states = [
        (identity, structs.replace(settings, workspace=workspace))
        for identity, workspace in shared_store.states(settings)
    ]
    return [(_folder_in_store(its, identity, root), identity) for identity, its in states]


def _owner(root: Path, settings: config.Settings) -> Project | None:
    """The marks of the project; None beside the template, where no other project comes."""
    if not settings.state:
        return None
    return project.marks_of(root, settings.project, is_shared="://" in settings.state)


def _open(
    folder: StateFolder,
    identity: str,
    settings: config.Settings,
    notify: Notify,
    owner: Project | None = None,
) -> Store:
    """The store of that state, for `owner` or whatever project; reads nothing yet.

    Raises UsageError.
    """

    def complain(text: str) -> None:
        notify(Notice(level="warning", text=text))

    if folder.is_shared:
        from packer_fork.manager import shared_store

        key = f"{folder.template}/{folder.workspace}"
        return shared_store.open_store(
            settings,
            key,
            identity,
            local=folder.folder,
            root=folder.root,
            complain=complain,
            owner=owner,
        )
    return LocalStore(
        folder.folder,
        root=folder.root,
        template=identity,
        workspace=folder.workspace,
        complain=complain,
        project=owner,
        group=settings.shared_with_group,
    )
