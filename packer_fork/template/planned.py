"""What the template says that one build will run, and whether it makes an artifact. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

from msgspec import Struct

from packer_fork.template.contents import BuildBlock, Expression, Part, Section, Sections, Step

MAKES_NO_ARTIFACT = ("skip_create_ami", "skip_create_image", "skip_create_snapshot", "skip_export")
"""Attributes of a source that, when true, let its builder end without an artifact.

Builders of amazon, azure, googlecompute, hcloud and virtualbox-vm have them, up to Packer 1.16.
"""

TEMPORARY = ""
"""Stands for the temporary script that Packer writes for ``inline`` commands."""

_SCRIPTS = ("script", "scripts", "source", "sources")
_INLINE = ("inline", "command", "content")

Values = Mapping[str, object]
"""JSON values by expression, as Packer evaluates them."""


class PlannedStep(Struct, frozen=True, kw_only=True):
    """A provisioner or post-processor of one build.

    ``runs`` is None where only Packer can tell. ``scripts``: the files that it runs or uploads,
    in order, None where they are not known. ``text``: all that the template says of it, ``at``
    "FILE:LINE".
    """

    type: str
    runs: bool | None
    scripts: tuple[str, ...] | None = None
    text: str = ""
    at: str = ""


class PlannedBuild(Struct, frozen=True, kw_only=True):
    """Every step of the build block, also those that are left out of this build.

    ``places``: file name, first and last line of what the template says of this build.
    """

    provisioners: tuple[PlannedStep, ...] = ()
    post_processors: tuple[PlannedStep, ...] = ()
    makes_no_artifact: bool = False
    places: tuple[tuple[str, int, int], ...] = ()


def planned(sections: Sections, build: str, values: Values) -> PlannedBuild | None:
    """The build that the template calls `build`; None where the template is not clear about it."""
    blocks = [block for block in sections.builds if block.may_make(build)]
    if len(blocks) != 1 or blocks[0].use_of(build) is None:
        return None
    block = blocks[0]
    source = list(_source(sections, block, build))
    steps = [(step, _step(step, block, build, values)) for step in block.steps]
    ran = [step.section for step, each in steps if each.runs is not False]
    return PlannedBuild(
        provisioners=tuple(each for step, each in steps if step.kind == "provisioner"),
        post_processors=tuple(each for step, each in steps if step.kind == "post-processor"),
        makes_no_artifact=_makes_no_artifact(source, values),
        places=tuple(
            (PurePath(section.at.file).name, section.at.line, section.last)
            for section in (*source, *ran)
            if section.last
        ),
    )


def _step(step: Step, block: BuildBlock, build: str, values: Values) -> PlannedStep:
    use = block.use_of(build)
    return PlannedStep(
        type=step.section.type,
        runs=_runs(step, use.name if use else None),
        scripts=_scripts(step, values),
        text="\n".join(step.section.tokens.values()),
        at=_place(step.section),
    )


def _place(section: Section) -> str:
    return f"{PurePath(section.at.file).name}:{section.at.line}" if section.last else ""


def _runs(step: Step, name: str | None) -> bool | None:
    """Packer compares names as they stand; where there is an ``only``, ``except`` is not read."""
    if name is None or step.only is None:
        return None
    if step.only:
        return name in step.only
    return None if step.excepted is None else name not in step.excepted


def _scripts(step: Step, values: Values) -> tuple[str, ...] | None:
    if step.overrides or "override" in step.section.tokens:
        return None
    found: list[str] = []
    for mention in step.section.mentions:
        if len(mention.place.path) == 1 and mention.attribute in _SCRIPTS:
            texts = _texts(mention.parts, values)
            if texts is None:
                return None
            found += texts
    if any(name in step.section.tokens for name in _INLINE):
        found.append(TEMPORARY)
    return tuple(found) or None


def _texts(parts: tuple[Part, ...], values: Values) -> list[str] | None:
    """The text of `parts`, or the texts of a list; None where only a run gives a value."""
    if len(parts) == 1 and isinstance(parts[0], Expression):
        value = values.get(parts[0].source)
        if isinstance(value, list):
            return value if all(map(_is_settled, value)) else None
    pieces = [part if isinstance(part, str) else values.get(part.source) for part in parts]
    texts = [piece for piece in pieces if isinstance(piece, str)]
    return ["".join(texts)] if len(texts) == len(pieces) and all(map(_is_settled, texts)) else None


def _is_settled(text: object) -> bool:
    return isinstance(text, str) and "{{" not in text


def _makes_no_artifact(source: Iterable[Section], values: Values) -> bool:
    tokens: dict[str, str] = {}
    for section in source:
        tokens |= section.tokens
    given = (tokens[name] for name in MAKES_NO_ARTIFACT if name in tokens)
    return any(_is_true(text, values) for text in given)


def _source(sections: Sections, block: BuildBlock, build: str) -> Iterator[Section]:
    """The source of the build, then what its build block adds."""
    if use := block.use_of(build):
        if use.ref in sections.sources:
            yield sections.sources[use.ref]
        if use.section is not None:
            yield use.section


def _is_true(token: str, values: Values) -> bool:
    """Whether the canonical source of an attribute is true, as it stands or by Packer's value."""
    text = token.strip('"')
    if text.startswith("{{"):
        source = text.removeprefix("{{").removesuffix("}}").strip()
    else:
        source = text.removeprefix("${").removesuffix("}").replace(" ", "")
    return str(values.get(source, source)).lower() == "true"
