"""What one of Packer's older JSON templates says; its strings are Go templates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from packer_fork.inputs.mentions import Expression, Mention, Parsed, Part, Unknown
from packer_fork.malformed import MALFORMED

_BOM = b"\xef\xbb\xbf"
_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"")
_WORD = re.compile(r"[A-Za-z_]\w*")
_EVALUABLE = re.compile(r"(user|template_dir|pwd|env|lower|upper)\b")
_UNSTABLE = frozenset(("timestamp", "isotime", "strftime", "uuid"))
_SECTIONS = ("builders", "provisioners", "post-processors", "error-cleanup-provisioner")


def parse(source: bytes) -> Parsed:
    try:
        document = msgspec.json.decode(source.removeprefix(_BOM), type=dict[str, Any])
    except MALFORMED:
        return Parsed(intelligible=False)
    variables = document.get("variables")
    variables = variables if isinstance(variables, dict) else {}
    raw = {name: set(_words(value)) for name, value in variables.items()}
    calls = set[str]().union(*(_words(text) for text in _strings(document)))
    builders = [item for item in _items(document.get("builders")) if "type" in item]
    return Parsed(
        mentions=tuple(_sections(document)),
        variables={name: f"user `{name}`" for name in variables if "`" not in name},
        unstable=frozenset(name for name, words in raw.items() if words & _UNSTABLE),
        calls=frozenset(calls),
        sources=tuple(str(item.get("name", item["type"])) for item in builders),
    )


def _sections(document: dict[str, Any]) -> Iterator[Mention]:
    for section in _SECTIONS:
        for index, item in enumerate(_items(document.get(section))):
            block = f"{section.removesuffix('s')} {item.get('type', '')} #{index}"
            yield from _mentions(item, block, "")


def _items(value: Any) -> Iterator[dict[str, Any]]:
    """The objects of a section; post-processors come in lists of lists and as mere names."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item
        elif isinstance(item, list):
            yield from _items(item)


def _mentions(value: Any, block: str, attribute: str) -> Iterator[Mention]:
    if isinstance(value, str):
        yield Mention(block, attribute, tuple(_parts(value)))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _mentions(item, block, key)
    elif isinstance(value, list):
        for item in value:
            yield from _mentions(item, block, attribute)


def _parts(text: str) -> Iterator[Part]:
    end = 0
    for action in _ACTION.finditer(text):
        if action.start() > end:
            yield text[end : action.start()]
        known = _EVALUABLE.match(action[1])
        yield Expression(action[1]) if known else Unknown()
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
