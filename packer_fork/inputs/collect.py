"""All inputs of a build, put together."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from packer_fork.errors import TemplateError
from packer_fork.inputs import evaluated, loaded, unknowns
from packer_fork.inputs.cache import DigestCache, Known
from packer_fork.inputs.exclusions import Exclusions
from packer_fork.inputs.lookup import Lookup
from packer_fork.inputs.mentions import Parsed
from packer_fork.inputs.record import Inputs
from packer_fork.inputs.request import InputsRequest
from packer_fork.inputs.tree import TooManyFilesError, Tree, keyed


class Declared(Struct, frozen=True, kw_only=True):
    """What is known before Packer runs.

    ``root``: real path of the project; ``folders``: of those that Packer is started in, and that
    the template is in. ``files``: every file that the template names, by absolute path, as it
    was when it was hashed; ``loaded``: real paths of those that Packer loads itself, which count
    by what they say. ``named`` gives the names in ``files`` that count for a build, by its name.
    ``is_ignored`` and ``is_output`` tell of absolute paths that never count, and that builds
    make. ``cache`` is the request's.
    """

    inputs: Inputs
    root: str
    folders: frozenset[str]
    files: Mapping[str, Known]
    loaded: frozenset[str]
    named: Callable[[str], frozenset[str]]
    is_ignored: Callable[[str], bool]
    is_output: Callable[[str], bool]
    cache: DigestCache


def collect(request: InputsRequest) -> Declared:
    """The inputs as they are now; what cannot be known is named in the answer.

    Raises TemplateError if a file that Packer would load cannot be read.
    """
    parsed, unclear = _parse(request)
    told = request.evaluate(evaluated.expressions(parsed))
    values = told or {}
    excluded = Exclusions(request, parsed, values)
    root = Path(os.path.realpath(request.root))
    tree = Tree(root, request.key, request.cache, excluded, request.max_files)
    _add_loaded(request, tree, skip_variables=bool(request.ignore_vars) and told is not None)
    unclear += _add_files(request, tree, parsed, values)
    unclear += [*tree.unreadable, *evaluated.missing(request, parsed, told)]
    unclear += unknowns.of_template(parsed, values)
    files = {path: known for path, known in request.cache.hashed.items() if path not in tree.loaded}
    return Declared(
        inputs=Inputs(
            entries=dict(sorted((tree.entries | dict(_others(request, parsed, values))).items())),
            unknown=unknowns.without_assumed(unclear, request.assume_unchanged),
        ),
        root=str(root),
        folders=frozenset(map(str, request.folders)),
        files=files,
        loaded=frozenset(tree.loaded),
        named=lambda _: frozenset(files),
        is_ignored=excluded.is_ignored,
        is_output=excluded.is_output,
        cache=request.cache,
    )


def _parse(request: InputsRequest) -> tuple[Parsed, list[str]]:
    try:
        files = {path: loaded.parse(path) for path in loaded.template_files(request.template)}
    except OSError as error:
        raise _unreadable(error) from error
    unclear = [f"template {path.name}" for path, file in files.items() if not file.intelligible]
    return loaded.together(list(files.values())), unclear


def _add_loaded(request: InputsRequest, tree: Tree, *, skip_variables: bool) -> None:
    """Bytes of templates and variable files.

    Where variables are ignored, the bytes of files that assign them say too much; all
    that such files can change shows in the evaluated variables.
    """
    given = [request.directory / name for name in request.var_files]
    try:
        for path in loaded.template_files(request.template):
            tree.add_loaded("template", path)
        if not skip_variables:
            for path in [*loaded.automatic_variable_files(request.template), *given]:
                tree.add_loaded("var-file", path)
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> TemplateError:
    return TemplateError(
        f"{error.filename or 'The template'} cannot be read: {error.strerror}.",
        hint="Check the path and its permissions.",
    )


def _add_files(
    request: InputsRequest, tree: Tree, parsed: Parsed, values: Mapping[str, object]
) -> list[str]:
    lookup = Lookup(request, tree)
    try:
        lookup.add_all(parsed, values)
        if any("ansible" in mention.block for mention in parsed.mentions):
            lookup.add_beside("ansible.cfg")
        for glob in request.input_globs:
            lookup.add_glob(glob)
    except TooManyFilesError:
        return [f"more than {request.max_files} files"]
    return []


def _others(
    request: InputsRequest, parsed: Parsed, values: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    yield from evaluated.entries(request, parsed, values)
    yield "packer", request.packer_version
    yield from _plugins(request)
    yield from ((f"flag -{flag}", "given") for flag in request.flags)
    yield "working-directory", os.path.relpath(request.directory.resolve(), request.root.resolve())
    for name in request.input_env:
        if name in request.environ:
            text = f"env {name}\0{request.environ[name]}"
            yield f"env {name}", keyed(request.key, text)


_PLUGIN_PREFIX = re.compile(r"(?:.*/)?(?:packer-(?:post-processor|[a-z]+)-)?")


def _plugins(request: InputsRequest) -> Iterator[tuple[str, str]]:
    """Those in use: types begin with a plugin's name, or ``required_plugins`` has its address."""
    paths = loaded.template_files(request.template)
    text = "\n".join(path.read_text("utf-8", "replace") for path in paths)
    for name, version in request.plugins.items():
        short = re.escape(_PLUGIN_PREFIX.sub("", name, count=1))
        if re.search(rf"(?<![A-Za-z0-9]){short}", text):
            yield f"plugin {name}", version
