"""What a template will build, in order, from what ``packer inspect`` prints. No I/O.

HCL templates are printed as a tree inside ``ui,say`` lines, which has no other
machine-readable form; JSON templates as ``template-builder`` lines, whose
provisioners and post-processors are taken from the template itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import Struct

from packer_fork.packer import lines

_SECTION = re.compile(r"    (sources|provisioners|post-processors):")
_BUILD = re.compile(r"  > (.*):")
_UNNAMED = re.compile(r"<unnamed build \d+>")
_NOTHING = re.compile(r"<no .*>")


class StepOutline(Struct, frozen=True):
    """A provisioner or post-processor, before it has run."""

    type: str
    name: str = ""


class BuildOutline(Struct, frozen=True):
    """A source, by the name that Packer gives it in its output."""

    name: str
    type: str = ""
    provisioners: tuple[StepOutline, ...] = ()
    post_processors: tuple[StepOutline, ...] = ()


def of_hcl(inspected: str) -> tuple[BuildOutline, ...]:
    """The builds of an HCL template; empty where the tree is not understood."""
    found: list[BuildOutline] = []
    for name, sections in _build_blocks(_said(inspected)):
        prefix = "" if _UNNAMED.fullmatch(name) else f"{name}."
        provisioners = tuple(map(_step, sections["provisioners"]))
        post_processors = tuple(map(_step, sections["post-processors"]))
        found += [
            BuildOutline(
                f"{prefix}{source}", source.partition(".")[0], provisioners, post_processors
            )
            for source in sections["sources"]
        ]
    return tuple(found)


def _said(inspected: str) -> Iterator[str]:
    for raw in inspected.splitlines():
        line = lines.parse(raw.encode())
        if line and line.type == "ui" and len(line.args) > 1:
            yield from line.args[1].split("\n")


def _build_blocks(said: Iterable[str]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Name and content of each build block; indentation tells what belongs where."""
    name, sections, current = "", _empty(), ""
    started = False
    for line in said:
        if found := _BUILD.fullmatch(line):
            if started:
                yield name, sections
            name, sections, current, started = found[1], _empty(), "", True
        elif found := _SECTION.fullmatch(line):
            current = found[1]
        elif current and line.startswith("      ") and not _is_heading(line):
            sections[current].append(line.strip())
    if started:
        yield name, sections


def _empty() -> dict[str, list[str]]:
    return {"sources": [], "provisioners": [], "post-processors": []}


def _is_heading(line: str) -> bool:
    """A sequence's number, ``<no provisioner>``, or nothing."""
    text = line.strip()
    return not text or text.rstrip(":").isdigit() or bool(_NOTHING.fullmatch(text))


def _step(text: str) -> StepOutline:
    kind, _, name = text.partition(".")
    return StepOutline(kind, name)


def of_json(inspected: str, template: object) -> tuple[BuildOutline, ...]:
    """The builds of a JSON template, which is given decoded."""
    parsed = (lines.parse(raw.encode()) for raw in inspected.splitlines())
    document = template if isinstance(template, dict) else {}
    return tuple(
        BuildOutline(
            line.args[0],
            line.args[1],
            _json_steps(document.get("provisioners"), line.args[0]),
            _json_steps(document.get("post-processors"), line.args[0]),
        )
        for line in parsed
        if line and line.type == "template-builder" and len(line.args) > 1
    )


def _json_steps(value: object, build: str) -> tuple[StepOutline, ...]:
    return tuple(
        StepOutline(str(step.get("type", "")), str(step.get("name", "")))
        for step in _flattened(value)
        if _concerns(step, build)
    )


def _flattened(value: object) -> Iterator[dict[str, Any]]:
    """Steps may be a type's name, an object, or lists of these."""
    if isinstance(value, str):
        yield {"type": value}
    elif isinstance(value, dict):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _flattened(item)


def _concerns(step: dict[str, Any], build: str) -> bool:
    only, except_ = step.get("only"), step.get("except")
    if isinstance(only, list) and only:
        return build in only
    return not (isinstance(except_, list) and build in except_)


def select(
    names: Iterable[str], only: Iterable[str], except_: Iterable[str], *, hcl: bool
) -> tuple[str, ...]:
    """Those of `names` that Packer builds with these ``-only`` and ``-except``.

    HCL: globs over the whole name, in which ``*`` matches dots too. JSON: exact names.
    """
    wanted = [_matcher(pattern, hcl=hcl) for pattern in only]
    unwanted = [_matcher(pattern, hcl=hcl) for pattern in except_]
    return tuple(
        name
        for name in names
        if (not wanted or any(matches(name) for matches in wanted))
        and not any(matches(name) for matches in unwanted)
    )


def _matcher(pattern: str, *, hcl: bool) -> Callable[[str], bool]:
    if not hcl:
        return lambda name: name == pattern
    try:
        compiled = re.compile(_regex(pattern), re.DOTALL)
    except re.error:
        return lambda _name: False
    return lambda name: compiled.fullmatch(name) is not None


_GLOB = re.compile(r"\\.|\*+|\?|\[[^\]]*\]|[{},]|.", re.DOTALL)


def _regex(pattern: str) -> str:
    """A glob of Go's gobwas/glob without separators, as a regular expression."""
    depth, parts = 0, []
    for part in _GLOB.findall(pattern):
        if part == "{":
            depth += 1
            parts.append("(?:")
        elif part == "}" and depth:
            depth -= 1
            parts.append(")")
        elif part == "," and depth:
            parts.append("|")
        else:
            parts.append(_atom(part))
    return "".join(parts) + ")" * depth  # an open brace is closed by the end, as in Packer


def _atom(part: str) -> str:
    if part.startswith("*"):
        return ".*"
    if part == "?":
        return "."
    if len(part) > 2 and part[0] == "[":
        inside = part[1:-1].replace("\\", r"\\")
        return f"[{'^' if inside[0] in '!^' else ''}{inside.lstrip('!^')}]"
    return re.escape(part[1:] if len(part) > 1 and part[0] == "\\" else part)
