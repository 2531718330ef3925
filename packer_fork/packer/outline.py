"""What Packer will do, known before it is started: builds, and the steps of each in order.

Names and order come from ``packer inspect -machine-readable``. For HCL2 that is the tree
it prints, ``dynamic`` blocks expanded, alike from 1.6 to 1.16. Legacy JSON has its
builders in lines of their own; what runs in which build only the template itself tells.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from packer_fork.malformed import MALFORMED
from packer_fork.packer import lines
from packer_fork.packer.renames import Renamed, renamed
from packer_fork.packer.selection import select
from packer_fork.packer.tree import Block, blocks

Evaluate = Callable[[Mapping[str, str]], Mapping[str, object] | None]
"""Values by the names of expressions; see ``evaluate.Evaluator``."""

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
    path: Path,
    evaluate: Evaluate = lambda _: {},
    version: tuple[int, int, int] = (0, 0, 0),
) -> Outlines:
    """The builds of the template at `path`, of which Packer `version` says `inspected`.

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
            return _outlines_of_hcl(blocks(line.args[1]), _renamed(path))
    named = [line.args[:2] for line in said if line.type == "template-builder"]
    builders = [(pair[0], pair[1]) for pair in named if len(pair) == 2]
    by_type = version >= _NAMED_BY_TYPE
    found = tuple(_of_legacy(builders, _legacy(path), evaluate, by_type=by_type))
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


def is_hcl(path: Path) -> bool:
    """Whether Packer reads `path` as HCL2; everything else is legacy JSON to it."""
    return path.is_dir() or path.name.endswith((".pkr.hcl", ".pkr.json"))


def _outlines_of_hcl(blocks: Sequence[Block], renames: Sequence[Renamed]) -> Outlines:
    found = tuple(_of_hcl(blocks, renames))
    sources = sum(len(block.sources) for block in blocks)
    is_complete = len(found) == sources and all(each.ref for each in renames)
    return Outlines(found, is_complete)


def _of_hcl(blocks: Iterable[Block], renames: Iterable[Renamed]) -> Iterator[BuildOutline]:
    left = list(renames)
    for block in blocks:
        for source in _named(block, left):
            yield BuildOutline(
                f"{block.name}.{source}" if block.name else source,
                source.partition(".")[0],
                tuple(_step(each) for each in block.provisioners),
                tuple(_step(each) for each in block.post_processors),
                tuple(block.chained),
            )


def _named(block: Block, left: list[Renamed]) -> Iterator[str]:
    """The block's sources by the names that the builds have; uses up what is `left`."""
    for source in block.sources:
        kind = source.partition(".")[0]
        new = next(
            (
                each
                for each in left
                if (each.build, each.ref) == (block.name, source)
                and f"{kind}.{each.name}" not in block.sources
            ),
            None,
        )
        if new is None:
            yield source
        else:
            left.remove(new)
            if new.name is not None:
                yield f"{kind}.{new.name}"


def _step(printed: str) -> tuple[str, str]:
    kind, _, name = printed.partition(".")
    return kind, name


def _renamed(path: Path) -> list[Renamed]:
    files = sorted(path.glob("*.pkr.hcl")) if path.is_dir() else [path]
    return [each for file in files if file.suffix == ".hcl" for each in renamed(_read(file))]


def _legacy(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(_read(path), type=dict[str, Any])
    except MALFORMED:
        return {}


def _read(path: Path) -> bytes:
    """The bytes of a regular file, none if there is no such: reading a pipe would empty it."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def _of_legacy(
    builders: Iterable[tuple[str, str]],
    template: dict[str, Any],
    evaluate: Evaluate,
    *,
    by_type: bool,
) -> Iterator[BuildOutline]:
    """The names as the template has them: inspect's lines lose backslashes.

    Steps name a builder as it stands in the template, flags as Packer renders it.
    """
    written = {
        lines.as_decoded(name): name
        for each in _dicts(template.get("builders"))
        if isinstance(name := each.get("name"), str)
    }
    provisioners = list(_dicts(template.get("provisioners")))
    chains = list(_chains(template.get("post-processors")))
    used = {name for text in written.values() for name in _USER.findall(text)}
    values = evaluate({name: f"user `{name}`" for name in sorted(used)}) or {}

    def value(match: re.Match[str]) -> str:
        return str(values.get(match[1], match[0]))

    for printed, kind in builders:
        raw = written.get(printed, printed)
        selected = _USER.sub(value, raw)
        name = f"{kind}.{selected}" if by_type and printed in written else selected
        if "{{" not in name:
            posts = [
                (place > 0, step)
                for chain in chains
                for place, step in enumerate(_legacy_steps(chain, raw))
            ]
            yield BuildOutline(
                name,
                kind,
                tuple(_legacy_steps(provisioners, raw)),
                tuple(step for _, step in posts),
                tuple(number for number, (is_chained, _) in enumerate(posts) if is_chained),
                called=raw if raw != name else "",
                selected=selected if selected != name else "",
            )


def _legacy_steps(steps: Iterable[dict[str, Any]], build: str) -> Iterator[tuple[str, str]]:
    for each in steps:
        only, except_ = _texts(each.get("only")), _texts(each.get("except"))
        if (not only or build in only) and build not in except_:
            yield str(each.get("type", "")), str(each.get("name", ""))


def _chains(entries: object) -> Iterator[list[dict[str, Any]]]:
    """A list in the list of post-processors is a chain, anything else one by itself."""
    for entry in entries if isinstance(entries, list) else ():
        yield list(_flattened(entry if isinstance(entry, list) else [entry]))


def _flattened(entries: object) -> Iterator[dict[str, Any]]:
    """Post-processors are names, objects, or lists of these."""
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, str):
            yield {"type": entry}
        elif isinstance(entry, list):
            yield from _flattened(entry)
        else:
            yield from _dicts([entry])


def _dicts(entries: object) -> Iterator[dict[str, Any]]:
    return (each for each in (entries if isinstance(entries, list) else ()) if type(each) is dict)


def _texts(value: object) -> list[object]:
    return value if isinstance(value, list) else [value] if value else []
