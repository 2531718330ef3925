"""Which sections of a template each build depends on. Pure.

A build depends on its source, on the build blocks that use it, on those of their steps that
run for it, and on the locals and data sources that these refer to, transitively. What
cannot be attributed counts for every build.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from packer_fork.template.contents import At, BuildBlock, Section, Sections, Step, Use


class Dependence(Struct, frozen=True, kw_only=True):
    """What one build depends on. ``own``: tokens by what their author calls them, of what
    belongs to this build alone, and ``places`` of these, by the label alone; ``sections``: all
    sections; ``references``: of all of them.
    ``names``: by "source.name", "build_name" and the like, what that may be for this build, as
    far as it is known. ``locals``: those that it refers to, by name. ``types``: of its source,
    steps and data sources, which tell its plugins.
    """

    own: Mapping[str, str]
    places: dict[str, At]
    locals: Mapping[str, Section]
    sections: tuple[Section, ...]
    references: frozenset[str]
    calls: frozenset[str]
    types: frozenset[str]
    names: Mapping[str, tuple[str, ...]]


def dependence(sections: Sections, build: str) -> Dependence:
    """What the build of this name depends on."""
    own: dict[str, str] = {}
    places: dict[str, At] = {}
    found: list[Section] = []

    def add(section: Section) -> None:
        _add(own, places, section, found)

    for other in sections.others:
        add(other)
    types: set[str] = set()
    numbers: dict[str, int] = {}
    known = _known_names(sections)
    uses: list[tuple[BuildBlock, Use | None]] = []
    # A name that no block is seen to make is one that we do not understand: all counts.
    blocks = [each for each in sections.builds if each.may_make(build)] or sections.builds
    for block in blocks:
        add(block.section)
        types.add(block.section.type)
        uses.append((block, block.use_of(build)))
        for source in _sources(sections, block, block.use_of(build)):
            add(source)
            types.add(source.type)
        for step, name in _steps(block, build, known):
            types.add(step.section.type)
            numbers[step.kind] = number = numbers.get(step.kind, 0) + 1
            label = f"{step.kind} {number} ({step.section.label})"
            own[label] = "\n".join(f"{key} = {text}" for key, text in _tokens(step, name))
            places[label] = step.section.at
            found.append(step.section)
    reached = _referred(sections, found)
    for name, section in reached.items():
        if name.startswith("data."):
            add(section)
            types.add(section.type)
        else:
            found.append(section)
    return Dependence(
        own=own,
        places=places,
        locals={
            name.removeprefix("local."): section
            for name, section in reached.items()
            if name.startswith("local.")
        },
        sections=tuple(found),
        references=frozenset().union(*(section.references for section in found)),
        calls=frozenset().union(*(section.calls for section in found)),
        types=frozenset(types) - {""},
        names=_contextual_names(uses),
    )


def _contextual_names(
    uses: list[tuple[BuildBlock, Use | None]],
) -> Mapping[str, tuple[str, ...]]:
    """By what stands in a template for the name of a build, or of its parts, what that is."""
    found: dict[str, set[str]] = {}
    for block, use in uses:
        if use is None or use.name is None or block.name is None:
            return {}
        kind = use.section.type if use.section else use.name.partition(".")[0]
        bare = use.name.removeprefix(f"{kind}.")
        found.setdefault("source.name", set()).add(bare)
        found.setdefault("source.type", set()).add(kind)
        found.setdefault("build_type", set()).add(kind)
        found.setdefault("build_name", set()).update((bare, use.name))
        found.setdefault("build.name", set()).update((block.name, bare, use.name))
    return {name: tuple(sorted(known)) for name, known in found.items()}


def _add(
    own: dict[str, str], places: dict[str, At], section: Section, found: list[Section]
) -> None:
    found.append(section)
    if section.tokens:
        places.setdefault(section.label, section.at)
    for key, text in section.tokens.items():
        label = f"{section.label}: {key}"
        own[label] = f"{own[label]}\n{text}" if label in own else text


def _sources(sections: Sections, block: BuildBlock, use: Use | None) -> Iterator[Section]:
    """The source of a build, and what its build block adds; all of them if it is not known."""
    if use is None:
        yield from sections.sources.values()
        yield from (each.section for each in block.uses or () if each.section is not None)
        return
    if use.ref in sections.sources:
        yield sections.sources[use.ref]
    else:
        yield Section(label=f"source {use.ref}")
    if use.section is not None:
        yield use.section


def _known_names(sections: Sections) -> frozenset[str] | None:
    """What ``only`` may call the builds of a template; None where one is not literal."""
    uses = [block.uses for block in sections.builds]
    names = {use.name for each in uses if each is not None for use in each}
    return None if None in uses or None in names else frozenset(filter(None, names))


def _steps(
    block: BuildBlock, build: str, known: frozenset[str] | None
) -> Iterator[tuple[Step, str | None]]:
    """The steps that may run, with the name that ``only`` and ``override`` know the build by.

    An ``only`` that names no build of the template is likely a mistake: its step counts for all.
    """
    use = block.use_of(build)
    name = use.name if use else None
    for step in block.steps:
        misnamed = bool(step.only) and known is not None and known.isdisjoint(step.only or ())
        if name is None or misnamed or step.runs_for(name):
            yield step, name


def _tokens(step: Step, name: str | None) -> Iterator[tuple[str, str]]:
    yield from step.section.tokens.items()
    bare = None if name is None else name.rpartition(".")[2]
    for key, text in step.overrides.items():
        if bare is None or key in (bare, name) or "." in key:
            yield f"override.{key}", text


def _referred(sections: Sections, found: list[Section]) -> dict[str, Section]:
    """Locals, data sources and variables that `found` refers to, and that these refer to."""
    known = {f"local.{name}": section for name, section in sections.locals.items()}
    known |= {f"data.{name}": section for name, section in sections.data.items()}
    known |= {f"var.{name}": section for name, section in sections.variables.items()}
    reached: dict[str, Section] = {}
    waiting = [reference for section in found for reference in section.references]
    while waiting:
        reference = waiting.pop()
        for name in _meant(reference, known):
            if name not in reached:
                reached[name] = known[name]
                waiting += known[name].references
    return reached


def _meant(reference: str, known: Mapping[str, Section]) -> Iterator[str]:
    """A name alone may mean all that begins with it."""
    if reference in known:
        yield reference
    elif reference.split(".", maxsplit=1)[0] in ("local", "data", "var"):
        yield from (name for name in known if name.startswith(f"{reference}."))
