"""Where things are: the template's identity, its project, the folders of its states.

A template is its real path relative to the project's root: the folder of
packer-fork.toml, else the git root, else its own folder. Beside the template its
state lives in ``.packer-fork/<file name>/<workspace>``; in a folder given by
``--state`` in ``<identity>/<workspace>``. Names are percent-encoded on the way, so
that none of them can become another path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from msgspec import Struct

from packer_fork import config
from packer_fork.errors import StoreError, TemplateError

FOLDER = ".packer-fork"
SHARED = "@shared"
"""Below FOLDER: what stands on this machine of states on servers."""

_OF_A_DIRECTORY = "@directory"
_LONGEST = 200
_DEEPEST = 12
_NOT_SEARCHED = frozenset({".git", "node_modules", "__pycache__", ".venv", "packer_cache"})


class Template(Struct, frozen=True):
    """A template that exists. ``given`` is how the user wrote it, and what Packer is given."""

    given: str
    path: Path
    project: Path

    @property
    def identity(self) -> str:
        return self.path.relative_to(self.project).as_posix()


class StateFolder(Struct, frozen=True):
    """The folder of one template and workspace; ``root`` holds the states of many."""

    root: Path
    template: str
    workspace: str

    @property
    def folder(self) -> Path:
        return self.root / self.template / self.workspace

    @property
    def is_shared(self) -> bool:
        """Whether the state itself stands on servers."""
        return self.root.parent.name == SHARED

    @property
    def label(self) -> str:
        """The template for messages and tables, relative to the working directory if below."""
        name = "" if self.template == _OF_A_DIRECTORY else unquote(self.template)
        path = self.root.parent / name if self.root.name == FOLDER else Path(name)
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def template(given: str) -> Template:
    """Raises TemplateError if there is no such file or directory, or it cannot be read."""
    if given == "-":
        raise TemplateError(
            "A template from standard input has no place for its state.",
            hint="Write it to a file and give its name, or run `packer build -` itself.",
        )
    path = Path(os.path.realpath(given))
    if not (_is_utf8(path) and _is_utf8(Path.cwd())):
        raise TemplateError(
            f"The path of {given} is not UTF-8, which a state cannot name.",
            hint="Rename the file or its folders.",
        )
    if not given or not os.path.exists(path):  # noqa: PTH110 (a name may be too long to ask for)
        raise TemplateError(f"There is no template {given or repr(given)}.", hint="Check the path.")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise TemplateError(f"The template {given} cannot be read.", hint="Check its permissions.")
    if path.is_dir() and not any(map(_is_hcl, path.iterdir())):
        raise TemplateError(
            f"The directory {given} holds no template.",
            hint="Packer loads files from it that end in .pkr.hcl or .pkr.json.",
        )
    return Template(given, path, project_of(path))


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_hcl(path: Path) -> bool:
    return path.name.endswith((".pkr.hcl", ".pkr.json"))


def project_of(path: Path) -> Path:
    """The root that identities are relative to."""
    own = path if path.is_dir() else path.parent
    for mark in (config.FILE_NAME, ".git"):
        for folder in (own, *own.parents):
            if (folder / mark).exists():
                return folder
    return own


def settings_folder(path: Path) -> Path | None:
    """The folder of the packer-fork.toml that speaks for `path`, if any."""
    own = path if path.is_dir() else path.parent
    return next((f for f in (own, *own.parents) if (f / config.FILE_NAME).is_file()), None)


def state_folder(found: Template, settings: config.Settings) -> StateFolder:
    """Raises UsageError for a store that there is not."""
    if settings.state:
        return folder_in(settings, found.identity, found.project)
    if found.path.is_dir():
        root, name = found.path / FOLDER, _OF_A_DIRECTORY
    else:
        root, name = found.path.parent / FOLDER, escape(found.path.name)
    return StateFolder(root, name, settings.workspace)


def folder_in(settings: config.Settings, identity: str, project: Path) -> StateFolder:
    """The folder of a template in the folder of all states, or of what is on servers.

    Raises UsageError.
    """
    if "://" in settings.state:
        from packer_fork.manager import servers

        root = project / FOLDER / SHARED / servers.name_of(settings)
        return StateFolder(root, escape(identity), settings.workspace)
    return StateFolder(Path(os.path.realpath(settings.state)), escape(identity), settings.workspace)


def escape(name: str) -> str:
    """`name` as one part of a path, which begins with no dot and, but for the root, no @."""
    if name == ".":
        return _OF_A_DIRECTORY
    escaped = quote(os.fsencode(name), safe="")
    if escaped.startswith("."):
        escaped = f"%2E{escaped[1:]}"
    if len(escaped) <= _LONGEST:
        return escaped
    from hashlib import sha256

    return f"{escaped[:_LONGEST]}~{sha256(os.fsencode(name)).hexdigest()[:16]}"


def below(start: Path, state: str) -> Iterator[StateFolder]:
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


def workspaces(state: StateFolder) -> list[str]:
    """Those that have a folder beside that of `state`. Raises StoreError."""
    return _folders(state.root / state.template)


def _folders(path: Path) -> list[str]:
    """Raises StoreError for one that is there and cannot be listed: it may hold states."""
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(
            f"Cannot read the states in {path}: {error.strerror}.",
            hint="Ask its owner, or keep states of your own elsewhere with --state DIR.",
        ) from error
