"""The Packer program: where it is, and how old it is."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from packer_fork import durable
from packer_fork.errors import PackerError
from packer_fork.malformed import MALFORMED
from packer_fork.packer.flags import PackerFlags

OLDEST = (1, 6, 0)

_VERSION_SECONDS = 10.0
_MOST_VERSIONS = 20
_LONGEST_REASON = 200
_MAX_MEMORY = 1 << 16
_BINARIES = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""How programs for Linux and macOS begin (elf(5), mach-o/loader.h)."""

_VERSION = re.compile(r"(?:Packer v)?((\d+)\.(\d+)\.(\d+)\S*)")
_GET_IT = (
    "Get it from https://developer.hashicorp.com/packer/install or your distribution, "
    "or name it with PACKER_FORK_PACKER."
)
_MISSING_PLUGIN = (
    r"Did you run packer init|following plugins are required, but not installed"
    r"|no plugin installed for|likely part of a plugin that is not installed"
)
"""Packer 1.7 and later, in the words of its releases up to 1.16."""


class Program(Struct, frozen=True):
    """A Packer that can be used. ``version_text`` is as it says, ``1.12.0-dev`` for example."""

    path: str
    version: tuple[int, int, int]
    version_text: str


_OURS = "PACKER_FORK_"
"""Variables of ours, with passwords among them, begin so."""


def find(configured: str | None) -> Program:
    """The Packer at the path or name `configured`, or on PATH.

    Raises PackerError if it is missing, too old, or another program of that name.
    """
    name = configured or "packer"
    path = _search(name)
    if path is None:
        raise PackerError(f"Packer was not found: there is no program {name}.", hint=_GET_IT)
    path = os.path.abspath(path)  # noqa: PTH100 (resolving links would change its name)
    program = _identify(path)
    if program.version < OLDEST:
        text = f"{path} is Packer {program.version_text}; 1.6.0 or later is needed."
        raise PackerError(text, hint=_GET_IT)
    return program


def _search(name: str) -> str | None:
    """As ``shutil.which``, whose module imports all archive formats."""
    path = [] if os.environ.get("PATH") == "" else os.get_exec_path()
    folders = [""] if os.path.dirname(name) else path  # noqa: PTH120
    paths = (os.path.join(folder, name) for folder in folders)  # noqa: PTH118
    return next((p for p in paths if os.path.isfile(p) and os.access(p, os.X_OK)), None)  # noqa: PTH113


def _identify(path: str) -> Program:
    memory = _VersionMemory(path)
    said = memory.recall()
    if said is None:
        said = _ask_version(path)
        memory.keep(said)
    found = _VERSION.fullmatch(said)
    if found is None:
        raise PackerError(
            f"{path} is not HashiCorp's Packer, but another program of that name.", hint=_GET_IT
        )
    return Program(path, (int(found[2]), int(found[3]), int(found[4])), found[1])


def _ask_version(path: str) -> str:
    """By ``--version``, which does not phone home as ``version`` does."""
    import subprocess

    from packer_fork.packer.question import ask

    environ = {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}
    try:
        answer = ask([path, "--version"], environ, seconds=_VERSION_SECONDS)
    except subprocess.TimeoutExpired:
        raise PackerError(f"{path} does not tell its version in time.", hint=_GET_IT) from None
    except OSError as error:
        raise PackerError(f"{path} cannot be started ({error.strerror}).", hint=_GET_IT) from error
    if answer.code != 0:
        raise PackerError(
            _no_version(path, environ, answer.code),
            hint=f"Try `{path} --version`, or name another with PACKER_FORK_PACKER.",
        )
    return answer.output.partition("\n")[0].strip()


def _no_version(path: str, environ: Mapping[str, str], code: int) -> str:
    """Packer 1.7 and later give no version where they cannot load their configuration."""
    import subprocess

    from packer_fork.packer.question import ask

    reason = ""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        said = ask([path, "--version"], environ, seconds=_VERSION_SECONDS, stderr=subprocess.STDOUT)
        reason = " ".join(said.output.split())[:_LONGEST_REASON]
    return f"{path} does not tell its version: {reason or f'exit code {code}'}"


class _VersionMemory:
    """What a Packer said of its version, kept in the user's cache folder.

    It holds as long as the file is the same: path, size, mtime, ctime and inode. A script
    is asked each time, as the Packer that it starts may depend on the folder or change by itself.
    """

    def __init__(self, path: str) -> None:
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        home = Path(os.environ.get("HOME", ""))
        folder = given if given.is_absolute() else home / ".cache"
        self._key = signature(Path(path).resolve()) if folder.is_absolute() else ""
        self._file = folder / "packer-fork" / "packer-versions.json"
        self._known: dict[str, str] = {}

    def recall(self) -> str | None:
        """None where it is not known, or the memory cannot be read."""
        if not self._key:
            return None
        try:
            data = durable.read(self._file, _MAX_MEMORY)
            self._known = msgspec.json.decode(data or b"{}", type=dict[str, str])
        except (OSError, *MALFORMED):
            return None
        return self._known.get(self._key)

    def keep(self, said: str) -> None:
        if not self._key or not _VERSION.fullmatch(said):
            return
        newest = list(self._known.items())[-_MOST_VERSIONS:]
        with contextlib.suppress(OSError):
            durable.make_folder(self._file.parent)
            data = msgspec.json.encode({**dict(newest), self._key: said})
            durable.replace(self._file, data, durable=False)


def signature(path: Path) -> str:
    """What a binary is known by; empty for all else."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in _BINARIES:
                return ""
            found = os.fstat(file.fileno())
    except OSError:
        return ""
    numbers = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return f"{path} {' '.join(map(str, numbers))}"


def build_command(program: Program, flags: PackerFlags, template: str) -> tuple[str, ...]:
    return (program.path, "build", "-machine-readable", *flags.as_arguments(), template)


def inspect_command(program: Program, flags: PackerFlags, template: str) -> tuple[str, ...]:
    """The output has the values of variables, sensitive ones as well: never log or show it."""
    arguments = flags.variable_arguments()
    return (program.path, "inspect", "-machine-readable", *arguments, template)


def interactive_command(program: Program, flags: PackerFlags, template: str) -> tuple[str, ...]:
    return (program.path, "build", *flags.as_arguments(), template)


def missing_plugin_hint(text: str, template: str) -> str:
    """What to do if Packer's error `text` tells of a plugin that is not installed, else empty."""
    return (
        f"Run `packer-fork init {template}`."
        if re.search(_MISSING_PLUGIN, " ".join(text.split()))
        else ""
    )
