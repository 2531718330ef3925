"""Values by Packer's own evaluator: what is asked, and what of the answers is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from packer_fork.inputs.dependence import Dependence
from packer_fork.inputs.request import InputsRequest
from packer_fork.inputs.tree import keyed
from packer_fork.inputs.unknowns import REMOTE_FUNCTIONS
from packer_fork.template.contents import Contents, Local, Part
from packer_fork.template.hcl import OPENING
from packer_fork.template.value_roles import NAMELESS

UNSTABLE = frozenset(("timestamp", "uuidv4", "legacy_isotime", "legacy_strftime", "bcrypt"))
"""Functions with another value at each call: the text of their calls counts, in the template."""

_MOST_LEVELS = 5
"""How deep in expressions without a value values are asked for."""

_NAME = re.compile(r"\b(?:var|local)\.[\w-]+")

_PROJECT = "\0project"
_NUMBER = "\0number"


def values(request: InputsRequest, parsed: Contents) -> dict[str, object] | None:
    """JSON values by expression; None if Packer could evaluate nothing at all.

    Parts of an expression are asked for only where the whole has no value; all at once if the
    template has data sources, as each question runs these.
    """
    at_once = bool(parsed.sections.data)
    told = request.evaluate(_named(_wanted(parsed, {}, set(), parts=at_once)))
    if told is None or at_once:
        return None if told is None else dict(told)
    found = dict(told)
    asked = _wanted(parsed, {}, set(), parts=False)
    for _ in range(_MOST_LEVELS):
        wanted = _wanted(parsed, found, asked, parts=False)
        if not wanted:
            break
        asked |= wanted
        if hopeful := _with_hope(wanted, asked - found.keys() - wanted):
            found |= request.evaluate(_named(hopeful)) or {}
    return found


def _named(sources: set[str]) -> dict[str, str]:
    return {source: source for source in sorted(sources)}


def _wanted(
    parsed: Contents, found: Mapping[str, object], asked: set[str], *, parts: bool
) -> set[str]:
    """All that has yet to be evaluated; with the `parts` of what is asked for."""
    wanted = {*parsed.variables.values(), *(f"local.{name}" for name in stable_locals(parsed))}
    wanted -= asked
    seen = set[str]()
    waiting: list[Part] = [
        part
        for mention in parsed.mentions
        if mention.role not in NAMELESS or mention.place.plugin == "file"
        for part in mention.parts
    ]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str) or part.source in found:
            continue
        if part.source and part.source not in asked:
            known = part.source in wanted and part.source != part.name
            wanted.add(part.source)
            if known or not parts:
                continue
        waiting += (each for inner in part.inner for each in inner)
        if part.name not in seen:
            seen.add(part.name)
            waiting += (each for inner in parsed.definitions.get(part.name, ()) for each in inner)
    return wanted


def _with_hope(wanted: set[str], missing: set[str]) -> set[str]:
    """Without what rests on a variable or local that has no value: each costs Packer a start."""
    names = {each for each in missing if _NAME.fullmatch(each)}
    return {source for source in wanted if names.isdisjoint(_NAME.findall(source))}


def stable_locals(parsed: Contents, ignored: frozenset[str] = frozenset()) -> list[str]:
    """Locals that only rest on variables; files that they read count by themselves."""
    by_name = {local.name: local for local in parsed.locals}
    tainted = {name for name, local in by_name.items() if _is_tainted(local, ignored)}
    while more := {
        name
        for name, local in by_name.items()
        if name not in tainted and any(f"local.{other}" in local.references for other in tainted)
    }:
        tainted |= more
    return sorted(by_name.keys() - tainted)


def _is_tainted(local: Local, ignored: frozenset[str]) -> bool:
    reads = local.calls & (UNSTABLE | OPENING | {"fileset", *REMOTE_FUNCTIONS})
    names = {f"var.{name}" for name in ignored}
    return bool(reads or local.references & names) or any(
        reference.startswith("data.") for reference in local.references
    )


def variables(parsed: Contents, needed: Dependence) -> frozenset[str]:
    """Names of the variables that a build refers to; all where it is not known which."""
    named = {name.removeprefix("var.") for name in needed.references if name.startswith("var.")}
    known = parsed.variables.keys()
    return frozenset(known if "var" in needed.references else known & named)


def entries(
    request: InputsRequest,
    parsed: Contents,
    needed: Dependence,
    values: Mapping[str, object],
) -> Iterator[tuple[str, str]]:
    """Entries of the variables and locals of a build; values only as keyed digests.

    A local without a value that stays the same counts by its text.
    """
    digest = _Digest(request)
    for name in variables(parsed, needed) - request.ignore_vars:
        source = parsed.variables[name]
        if source in values:
            value = _assigned(name, request) if name in parsed.unstable else values[source]
            yield f"variable {name}", digest(f"variable {name}", value)
    stable = set(stable_locals(parsed, request.ignore_vars))
    for name, section in needed.locals.items():
        known = name in stable and f"local.{name}" in values
        yield (
            f"local {name}",
            digest(f"local {name}", values[f"local.{name}"] if known else dict(section.tokens)),
        )


def missing(
    request: InputsRequest,
    parsed: Contents,
    needed: Dependence,
    values: Mapping[str, object] | None,
) -> Iterator[str]:
    """Variables of a build whose values Packer did not tell."""
    if values is None or _is_broken(parsed, values):
        yield "variables"
        return
    for name in sorted(variables(parsed, needed) - request.ignore_vars):
        if parsed.variables[name] not in values:
            yield f"variable {name}"


def _is_broken(parsed: Contents, values: Mapping[str, object]) -> bool:
    """Whether a server was away: in a JSON template all defaults are then empty, without a word."""
    emptied = (source for source in parsed.variables.values() if source.startswith("user "))
    asks = not parsed.calls.isdisjoint(REMOTE_FUNCTIONS)
    return asks and any(values.get(source) == "" for source in emptied)


def _assigned(name: str, request: InputsRequest) -> object:
    """What -var gives a variable whose default is another one each time."""
    given = [text.partition("=") for text in request.assignments]
    return next((value for key, _, value in reversed(given) if key == name), None)


class _Digest:
    """Digests of values in which the project's place stands for itself."""

    def __init__(self, request: InputsRequest) -> None:
        self._key = request.key
        places = "|".join(re.escape(place) for place in request.places)
        self._place = re.compile(rf"(?:{places})(?![^/\s\"':;,=)\]}}])") if places else None

    def __call__(self, name: str, value: object) -> str:
        encoded = msgspec.json.encode(self._normal(value), order="deterministic").decode()
        return keyed(self._key, f"{name}\0{encoded}")

    def _normal(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._place.sub(_PROJECT, value) if self._place else value
        if isinstance(value, Decimal):
            return [_NUMBER, str(value)]
        if isinstance(value, dict):
            return {self._normal(key): self._normal(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._normal(item) for item in value]
        return value
