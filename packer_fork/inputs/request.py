"""What the caller has to say before the inputs of a build can be collected."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from packer_fork.inputs.cache import DigestCache
from packer_fork.template.contents import Evaluate
from packer_fork.template.reader import ParsedTemplate

MAX_FILES = 200_000


class CommandOutput(Struct, frozen=True, kw_only=True):
    """What one of ``input_commands`` printed: ``command`` as it is typed, ``digest`` of its
    output; ``failure`` says why that is not known, else empty.
    """

    command: str
    digest: str = ""
    failure: str = ""


class InputsRequest(Struct, frozen=True, kw_only=True):
    """One template as it would be built now. Paths are absolute.

    ``builds``: by the names of those that it makes, what the template calls them.
    ``root``: the project, which names are
    relative to. ``directory``: where Packer is started. ``key``: what digests are keyed
    by. ``assignments``: the values of -var, in order.
    ``flags``: those given that bear on the result, such as ``ignore-prerelease-plugins``.
    ``plugins``: version by name, or ``sha256:...`` of an unversioned one; those that the
    template does not speak of are left out. ``outputs``: by build, files and folders that earlier
    runs made; ``born``: other files that were born in them. ``input_globs`` (more files) and
    ``ignore`` are globs relative to ``root``, ``**`` for any depth. ``command_outputs``: what
    ``input_commands`` printed just now. ``assume_unchanged``: names (or globs) of what cannot be
    known and is trusted all the same. ``cache``: where digests of files are remembered.
    """

    template: ParsedTemplate
    builds: Mapping[str, str]
    root: Path
    directory: Path
    key: bytes
    evaluate: Evaluate
    environ: Mapping[str, str]
    packer_version: str
    plugins: Mapping[str, str] = {}
    assignments: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    outputs: Mapping[str, tuple[Path, ...]] = {}
    born: tuple[Path, ...] = ()
    input_globs: tuple[str, ...] = ()
    input_env: tuple[str, ...] = ()
    command_outputs: tuple[CommandOutput, ...] = ()
    ignore: tuple[str, ...] = ()
    ignore_vars: frozenset[str] = frozenset()
    assume_unchanged: frozenset[str] = frozenset()
    cache: DigestCache
    max_files: int = MAX_FILES

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where a relative path in the template may lead from, real paths, Packer's own first."""
        given, real = self._template_folder, self.template.path.resolve()
        own = real if real.is_dir() else real.parent
        return tuple(dict.fromkeys((self.directory.resolve(), given.resolve(), own)))

    @property
    def _template_folder(self) -> Path:
        path = self.template.path
        return path if path.is_dir() else path.parent

    @property
    def places(self) -> tuple[str, ...]:
        """The project's root as it may be spelt: real, as given, and as the shell calls it."""
        real = os.path.realpath(self.root)
        found = {str(self.root), real}
        below = os.path.relpath(os.path.realpath(self.directory), real)
        shell = self.environ.get("PWD", "")
        if below == ".":
            found.add(shell)
        elif shell.endswith(f"/{below}"):
            found.add(shell.removesuffix(f"/{below}"))
        known = (place for place in found if len(place) > 1)
        return tuple(sorted(known, key=len, reverse=True))

    @property
    def named_places(self) -> dict[str, str]:
        """Folders by what stands for them in a template."""
        here, template = str(self.directory.resolve()), str(self._template_folder.resolve())
        return {"path.cwd": here, "pwd": here, "path.root": template, "template_dir": template}

    def here(self, text: str) -> str:
        """`text` with the project's root, if it begins with that, in its real spelling."""
        for place in self.places:
            if text == place or text.startswith(f"{place}/"):
                return os.path.realpath(self.root) + text[len(place) :]
        return text
