"""All inputs of a build, put together."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from packer_fork.inputs import evaluated, unknowns
from packer_fork.inputs.cache import DigestCache, Known
from packer_fork.inputs.dependence import Dependence, dependence
from packer_fork.inputs.exclusions import Exclusions, Outputs, output_texts
from packer_fork.inputs.lookup import Lookup
from packer_fork.inputs.record import COMMAND, Inputs, TemplateInputs, template_inputs
from packer_fork.inputs.request import InputsRequest
from packer_fork.inputs.texts import Values
from packer_fork.inputs.tree import TooManyFilesError, Tree, keyed
from packer_fork.inputs.unknowns import Unknowable
from packer_fork.template.contents import ANY_TYPE, At, Contents, Mention, Section
from packer_fork.template.planned import PlannedBuild, planned


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
    path. ``is_ignored`` and ``is_output`` say whether an absolute path never counts,
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
    is_ignored: Callable[[str], bool]
    is_output: Callable[[str], bool]
    cache: DigestCache
    planned: Callable[[str], PlannedBuild | None]


def collect(request: InputsRequest) -> Declared:
    """The inputs as they are now; what cannot be known is named in the answer."""
    template = request.template
    parsed = template.contents
    told = evaluated.values(request, parsed)
    values = Values(told or {}, parsed.definitions, request.named_places)
    excluded = Exclusions(request, parsed, values)
    collector = _Collector(request, told, values, excluded)
    builds = {name: collector.build(name, called) for name, called in request.builds.items()}
    sources = (*template.files, *template.variable_files)
    loaded = frozenset(os.path.realpath(file.path) for file in sources)
    files = {path: known for path, known in request.cache.hashed.items() if path not in loaded}
    named = {name: each.files & files.keys() for name, each in builds.items()}
    return Declared(
        inputs=template_inputs({name: (each.own, each.inputs) for name, each in builds.items()}),
        root=os.path.realpath(request.root),
        folders=frozenset(map(str, request.folders)),
        files=files,
        named=lambda name: named.get(name, frozenset(files)),
        said=lambda name: builds[name].said if name in builds else "",
        provenance={name: each.provenance for name, each in builds.items()},
        loaded=loaded,
        evaluated=collector.evaluated(),
        artifacts={name: each.artifacts for name, each in builds.items()},
        makes=lambda name, path: name in builds and builds[name].outputs.has(path),
        is_ignored=excluded.is_ignored,
        is_output=excluded.is_output,
        cache=request.cache,
        planned=lambda name: planned(parsed.sections, request.builds.get(name, name), told or {}),
    )


class _Found(Struct, frozen=True):
    """Entries of files, what cannot be known of them, their paths; of entries of what builds make
    the paths; all paths that the template names.
    """

    entries: dict[str, str]
    unknown: tuple[str, ...]
    files: frozenset[str]
    mentions: Mapping[str, Mention | None]
    made: Mapping[str, str] = {}
    named: frozenset[str] = frozenset()


_Names = tuple[tuple[str, tuple[str, ...]], ...]


class _Build(Struct, frozen=True):
    own: dict[str, str]
    inputs: Inputs
    files: frozenset[str]
    artifacts: frozenset[str]
    outputs: Outputs
    said: str
    provenance: Provenance


class _Collector:
    """Collects build by build; what a section of the template names is looked up once."""

    def __init__(
        self,
        request: InputsRequest,
        told: Mapping[str, object] | None,
        values: Values,
        excluded: Exclusions,
    ) -> None:
        self._request = request
        self._parsed = request.template.contents
        self._told = told
        self._values = values
        self._excluded = excluded
        self._sections: dict[tuple[int, _Names], _Found] = {}
        self._everyones = self._of_every_build()

    def build(self, name: str, called: str) -> _Build:
        """By Packer's name, of the build that the template has as `called`."""
        needed = dependence(self._parsed.sections, called)
        names = {key: tuple(dict.fromkeys((*n, name))) for key, n in needed.names.items()}
        values = self._values.of_build(needed.names if name == called else names)
        found = [self._everyones, *(self._of_section(each, values) for each in needed.sections)]
        own = self._outputs(name, needed, values)
        entries = {
            key: text
            for each in found
            for key, text in each.entries.items()
            if key not in each.made or not own.has(each.made[key])
        }
        entries |= evaluated.entries(self._request, self._parsed, needed, self._told or {})
        entries |= self._unstable(needed)
        entries |= _plugins(self._request, self._parsed, needed)
        unclear = [Unknowable(what) for each in found for what in each.unknown]
        missing = evaluated.missing(self._request, self._parsed, needed, self._told)
        unclear += (Unknowable(what, setting="-var") for what in missing)
        unclear += unknowns.of_sections(needed.sections, values)
        unknown, trusted = unknowns.without_assumed(unclear, self._request.assume_unchanged)
        moving = unknowns.moving(needed.sections, values)
        untracked, ignored = unknowns.without_assumed(moving, self._request.assume_unchanged)
        return _Build(
            own={label: self._keyed(label, text) for label, text in needed.own.items()},
            inputs=Inputs(
                entries=entries,
                unknown=tuple(each.name for each in unknown),
            ),
            files=frozenset().union(*(each.files for each in found)),
            artifacts=frozenset(
                path
                for each in found
                for named in each.named
                for path in (named, os.path.realpath(named))
                if self._excluded.is_output(path) and not own.has(path)
            ),
            outputs=own,
            said="\n".join(text for each in needed.sections for text in each.tokens.values()),
            provenance=Provenance(
                places=needed.places
                | {section.label: section.at for section in needed.locals.values()},
                files={key: m for each in reversed(found) for key, m in each.mentions.items()},
                globbed=frozenset(self._everyones.mentions),
                unknown=unknown,
                trusted=(*trusted, *ignored),
                untracked=untracked,
            ),
        )

    def _outputs(self, name: str, needed: Dependence, values: Values) -> Outputs:
        """What this build makes: it counts for others that name it, not for itself."""
        mentions = [mention for section in needed.sections for mention in section.mentions]
        every = [source.rpartition(".")[2] for source in self._parsed.sources]
        sources = needed.names.get("source.name", tuple(every))
        texts = output_texts(self._request, mentions, sources, values)
        return Outputs(self._request, texts, self._request.outputs.get(name, ()))

    def evaluated(self) -> frozenset[str]:
        """Real paths of files that are read to evaluate the template, as by ``file()``."""
        tree = self._tree()
        opened = [mention for mention in self._parsed.mentions if mention.opened]
        with contextlib.suppress(TooManyFilesError):
            Lookup(self._request, tree).add_all(opened, self._values)
        return frozenset(map(os.path.realpath, tree.files))

    def _of_section(self, section: Section, values: Values) -> _Found:
        """Looked up anew for each build only where a text depends on its name."""
        for names in ((), values.names):
            if (id(section), names) in self._sections:
                return self._sections[id(section), names]
        values.depends_on_build = False
        found = self._look_up(section, values)
        names = values.names if values.depends_on_build else ()
        self._sections[id(section), names] = found
        return found

    def _look_up(self, section: Section, values: Values) -> _Found:
        tree = self._tree()
        unclear: list[str] = []
        lookup = Lookup(self._request, tree)
        try:
            lookup.add_all(section.mentions, values)
            if section.type.startswith("ansible"):
                lookup.add_settings_of_ansible(section.mentions, values)
        except TooManyFilesError:
            unclear.append(f"more than {self._request.max_files} files")
        unclear += tree.unreadable
        return _Found(
            entries=tree.entries,
            unknown=tuple(unclear),
            files=frozenset(tree.files),
            mentions=tree.mentions,
            made=tree.made,
            named=frozenset(tree.named),
        )

    def _of_every_build(self) -> _Found:
        """What is not the template's, and templates that cannot be parsed."""
        request, tree = self._request, self._tree()
        unclear = request.template.unparsable
        said = [f"template {file.path.name}" for file in unclear]
        said += [
            f"the output of `{each.command}`: {each.failure}"
            for each in request.command_outputs
            if each.failure
        ]
        lookup = Lookup(request, tree)
        try:
            for file in unclear:
                tree.add_loaded("template", file)
            for glob in request.input_globs:
                lookup.add_glob(glob)
        except TooManyFilesError:
            said.append(f"more than {request.max_files} files")
        entries = tree.entries | dict(_others(request))
        unknown = (*said, *tree.unreadable)
        return _Found(entries, unknown, frozenset(tree.files), tree.mentions)

    def _unstable(self, needed: Dependence) -> dict[str, str]:
        """Variables files, if a variable that they may assign has another value at each look."""
        variables = evaluated.variables(self._parsed, needed) & self._parsed.unstable
        if not variables - self._request.ignore_vars:
            return {}
        tree = self._tree()
        for file in self._request.template.variable_files:
            tree.add_loaded("var-file", file)
        return tree.entries

    def _tree(self) -> Tree:
        request, root = self._request, Path(os.path.realpath(self._request.root))
        return Tree(root, request.key, request.cache, self._excluded, request.max_files)

    def _keyed(self, label: str, text: str) -> str:
        return keyed(self._request.key, f"{label}\0{text}")


def _others(request: InputsRequest) -> Iterator[tuple[str, str]]:
    yield "packer", request.packer_version
    yield from ((f"flag -{flag}", "given") for flag in request.flags)
    yield "working-directory", os.path.relpath(request.directory.resolve(), request.root.resolve())
    for name in request.input_env:
        if name in request.environ:
            text = f"env {name}\0{request.environ[name]}"
            yield f"env {name}", keyed(request.key, text)
    for output in request.command_outputs:
        if not output.failure:
            key = f"{COMMAND} {output.command}"
            yield key, keyed(request.key, f"{key}\0{output.digest}")


_PLUGIN_PREFIX = re.compile(r"(?:.*/)?(?:packer-(?:post-processor|[a-z]+)-)?")


def _plugins(
    request: InputsRequest, parsed: Contents, needed: Dependence
) -> Iterator[tuple[str, str]]:
    """Those in use: types begin with a plugin's name, or what ``required_plugins`` calls it."""
    for name, version in request.plugins.items():
        short = _PLUGIN_PREFIX.sub("", name, count=1)
        required = parsed.sections.plugins.items()
        called = {short, *(local for local, text in required if f'/{short}"' in text)}
        used = (each == ANY_TYPE or each.startswith(tuple(called)) for each in needed.types)
        if any(used):
            yield f"plugin {name}", version
