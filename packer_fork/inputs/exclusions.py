"""What never counts as an input: what builds make, our own state, version control, the ignored."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from packer_fork.inputs import globs, texts
from packer_fork.inputs.mentions import ANYTHING, Parsed
from packer_fork.inputs.request import InputsRequest
from packer_fork.inputs.value_roles import ValueRole

_NEVER = frozenset((".packer-fork", "packer_cache", ".git", "__pycache__"))
_DEFAULTS = ("packer-manifest.json", f"packer_{ANYTHING}_{ANYTHING}", "crash.log")
"""What builders and post-processors write where no output is named."""

_RUNTIME = re.compile(r"\{\{.*?\}\}", re.DOTALL)


class Exclusions:
    """Called with an absolute path, answers whether it is left out."""

    def __init__(
        self, request: InputsRequest, parsed: Parsed, values: Mapping[str, object]
    ) -> None:
        self._root = os.path.realpath(request.root)
        self._ignored = [globs.pattern(glob) for glob in request.ignore]
        self._exact = {request.here(os.path.abspath(p)) for p in request.outputs}  # noqa: PTH100
        self._open: list[re.Pattern[str]] = []
        folder = os.path.realpath(request.directory)
        kept = [*map(str, request.folders), self._root]
        for output in _outputs(request, parsed, values):
            self._leave_out(os.path.normpath(os.path.join(folder, request.here(output))), kept)  # noqa: PTH118

    def _leave_out(self, output: str, kept: Iterable[str]) -> None:
        """An output; one that holds the project itself says nothing."""
        if any(f"{folder}/".startswith(f"{output.rstrip('/')}/") for folder in kept):
            return
        if ANYTHING not in output:
            self._exact.add(output)
        elif output.rpartition("/")[2].strip(ANYTHING) or ANYTHING in output.rpartition("/")[0]:
            self._open.append(globs.unknown_parts(output))

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
        if any(above in self._exact for above in _and_above(path)):
            return True
        return any(pattern.fullmatch(path) for pattern in self._open)


def _and_above(path: str) -> Iterable[str]:
    while path and path != "/":
        yield path
        path = path.rpartition("/")[0]


def _outputs(request: InputsRequest, parsed: Parsed, values: Mapping[str, object]) -> Iterable[str]:
    yield from _DEFAULTS
    yield from (f"output-{source.rpartition('.')[2]}" for source in parsed.sources)
    if request.environ.get("PACKER_CACHE_DIR"):
        yield request.environ["PACKER_CACHE_DIR"]
    for mention, role in texts.with_roles(parsed.mentions, values):
        if role is ValueRole.OUTPUT:
            for text in texts.texts(mention, values):
                if open_text := _RUNTIME.sub(ANYTHING, text):
                    yield open_text
