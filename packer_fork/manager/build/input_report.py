"""What counts for each build, how it is known, and what is not tracked: no lock, no change."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from packer_fork import config
from packer_fork.codec.builds import decode_build
from packer_fork.errors import TemplateError, UsageError, nearest
from packer_fork.events import Notify
from packer_fork.inputs.declared import Declared, Provenance
from packer_fork.inputs.observation import Observation
from packer_fork.inputs.record import COMMAND
from packer_fork.inputs.unknowns import Unknowable
from packer_fork.manager import state_ref
from packer_fork.manager.build import acceptance, observed, results
from packer_fork.manager.build.acceptance import Question
from packer_fork.manager.build.plan import digest_cache, gather
from packer_fork.manager.build.prepare import (
    BuildRequest,
    PlanningContext,
    Prepared,
    prepare,
    with_secrets,
)
from packer_fork.model import State
from packer_fork.packer.mask import Mask
from packer_fork.responses import Input, InputsOfBuild, InputsReport, Untracked
from packer_fork.template.contents import At, Mention

_MAX_SOURCE = 4 << 20
"""Bytes of a JSON template in which a line is looked for."""

_EFFECTS = ("built", "unnoticed", "trusted")

_HOW = {
    **dict.fromkeys(("variable", "local", "var-file"), "evaluated"),
    **dict.fromkeys(("env", COMMAND), "declared"),
}
"""By the kind of an entry that is no file or folder; all others are "always" inputs."""

_ORDER = (
    *("template", "variable", "local", "var-file", "file", "directory", "files", "names", "env"),
    *(COMMAND, "flag", "working-directory", "packer", "plugin"),
)
"""Kinds as they are listed; any other comes last."""


def report(request: BuildRequest, build: str | None, notify: Notify) -> InputsReport:
    """Of the builds that -only and -except leave, or of `build` alone.

    Raises UsageError if there is no such build, TemplateError if no build is known, or if
    Packer refuses one that it does not name.
    """
    given, flags = request.template, request.flags
    template = state_ref.find_template(given)
    place = state_ref.resolve(template, request.settings, request.environ, notify)
    context = PlanningContext(
        template=template,
        flags=flags,
        place=place,
        environ=config.without_secrets(request.environ),
        state=place.store.read(),
        notify=notify,
    )
    environ, state = context.environ, context.state
    prepared = prepare(template, flags, place.settings, environ)
    asked = Question(template=template, flags=flags, prepared=prepared, environ=environ)
    if not prepared.outlines:
        raise _nothing_known(asked)
    if _misses_a_block(prepared) and (found := acceptance.refused(asked, None)):
        raise found.error
    prepared = with_secrets(prepared, flags, environ)
    names = _chosen([each.name for each in prepared.outlines], given, build)
    declared = gather(context, prepared, digest_cache(context)).declared
    where = _Where(template, Mask(prepared.sensitive.values).text)
    observes = place.settings.observe != "off"
    builds = [
        _of_build(name, declared, _newest(state, name) if observes else _Observed(), where)
        for name in names
    ]
    common = _common(builds)
    return InputsReport(
        template=place.folder.label,
        workspace=place.folder.workspace,
        common=common,
        builds=tuple(_without(each, frozenset(common)) for each in builds),
        untracked=_untracked(declared, names, where),
    )


def untracked_names(
    template: state_ref.Template,
    names: Sequence[str],
    declared: Declared,
    mask: Callable[[str], str],
) -> tuple[str, ...]:
    """Base images whose change nothing would notice, with their places in the template."""
    where = _Where(template, mask)
    found = (each for each in _untracked(declared, names, where) if each.effect == "unnoticed")
    return tuple(f"{each.name} ({each.at})" if each.at else each.name for each in found)


def _nothing_known(asked: Question) -> TemplateError:
    """Why there is no build to report on: in the words of `plan`, if it refuses the template."""
    if found := acceptance.refused(asked, None):
        return found.error
    given = asked.template.given
    return TemplateError(
        f"No build of {given} is known before Packer runs.",
        hint=f"Build it once with `packer-fork build {given}`, whose output names its builds.",
    )


def _misses_a_block(prepared: Prepared) -> bool:
    """Whether ``packer inspect`` left out a build block, as it does where one is faulty."""
    blocks = prepared.template.contents.sections.builds
    return not all(any(b.may_make(each.name) for each in prepared.every) for b in blocks)


def _chosen(known: Sequence[str], given: str, build: str | None) -> tuple[str, ...]:
    if build is not None and build not in known:
        hint = nearest(build, known, f"It has: {', '.join(known)}.")
        raise UsageError(f"{given} has no build {build!r}.", hint=hint)
    return tuple(dict.fromkeys(known)) if build is None else (build,)


class _Observed(Struct, frozen=True):
    run: int | None = None
    observation: Observation | None = None


def _newest(state: State | None, name: str) -> _Observed:
    """What the newest complete run of a build was seen to read."""
    if state is None or name not in state.builds:
        return _Observed()
    complete = results.complete(decode_build(state.builds[name]))
    if not complete:
        return _Observed()
    digest = complete[-1].observed
    return _Observed(complete[-1].run, observed.stored(state, digest) if digest else None)


class _Where:
    """Names and places as they are shown: without secrets, relative to the project."""

    def __init__(self, template: state_ref.Template, mask: Callable[[str], str]) -> None:
        self._template = template
        self._sources: dict[Path, tuple[bytes, ...]] = {}
        self.mask = mask

    def place(self, at: At, *words: str) -> str:
        """Of "FILE:LINE"; in JSON, the line is that of the first of `words` that one line has."""
        path = Path(at.file) if at.file else self._template.path
        if path.is_dir():
            return ""
        line = at.line or (self._line_of(path, words) if path.suffix == ".json" else 0)
        name = os.path.relpath(path.resolve(), self._template.project)
        return self.mask(f"{name}:{line}" if line else name)

    def of_mention(self, mention: Mention) -> str:
        """The place of a value."""
        literal = mention.parts[0] if len(mention.parts) == 1 else ""
        text = literal.removesuffix("\n") if isinstance(literal, str) else ""
        return self.place(mention.at, *filter(None, (text, mention.attribute)))

    def _line_of(self, path: Path, words: Iterable[str]) -> int:
        if path not in self._sources:
            self._sources[path] = _lines(path)
        for word in words:
            quoted = msgspec.json.encode(word)
            found = [n for n, line in enumerate(self._sources[path], 1) if quoted in line]
            if len(found) == 1:
                return found[0]
        return 0


def _lines(path: Path) -> tuple[bytes, ...]:
    try:
        with path.open("rb") as file:
            return tuple(file.read(_MAX_SOURCE).splitlines())
    except OSError:
        return ()


def _of_build(name: str, declared: Declared, seen: _Observed, where: _Where) -> InputsOfBuild:
    counted = [*_declared(declared, name, where)]
    if seen.observation is not None and seen.run is not None:
        known = {each.name for each in counted if each.kind in ("file", "directory")}
        counted += _reads(seen.observation, seen.run, known)
    shown = (structs.replace(each, name=where.mask(each.name)) for each in counted)
    return InputsOfBuild(
        name=name,
        inputs=tuple(sorted(shown, key=_rank)),
        run=seen.run,
        observation=seen.observation.status if seen.observation else "",
    )


def _rank(each: Input) -> int:
    return _ORDER.index(each.kind) if each.kind in _ORDER else len(_ORDER)


def _declared(declared: Declared, name: str, where: _Where) -> Iterator[Input]:
    provenance = declared.provenance[name]
    entries = list(declared.inputs.common.items())
    counted = [entries[number] for number in declared.inputs.builds[name].counts]
    keys = {key for key, _ in counted}
    for label, at in provenance.places.items():
        if label not in keys:
            yield Input(kind="template", name=label, how="named", at=where.place(at))
    for key, text in sorted(counted):
        yield _of_entry(key, text, provenance, where)


def _of_entry(key: str, text: str, provenance: Provenance, where: _Where) -> Input:
    kind, _, name = key.partition(" ")
    if kind in ("packer", "working-directory"):
        name = text
    elif kind == "plugin" and not text.startswith("sha256:"):
        name = f"{name} {text}"
    if kind not in ("file", "directory"):
        at = provenance.places.get(key)
        place = where.place(at) if at is not None else ""
        return Input(kind=kind, name=name, how=_HOW.get(kind, "always"), at=place)
    mention = provenance.files.get(key)
    if mention is not None:
        how = "evaluated" if mention.opened else "named"
        return Input(kind=kind, name=name, how=how, at=where.of_mention(mention))
    how = "declared" if key in provenance.globbed else "always"
    return Input(kind=kind, name=name, how=how)


def _reads(observation: Observation, run: int, known: Collection[str]) -> Iterator[Input]:
    """What a run was seen to read, but for what is `known` without that."""
    for kind, names in (
        ("file", observation.reads),
        ("names", observation.listings),
        ("files", observation.folders),
    ):
        for name in sorted(names):
            if name not in known:
                yield Input(kind=kind, name=name, how="observed", run=run)


def _common(builds: Sequence[InputsOfBuild]) -> tuple[Input, ...]:
    """Inputs of all builds, if there are several."""
    first, *others = builds
    every = [frozenset(each.inputs) for each in others]
    return tuple(one for one in first.inputs if every and all(one in each for each in every))


def _without(build: InputsOfBuild, common: Collection[Input]) -> InputsOfBuild:
    own = tuple(each for each in build.inputs if each not in common)
    return structs.replace(build, inputs=own)


def _untracked(declared: Declared, names: Sequence[str], where: _Where) -> tuple[Untracked, ...]:
    """Each once, with all builds that it bears on; what is built each time comes first."""
    found: dict[tuple[str, str], tuple[Unknowable, list[str]]] = {}
    for name in names:
        provenance = declared.provenance[name]
        kinds = (provenance.unknown, provenance.untracked, provenance.trusted)
        for effect, several in zip(_EFFECTS, kinds, strict=True):
            for each in several:
                found.setdefault((effect, each.name), (each, []))[1].append(name)
    listed = sorted(found.items(), key=lambda item: _EFFECTS.index(item[0][0]))
    return tuple(
        Untracked(
            name=where.mask(each.name),
            at="" if each.at is None else where.place(each.at, each.name.partition(" ")[0]),
            builds=tuple(builds),
            effect=effect,
            setting=each.setting,
        )
        for (effect, _), (each, builds) in listed
    )
