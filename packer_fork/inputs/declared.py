"""The inputs that a template declares, as they are now, and what of them is kept.

What a template refers to is found by asking Packer, and parsing; what these references hold is
looked at anew each time. `References` are the first without the second: as long as their
trace holds, `declared_by` gives of them what ``collect`` would, without Packer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct, structs

from packer_fork.inputs.cache import DigestCache, Known
from packer_fork.inputs.exclusions import Exclusions, Outputs
from packer_fork.inputs.record import TemplateInputs
from packer_fork.inputs.request import InputsRequest
from packer_fork.inputs.trace import LeavesOut, Trace
from packer_fork.inputs.tree import EXCLUDED, IGNORED, file_state, keyed
from packer_fork.inputs.unknowns import Unknowable
from packer_fork.template.contents import At, Mention
from packer_fork.template.planned import PlannedBuild


class Provenance(Struct, frozen=True, kw_only=True):
    """How the inputs of one build are known.

    ``places``: where sections and locals of the template begin, by label. ``files``: by
    entry, what names a file or folder first in the template; None if no text does. ``globbed``:
    entries that ``input_globs`` name. ``unknown``: what cannot be known, so that the build is made;
    ``trusted``: what the user trusts instead. ``untracked``: what bears on the build, and
    does not count.
    """

    places: Mapping[str, At]
    files: Mapping[str, Mention | None]
    globbed: frozenset[str]
    unknown: tuple[Unknowable, ...]
    trusted: tuple[Unknowable, ...]
    untracked: tuple[Unknowable, ...]


class Declared(Struct, frozen=True, kw_only=True):
    """What is known before Packer runs.

    ``root``: real path of the project; ``folders``: of those that Packer is started in, and that
    the template is in. ``files``: every file that the template names, by absolute path, as it
    was when it was hashed; ``named`` gives those that count for a build, by its name, and
    ``said`` what the template says of it: never kept, as it may hold secrets.
    ``provenance``: how the inputs of each build are known, by its name.
    ``loaded``: real paths of templates and variable files, which count by what they say;
    ``evaluated``: of those that Packer itself opens to evaluate the template, as by ``file()``,
    for every build. ``artifacts``: by build, absolute paths that the template names for it and
    that only other builds may make; ``makes``: whether a build, by its name, makes an absolute
    path. ``manifests``: by build, paths of the manifests that Packer tells it in, as far as
    they are known. ``is_ignored`` and ``is_output`` say whether an absolute path never counts,
    and whether builds make it. ``cache`` is the request's. ``planned``: what the template says that
    a build will run, by its name.
    """

    inputs: TemplateInputs
    root: str
    folders: frozenset[str]
    files: Mapping[str, Known]
    loaded: frozenset[str]
    evaluated: frozenset[str]
    named: Callable[[str], frozenset[str]]
    said: Callable[[str], str]
    provenance: Mapping[str, Provenance]
    artifacts: Mapping[str, frozenset[str]]
    makes: Callable[[str, str], bool]
    manifests: Mapping[str, tuple[str, ...]]
    is_ignored: Callable[[str], bool]
    is_output: Callable[[str], bool]
    cache: DigestCache
    planned: Callable[[str], PlannedBuild | None]


class References(Struct, frozen=True, kw_only=True):
    """What a template refers to, without what the files hold, and without any value.

    ``inputs``: those of each build; what stands for a file is looked at anew. ``paths``: of
    every file; ``files`` and ``named`` count in these, by entry and by build. ``evaluated``:
    see `Declared`, as for ``artifacts`` and ``manifests``; ``environment``: keyed digest of each
    variable that the template asks for, "" if it is not set; ``outputs``: as the template names
    them, ``made``: those of each build. ``trusted`` and ``untracked``: see `Provenance`.
    ``is_checked_by_paths``: see `purity`.
    """

    inputs: TemplateInputs
    paths: tuple[str, ...]
    files: dict[str, int]
    named: dict[str, tuple[int, ...]]
    evaluated: tuple[str, ...]
    environment: dict[str, str]
    outputs: tuple[str, ...]
    made: dict[str, tuple[str, ...]]
    artifacts: dict[str, tuple[str, ...]]
    manifests: dict[str, tuple[str, ...]]
    trusted: dict[str, tuple[Unknowable, ...]]
    untracked: dict[str, tuple[Unknowable, ...]]
    is_checked_by_paths: bool
    trace: Trace


class Collected(Struct, frozen=True, kw_only=True):
    """``references``: None where the next command has to ask Packer again. ``values``: what
    Packer evaluated, by expression, secrets among them.
    """

    declared: Declared
    references: References | None
    values: Mapping[str, object]
    request: InputsRequest


def declared_by(
    references: References,
    request: InputsRequest,
    said: Callable[[str], str],
    planned: Callable[[str], PlannedBuild | None],
) -> Declared | None:
    """What ``collect`` would find, by references of before; None if they no longer hold."""
    cache, excluded = request.cache, Exclusions(request, references.outputs)
    filters: dict[str, LeavesOut] = {EXCLUDED: excluded, IGNORED: excluded.is_ignored}
    if references.environment != environment_of(request, references.environment):
        return None
    if not references.trace.holds(request.key, filters, cache.digest):
        return None
    try:
        states = [file_state(path, request.key, cache) for path in references.paths]
    except OSError:
        return None
    read = loaded_files(request)
    entries = {key: states[number] for key, number in references.files.items()}
    paths = frozenset(path for path in references.paths if path not in read)
    files = {path: cache.hashed[path] for path in paths & cache.hashed.keys()}
    named = {
        name: frozenset(references.paths[number] for number in numbers) & files.keys()
        for name, numbers in references.named.items()
    }
    makers = {
        name: Outputs(request, texts, request.outputs.get(name, ()))
        for name, texts in references.made.items()
    }
    return Declared(
        inputs=structs.replace(references.inputs, common=references.inputs.common | entries),
        root=os.path.realpath(request.root),
        folders=frozenset(map(str, request.folders)),
        files=files,
        named=lambda name: named.get(name, frozenset(files)),
        said=said,
        provenance={
            name: Provenance(
                places={},
                files={},
                globbed=frozenset(),
                unknown=(),
                trusted=trusted,
                untracked=references.untracked[name],
            )
            for name, trusted in references.trusted.items()
        },
        loaded=read,
        artifacts={name: frozenset(paths) for name, paths in references.artifacts.items()},
        makes=lambda name, path: name in makers and makers[name].has(path),
        manifests=references.manifests,
        evaluated=frozenset(references.evaluated),
        is_ignored=excluded.is_ignored,
        is_output=excluded.is_output,
        cache=cache,
        planned=planned,
    )


def environment_of(request: InputsRequest, names: Iterable[str]) -> dict[str, str]:
    """A keyed digest of each variable, "" for one that is not set."""
    given = {name: request.environ[name] for name in names if name in request.environ}
    digests = {name: keyed(request.key, f"env {name}\0{text}") for name, text in given.items()}
    return dict.fromkeys(names, "") | digests


def loaded_files(request: InputsRequest) -> frozenset[str]:
    """Real paths of templates and variable files."""
    template = request.template
    files = (*template.files, *template.variable_files)
    return frozenset(os.path.realpath(file.path) for file in files)
