"""What one of Packer's older JSON templates says; its strings are Go templates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import structs

from packer_fork.template import json_document
from packer_fork.template.contents import (
    BuildBlock,
    Contents,
    Expression,
    Literals,
    Mention,
    Names,
    Part,
    Place,
    Secret,
    Section,
    Sections,
    Step,
    StepKind,
    Use,
)

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"")
_WORD = re.compile(r"[A-Za-z_]\w*")
_EVALUABLE = frozenset(
    (
        *("user", "template_dir", "pwd", "env", "lower", "upper", "replace", "replace_all"),
        *("split", "clean_resource_name", "print", "printf", "index", "and", "or", "not"),
        *("eq", "ne", "true", "false"),
    )
)
"""Functions with the same value before a build runs as in it."""

_CONTROL = re.compile(r"(?:if|else|end|with|range)\b")
_UNSTABLE = frozenset(("timestamp", "isotime", "strftime", "uuid"))
_SECTIONS = ("builders", "provisioners", "post-processors", "error-cleanup-provisioner")


def parse(source: bytes) -> Contents:
    document = json_document.decode(source)
    if not isinstance(document, dict):
        return Contents(is_parsable=False)
    document = {key.lower(): value for key, value in document.items()}  # as Packer takes them
    secrets = tuple(_secrets(document))
    try:
        return _contents(document, secrets)
    except (UnicodeEncodeError, RecursionError):
        return Contents(secrets=secrets, is_parsable=False)


def _contents(document: dict[str, Any], secrets: tuple[Secret, ...]) -> Contents:
    variables = _variables(document)
    raw = {name: set(_words(value)) for name, value in variables.items()}
    calls = set[str]().union(*(_words(text) for text in _strings(document)))
    builders = [item for item in _items(document.get("builders")) if "type" in item]
    return Contents(
        secrets=secrets,
        mentions=tuple(_sections(document)),
        variables={name: user_variable(name) for name in variables},
        unstable=frozenset(name for name, words in raw.items() if words & _UNSTABLE),
        calls=frozenset(calls),
        sources=tuple(str(item.get("name", item["type"])) for item in builders),
        sections=Sections(
            builds=(_build(document, builders),),
            variables={
                name: Section(
                    label=f"variable {name}",
                    references=frozenset(_references(value)),
                    calls=frozenset(raw[name]),
                )
                for name, value in variables.items()
            },
            others=tuple(_others(document)),
        ),
    )


def _variables(document: dict[str, Any]) -> dict[str, Any]:
    variables = document.get("variables")
    return variables if isinstance(variables, dict) else {}


def user_variable(name: str) -> str:
    """The expression of its value."""
    is_plain = "`" not in name and name.isprintable()
    return f"user `{name}`" if is_plain else f"user {json_document.encode(name)}"


def _secrets(document: dict[str, Any]) -> Iterator[Secret]:
    names, variables = document.get("sensitive-variables"), _variables(document)
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str):
            yield Secret(
                name=name,
                expression=user_variable(name),
                literals=_literals(variables.get(name)),
            )


def _literals(default: Any) -> Literals:
    if not isinstance(default, str):
        return Literals()
    if called := _ENV.fullmatch(default):
        return Literals(environment=(called[1],))
    return Literals(() if "{{" in default else (default,))


_STEP_KINDS: dict[str, StepKind] = {
    "provisioners": "provisioner",
    "post-processors": "post-processor",
    "error-cleanup-provisioner": "error-cleanup-provisioner",
}
_KNOWN = {*_SECTIONS, "variables", "sensitive-variables", "description", "min_packer_version"}
_ENV = re.compile(r"""\{\{-?\s*env\s+[`"]([^`"]+)[`"]\s*-?\}\}""")
_USER = re.compile(r"user\s+[`\"]([^`\"]+)[`\"]")


def _build(document: dict[str, Any], builders: list[dict[str, Any]]) -> BuildBlock:
    """Every builder makes a build, and every step is of all of them."""
    uses = [_use(number, item) for number, item in enumerate(_items(document.get("builders")))]
    steps = [
        step
        for section, kind in _STEP_KINDS.items()
        for step in _steps(section, kind, document.get(section))
    ]
    named = tuple(use for use in uses if use is not None)
    return BuildBlock(
        name="",
        uses=named if len(named) == len(builders) else None,
        section=Section(label="build"),
        steps=tuple(steps),
    )


def _use(number: int, item: dict[str, Any]) -> Use | None:
    if "type" not in item:
        return None
    kind, name = str(item["type"]), str(item.get("name", item["type"]))
    place = Place(f"builder {kind} #{number}", "source", kind)
    section = _section(f"builder {name}", kind, place, item)
    return Use(name, name, section)


def _steps(section: str, kind: StepKind, value: Any) -> Iterator[Step]:
    for index, (item, chained) in enumerate(_chained(value)):
        plugin = str(item.get("type", ""))
        rest = {key: each for key, each in item.items() if key not in ("only", "except")}
        overrides = rest.pop("override", {})
        if chained:
            rest["chained"] = True
        place = Place(f"{section.removesuffix('s')} {plugin} #{index}", kind, plugin)
        yield Step(
            kind=kind,
            name=str(item.get("name", "")),
            only=_raw_names(item.get("only")),
            excepted=_raw_names(item.get("except")),
            overrides={key: json_document.encode(each) for key, each in overrides.items()}
            if isinstance(overrides, dict)
            else {},
            section=_step_section(plugin, place, rest, overrides),
        )


def _step_section(plugin: str, place: Place, content: dict[str, Any], overrides: Any) -> Section:
    """What is overridden counts as tokens for one build alone, but names files for all."""
    section = _section(plugin, plugin, place, content)
    named = _mentions({"override": overrides}, place)
    return structs.replace(section, mentions=(*section.mentions, *named))


def _chained(value: Any) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each step, and whether it works on what the one before it made."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            yield {"type": item}, False
        elif isinstance(item, dict):
            yield item, False
        elif isinstance(item, list):
            for number, (inner, _) in enumerate(_chained(item)):
                yield inner, number > 0


def _raw_names(value: Any) -> Names:
    """The names of ``only`` and ``except`` as they stand there: Packer compares these."""
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),) if value else ()


def _section(label: str, plugin: str, place: Place, content: dict[str, Any]) -> Section:
    words = set[str]().union(*(_words(text) for text in _strings(content)))
    return Section(
        label=label,
        type=plugin,
        tokens={
            key: json_document.encode(value)
            for key, value in content.items()
            if not key.startswith("_")
        },
        mentions=tuple(_mentions(content, place)),
        references=frozenset(_references(content)),
        calls=frozenset(words),
    )


def _references(content: Any) -> Iterator[str]:
    """Variables; "var" alone where it is not known which."""
    for text in _strings(content):
        for action in _ACTION.finditer(text):
            named = _USER.findall(action[1])
            yield from (f"var.{name}" for name in named)
            if len(re.findall(r"\buser\b", _QUOTED.sub("", action[1]))) > len(named):
                yield "var"


def _others(document: dict[str, Any]) -> Iterator[Section]:
    """What we do not know may bear on every build; comments begin with an underscore."""
    for key, value in document.items():
        if key not in _KNOWN and not key.startswith("_"):
            yield Section(label="template", tokens={key: json_document.encode(value)})


def _sections(document: dict[str, Any]) -> Iterator[Mention]:
    for section in _SECTIONS:
        for index, item in enumerate(_items(document.get(section))):
            plugin = str(item.get("type", ""))
            place = Place(f"{section} #{index}", _STEP_KINDS.get(section, "source"), plugin)
            yield from _mentions(item, place)


def _items(value: Any) -> Iterator[dict[str, Any]]:
    """The objects of a section; post-processors come in lists of lists and as mere names."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item
        elif isinstance(item, list):
            yield from _items(item)


def _mentions(value: Any, place: Place) -> Iterator[Mention]:
    if isinstance(value, str):
        yield from (Mention(place, tuple(_parts(text))) for text in _branches(value))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _mentions(item, structs.replace(place, path=(*place.path, key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            inner = isinstance(item, dict) and place.path
            block = f"{place.block}.{place.path[-1]} #{number}" if inner else place.block
            yield from _mentions(item, structs.replace(place, block=block))


def _branches(text: str) -> Iterator[str]:
    """A text, or what stands between the ``if``, ``else`` and ``end`` in it."""
    end = 0
    for action in _ACTION.finditer(text):
        if _CONTROL.match(action[1]):
            yield text[end : action.start()]
            end = action.end()
    yield text[end:]


def _parts(text: str) -> Iterator[Part]:
    end = 0
    for action in _ACTION.finditer(text):
        if action.start() > end:
            yield text[end : action.start()]
        named = _WORD.findall(_QUOTED.sub("", action[1]))
        known = not action[1].startswith(".") and _EVALUABLE.issuperset(named)
        yield Expression(action[1]) if known and "\n" not in action[1] else action[0]
        end = action.end()
    if text[end:]:
        yield text[end:]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _words(text: Any) -> Iterator[str]:
    """Names of functions (and more) within the actions of a text."""
    if isinstance(text, str):
        for action in _ACTION.finditer(text):
            yield from _WORD.findall(_QUOTED.sub("", action[1]))
