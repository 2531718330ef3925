"""What Packer will do, known before it is started: builds, and the steps of each in order.

Names and order come from ``packer inspect -machine-readable``. For HCL2 that is the tree
it prints, ``dynamic`` blocks expanded, alike from 1.6 to 1.16. Legacy JSON has its
builders in lines of their own; what runs in which build only the template itself tells.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from packer_fork.packer import lines
from packer_fork.packer.selection import select
from packer_fork.packer.tree import Block, blocks
from packer_fork.template.contents import Evaluate, Sections, Step, StepKind, Use
from packer_fork.template.reader import ParsedTemplate

_USER = re.compile(r"\{\{-?\s*user\s+[`\"]([^`\"]+)[`\"]\s*-?\}\}")

_NAMED_BY_TYPE = (1, 8, 4)
"""Since then Packer prints a JSON builder with a ``name`` as "TYPE.NAME"; ``inspect``, ``-only``,
and the template itself, still call it by the name alone (seen with 1.16.0)."""

Steps = tuple[tuple[str, str], ...]
"""Type and name of each step, the name empty where it has none."""


class BuildOutline(Struct, frozen=True):
    """One build, by the name that Packer prints, and what it runs, in order.

    ``chained``: indices of post-processors that take what the one before them made.

    Of a JSON template two names may differ from that: ``called``, the one that stands there, in
    ``only`` for example, and ``selected``, the one that the flags ``-only`` and ``-except`` take.
    """

    name: str
    type: str = ""
    provisioners: Steps = ()
    post_processors: Steps = ()
    chained: tuple[int, ...] = ()
    called: str = ""
    selected: str = ""

    @property
    def selector(self) -> str:
        return self.selected or self.name


class Outlines(Struct, frozen=True):
    """The builds of a template; ``is_complete``: that there are no others."""

    builds: tuple[BuildOutline, ...] = ()
    is_complete: bool = False


def outline(
    inspected: str,
    template: ParsedTemplate,
    evaluate: Evaluate = lambda _: {},
    version: tuple[int, int, int] = (0, 0, 0),
) -> Outlines:
    """The builds of `template`, of which Packer `version` says `inspected`.

    `evaluate` asks Packer for the user variables in the names of JSON builders. Builds whose
    name only Packer can work out are left out, as is everything where inspect failed: the
    fold learns such names from the output. Never raises.
    """
    said = [
        line
        for raw in inspected.split("\n")
        if (line := lines.parse(raw.encode("utf-8", "replace")))
    ]
    for line in said:
        if line.type == "ui" and line.args[1:] and line.args[1].startswith("> builds:"):
            return _outlines_of_hcl(blocks(line.args[1]), _renamed(template.contents.sections))
    named = [line.args[:2] for line in said if line.type == "template-builder"]
    builders = [(pair[0], pair[1]) for pair in named if len(pair) == 2]
    by_type = version >= _NAMED_BY_TYPE
    found = tuple(_of_legacy(builders, template.contents.sections, evaluate, by_type=by_type))
    return Outlines(found, is_complete=bool(named) and len(found) == len(named))


def chosen(
    outlines: Sequence[BuildOutline], only: Sequence[str], except_: Sequence[str], *, hcl: bool
) -> tuple[BuildOutline, ...]:
    """Those that Packer builds with these values of ``-only`` and ``-except``."""
    names = set(select([each.selector for each in outlines], only, except_, hcl=hcl))
    return tuple(each for each in outlines if each.selector in names)


def shared_names(outlines: Iterable[BuildOutline]) -> tuple[str, ...]:
    """Names that more than one build goes by: their results cannot be told apart."""
    counted = Counter(each.name for each in outlines)
    return tuple(name for name, count in counted.items() if count > 1)


_Renamed = tuple[str, Use]
"""The name of a build block, and a source that it names itself."""


def _renamed(sections: Sections) -> list[_Renamed]:
    """Up to 1.6.6 ``packer inspect`` prints the source's own name, and Packer builds the other."""
    return [(block.name or "", use) for block in sections.builds for use in block.renamed]


def _outlines_of_hcl(blocks: Sequence[Block], renamed: Sequence[_Renamed]) -> Outlines:
    found = tuple(_of_hcl(blocks, renamed))
    sources = sum(len(block.sources) for block in blocks)
    is_complete = len(found) == sources and all(use.ref for _, use in renamed)
    return Outlines(found, is_complete)


def _of_hcl(blocks: Iterable[Block], renamed: Iterable[_Renamed]) -> Iterator[BuildOutline]:
    left = list(renamed)
    for block in blocks:
        for source in _named(block, left):
            yield BuildOutline(
                f"{block.name}.{source}" if block.name else source,
                source.partition(".")[0],
                tuple(_step(each) for each in block.provisioners),
                tuple(_step(each) for each in block.post_processors),
                tuple(block.chained),
            )


def _named(block: Block, left: list[_Renamed]) -> Iterator[str]:
    """The block's sources by the names that the builds have; uses up what is `left`."""
    for source in block.sources:
        new = next(
            (
                (build, use)
                for build, use in left
                if (build, use.ref) == (block.name, source) and use.name not in block.sources
            ),
            None,
        )
        if new is None:
            yield source
        else:
            left.remove(new)
            if new[1].name is not None:
                yield new[1].name


def _step(printed: str) -> tuple[str, str]:
    kind, _, name = printed.partition(".")
    return kind, name


def _of_legacy(
    builders: Iterable[tuple[str, str]],
    sections: Sections,
    evaluate: Evaluate,
    *,
    by_type: bool,
) -> Iterator[BuildOutline]:
    """The names as the template has them: inspect's lines lose backslashes.

    Steps name a builder as it stands in the template, flags as Packer renders it.
    """
    uses = [use for block in sections.builds for use in block.uses or ()]
    steps = [step for block in sections.builds for step in block.steps]
    written = {
        lines.as_decoded(use.ref): use.ref
        for use in uses
        if use.section and "name" in use.section.tokens
    }
    used = {name for text in written.values() for name in _USER.findall(text)}
    from packer_fork.template import legacy

    values = evaluate({name: legacy.user_variable(name) for name in sorted(used)}) or {}

    def value(match: re.Match[str]) -> str:
        return str(values.get(match[1], match[0]))

    for printed, kind in builders:
        raw = written.get(printed, printed)
        selected = _USER.sub(value, raw)
        name = f"{kind}.{selected}" if by_type and printed in written else selected
        if "{{" not in name:
            posts = _steps_of(raw, "post-processor", steps)
            yield BuildOutline(
                name,
                kind,
                tuple(step for _, step in _steps_of(raw, "provisioner", steps)),
                tuple(step for _, step in posts),
                tuple(number for number, (is_chained, _) in enumerate(posts) if is_chained),
                called=raw if raw != name else "",
                selected=selected if selected != name else "",
            )


def _steps_of(
    build: str, kind: StepKind, steps: Iterable[Step]
) -> list[tuple[bool, tuple[str, str]]]:
    """Those that run for `build`, and whether each takes what the one before it made."""
    found, is_chain_begun = [], False
    for each in steps:
        if each.kind == kind:
            is_chain_begun = is_chain_begun and each.is_chained
            if each.runs_for(build):
                found.append((is_chain_begun, (each.section.type, each.name)))
                is_chain_begun = True
    return found
