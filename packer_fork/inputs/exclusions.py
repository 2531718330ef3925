"""What never counts as an input: what builds make, our own state, version control, the ignored."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from packer_fork.inputs import globs
from packer_fork.inputs.request import InputsRequest
from packer_fork.inputs.texts import Values, with_roles
from packer_fork.template.contents import ANYTHING, Mention
from packer_fork.template.value_roles import ValueRole

_NEVER = frozenset((".packer-fork", "packer_cache", ".git", "__pycache__"))
MANIFEST = "packer-manifest.json"
_DEFAULTS = (MANIFEST, f"packer_{ANYTHING}_{ANYTHING}", "crash.log")
"""What builders and post-processors write where no output is named."""


class Outputs:
    """What builds write, by absolute path: all that is below these, too."""

    def __init__(self, request: InputsRequest, texts: Iterable[str], made: Iterable[Path]) -> None:
        """`texts`: as the template names outputs; `made`: what earlier runs made."""
        self._exact = {request.here(os.path.abspath(path)) for path in made}  # noqa: PTH100
        self._open: list[re.Pattern[str]] = []
        folder = os.path.realpath(request.directory)
        kept = [*map(str, request.folders), os.path.realpath(request.root)]
        self.texts = tuple(filter(None, texts))
        for text in self.texts:
            self._add(os.path.normpath(os.path.join(folder, request.here(text))), kept)  # noqa: PTH118

    def _add(self, output: str, kept: Iterable[str]) -> None:
        """An output; one that holds the project itself says nothing."""
        if any(f"{folder}/".startswith(f"{output.rstrip('/')}/") for folder in kept):
            return
        if ANYTHING not in output:
            self._exact.add(output)
        elif output.rpartition("/")[2].strip(ANYTHING) or ANYTHING in output.rpartition("/")[0]:
            self._open.append(globs.unknown_parts(output, across=False))

    def has(self, path: str) -> bool:
        """Whether this very path, or a folder above it, is an output."""
        return any(above in self._exact for above in _and_above(path))

    def may_have(self, path: str) -> bool:
        """Whether it is one, or could be by a pattern with unknown parts."""
        return self.has(path) or any(pattern.fullmatch(path) for pattern in self._open)


class Exclusions:
    """Called with an absolute path, answers whether it is left out if nothing names it."""

    def __init__(self, request: InputsRequest, texts: Iterable[str]) -> None:
        """`texts`: outputs as the template names them."""
        self._root = os.path.realpath(request.root)
        self._ignored = [globs.pattern(glob) for glob in request.ignore]
        made = [path for paths in request.outputs.values() for path in paths]
        self._outputs = Outputs(request, texts, made)
        self._born = Outputs(request, (), request.born)

    def __call__(self, path: str) -> bool:
        return self.is_ignored(path) or self.is_output(path)

    def is_ignored(self, path: str) -> bool:
        """Whether it never counts, even if Packer reads it."""
        inside = path[len(self._root) + 1 :] if path.startswith(f"{self._root}/") else ""
        if not _NEVER.isdisjoint((inside or path.removeprefix(self._root)).split("/")):
            return True
        return bool(inside) and any(p.fullmatch(inside) for p in self._ignored)

    def is_output(self, path: str) -> bool:
        """Whether builds make it, by what the template says and by what they made before."""
        return self._outputs.may_have(path) or self._born.has(path)

    def is_product(self, path: str) -> bool:
        """Whether it was born in an earlier run, and no build says that it makes it."""
        return self._born.has(path) and not self._outputs.has(path)

    def is_made(self, path: str) -> bool:
        """Whether a build makes this very path: only a pattern hides no file that is named."""
        return self._outputs.has(path)


def _and_above(path: str) -> Iterable[str]:
    while path and path != "/":
        yield path
        path = path.rpartition("/")[0]


def output_texts(
    request: InputsRequest, mentions: Sequence[Mention], sources: Iterable[str], values: Values
) -> Iterable[str]:
    """Outputs as a template names them, and what is written where it names none.

    `sources`: the names of the builds.
    """
    yield from _DEFAULTS
    yield from (f"output-{source}" for source in sources)
    if request.environ.get("PACKER_CACHE_DIR"):
        yield request.environ["PACKER_CACHE_DIR"]
    for mention, role in with_roles(mentions, values):
        if role is ValueRole.OUTPUT:
            yield from values.texts(mention)
