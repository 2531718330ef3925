"""All inputs of a build, put together."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct, structs

from packer_fork.inputs import evaluated, purity, unknowns
from packer_fork.inputs.declared import (
    Collected,
    Declared,
    Provenance,
    References,
    environment_of,
    loaded_files,
)
from packer_fork.inputs.dependence import Dependence, dependence
from packer_fork.inputs.exclusions import MANIFEST, Exclusions, Outputs, output_texts
from packer_fork.inputs.lookup import Lookup
from packer_fork.inputs.record import COMMAND, Inputs, template_inputs
from packer_fork.inputs.request import InputsRequest
from packer_fork.inputs.texts import Values
from packer_fork.inputs.trace import Tracer
from packer_fork.inputs.tree import (
    TooManyFilesError,
    Tree,
    keyed,
)
from packer_fork.inputs.unknowns import Unknowable
from packer_fork.template.contents import ANY_TYPE, ANYTHING, Contents, Mention, Section
from packer_fork.template.planned import PlannedBuild, planned


def collect(request: InputsRequest) -> Declared:
    """The inputs as they are now; what cannot be known is named in the answer."""
    return collected(request).declared


def collected(request: InputsRequest) -> Collected:
    """The same, with what of it can be kept."""
    parsed = request.template.contents
    told = evaluated.values(request, parsed)
    values = Values(told or {}, parsed.definitions, request.named_places)
    sources = [source.rpartition(".")[2] for source in parsed.sources]
    outputs = tuple(output_texts(request, parsed.mentions, sources, values))
    excluded = Exclusions(request, outputs)
    collector = _Collector(request, told, values, excluded)
    builds = {name: collector.build(name, called) for name, called in request.builds.items()}
    loaded = loaded_files(request)
    files = {path: known for path, known in request.cache.hashed.items() if path not in loaded}
    named = {name: each.files & files.keys() for name, each in builds.items()}
    evaluated_files = collector.evaluated()
    declared = Declared(
        inputs=template_inputs({name: (each.own, each.inputs) for name, each in builds.items()}),
        root=os.path.realpath(request.root),
        folders=frozenset(map(str, request.folders)),
        files=files,
        named=lambda name: named.get(name, frozenset(files)),
        said=lambda name: builds[name].said if name in builds else "",
        provenance={name: each.provenance for name, each in builds.items()},
        loaded=loaded,
        evaluated=evaluated_files,
        artifacts={name: each.artifacts for name, each in builds.items()},
        makes=lambda name, path: name in builds and builds[name].outputs.has(path),
        manifests={name: each.manifests for name, each in builds.items()},
        is_ignored=excluded.is_ignored,
        is_output=excluded.is_output,
        cache=request.cache,
        planned=lambda name: planned(parsed.sections, request.builds.get(name, name), told or {}),
    )
    is_lasting = told is not None and parsed.is_parsable and collector.is_pure()
    kept = _references(declared, builds, collector, outputs) if is_lasting else None
    return Collected(declared=declared, references=kept, values=told or {}, request=request)


def _references(
    declared: Declared,
    builds: Mapping[str, _Build],
    collector: _Collector,
    outputs: tuple[str, ...],
) -> References | None:
    """None if Packer has to be asked anyway: for what is not known, each build is made."""
    environment = collector.environment()
    is_lost = collector.tracer.is_lost or environment is None
    if is_lost or any(each.inputs.unknown for each in builds.values()):
        return None
    paths = tuple(sorted(frozenset().union(*(each.files for each in builds.values()))))
    numbers = {path: number for number, path in enumerate(paths)}
    entries = {key: path for key, path in collector.paths.items() if key in declared.inputs.common}
    common = {key: "" if key in entries else text for key, text in declared.inputs.common.items()}
    return References(
        inputs=structs.replace(declared.inputs, common=common),
        paths=paths,
        files={key: numbers[path] for key, path in entries.items()},
        named={name: tuple(sorted(numbers[p] for p in b.files)) for name, b in builds.items()},
        evaluated=tuple(sorted(declared.evaluated)),
        environment=environment or {},
        outputs=outputs,
        made={name: each.outputs.texts for name, each in builds.items()},
        artifacts={name: tuple(sorted(each.artifacts)) for name, each in builds.items()},
        manifests={name: each.manifests for name, each in builds.items()},
        trusted={name: each.provenance.trusted for name, each in builds.items()},
        untracked={name: each.provenance.untracked for name, each in builds.items()},
        is_checked_by_paths=collector.has_no_plugins()
        and all(each.is_checked_by_paths for each in builds.values()),
        trace=collector.tracer.trace(),
    )


def said_of(request: InputsRequest, name: str) -> str:
    """What the template says of a build; never kept, as it may hold secrets."""
    if name not in request.builds:
        return ""
    return _text_of(dependence(request.template.contents.sections, request.builds[name]))


def planned_by(request: InputsRequest) -> Callable[[str], PlannedBuild | None]:
    """What the template says that a build will run, by its name; Packer evaluates it once asked."""
    contents = request.template.contents
    told = evaluated.values(request, contents) or {}
    return lambda name: planned(contents.sections, request.builds.get(name, name), told)


def _text_of(needed: Dependence) -> str:
    return "\n".join(text for each in needed.sections for text in each.tokens.values())


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
    manifests: tuple[str, ...]
    provenance: Provenance
    is_checked_by_paths: bool


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
        self.tracer = Tracer(request.key)
        self.paths: dict[str, str] = {}
        """Of files that stand for themselves, by their entries."""
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
            said=_text_of(needed),
            manifests=tuple(self._manifests(needed, values)),
            provenance=Provenance(
                places=needed.places
                | {section.label: section.at for section in needed.locals.values()},
                files={key: m for each in reversed(found) for key, m in each.mentions.items()},
                globbed=frozenset(self._everyones.mentions),
                unknown=unknown,
                trusted=(*trusted, *ignored),
                untracked=untracked,
            ),
            is_checked_by_paths=purity.is_checked_by_paths(needed.types, needed.sections),
        )

    def _outputs(self, name: str, needed: Dependence, values: Values) -> Outputs:
        """What this build makes: it counts for others that name it, not for itself."""
        mentions = [mention for section in needed.sections for mention in section.mentions]
        every = [source.rpartition(".")[2] for source in self._parsed.sources]
        sources = needed.names.get("source.name", tuple(every))
        texts = output_texts(self._request, mentions, sources, values)
        return Outputs(self._request, texts, self._request.outputs.get(name, ()))

    def _manifests(self, needed: Dependence, values: Values) -> Iterator[str]:
        for section in needed.sections:
            if section.type != "manifest":
                continue
            named = [each for each in section.mentions if each.place.path == ("output",)]
            texts = [text for each in named for text in values.texts(each)]
            for text in texts if named else [MANIFEST]:
                if ANYTHING not in text:
                    yield os.path.normpath(self._request.directory / text)

    def evaluated(self) -> frozenset[str]:
        """Real paths of files that are read to evaluate the template, as by ``file()``."""
        tree = self._tree()
        opened = [mention for mention in self._parsed.mentions if mention.opened]
        lookup = Lookup(self._request, tree)
        with contextlib.suppress(TooManyFilesError):
            lookup.add_all(opened, self._values)
        texts = lookup.record_contents(opened, self._values)
        self.tracer.is_lost |= not all(purity.is_pure_text(self._parsed, each) for each in texts)
        return frozenset(map(self.tracer.real_path, tree.files))

    def has_no_plugins(self) -> bool:
        return not self._request.plugins

    def is_pure(self) -> bool:
        """Whether Packer's answers are the same each time."""
        return purity.is_pure(self._request, self._parsed, self._values)

    def environment(self) -> dict[str, str] | None:
        """See `References`; None if it is not known which variables count."""
        names = purity.environment(self._request, self._parsed)
        return None if names is None else environment_of(self._request, sorted(names))

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
        self.note(tree)
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
        self.note(tree)
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
        cache, most = request.cache, request.max_files
        return Tree(root, request.key, cache, self._excluded, most, self.tracer)

    def note(self, tree: Tree) -> None:
        for entry, path in tree.paths.items():
            self.tracer.is_lost |= self.paths.setdefault(entry, path) != path

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
