"""HCL's JSON syntax (``*.pkr.json``), read by writing it as the HCL that it stands for.

Every string in it is an HCL template without escapes, which is what a heredoc holds; one
without ``${}`` and ``%{}`` is a plain string.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from msgspec import structs

from packer_fork.template import hcl, json_document
from packer_fork.template.contents import Contents
from packer_fork.template.expression_text import quoted

_END = "END_OF_JSON_TEXT"
_MOST_DIGITS = 100
_UNREADABLE = re.compile("[\0\ud800-\udfff]")
"""What cannot stand in HCL: the end of a text, and halves of surrogate pairs."""

_PLAIN_BLOCKS = ("build", "locals", "variables", "packer", "post-processors", "content")
_LABELLED = ("source", "data", "variable", "local", "dynamic", "provisioner", "post-processor")
_LABELS = dict.fromkeys(_PLAIN_BLOCKS, 0) | dict.fromkeys(_LABELLED, 1)
_TOP_LEVEL = {"source": 2, "data": 2}
"""How many labels a block has; anything else is an attribute."""


def parse(source: bytes, file: str = "") -> Contents:
    document = json_document.decode(source, _object)
    if not isinstance(document, dict):
        return Contents(is_parsable=False)
    try:
        written = "".join(_body(document, _LABELS | _TOP_LEVEL))
    except RecursionError:
        return Contents(is_parsable=False, is_too_complex=True)
    text = _UNREADABLE.sub("?", written)
    read = hcl.parse(text.encode(), file, has_lines=False)
    return read if text == written else structs.replace(read, is_parsable=False)


def _object(pairs: json_document.Pairs) -> dict[str, Any]:
    """An object; a name that it has twice stands for two blocks, as if it had a list of them."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            found[key] = [*_listed(found[key]), *_listed(value)]
        else:
            found[key] = value
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _body(content: Mapping[str, Any], labels: Mapping[str, int]) -> Iterator[str]:
    for key, value in content.items():
        if key in labels and isinstance(value, dict | list):
            yield from _blocks(key, value, labels[key])
        elif not key.startswith("//"):
            yield f"{key} = {_value(value)}\n"


def _blocks(head: str, value: Any, labels: int) -> Iterator[str]:
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, dict):
            continue
        if labels:
            for label, inner in each.items():
                yield from _blocks(f'{head} "{label}"', inner, labels - 1)
        else:
            yield "".join((f"{head} {{\n", *_body(each, _LABELS), "}\n"))


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        elements = [f"{_key(k)} = {_value(v)}\n" for k, v in value.items()]
        return "".join(("{\n", *elements, "}"))
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return f"{value:f}" if _is_short(value) else json_document.encode(value)


def _text(value: str) -> str:
    if "${" in value or "%{" in value:
        return f"<<{_END}\n{value}\n{_END}\n"
    return quoted(value)


def _is_short(value: Any) -> bool:
    """Whether it is a number that can be written without an exponent, which HCL
    takes after a fraction only.
    """
    return isinstance(value, Decimal) and abs(value.adjusted()) < _MOST_DIGITS


def _key(key: str) -> str:
    return key if key.isidentifier() else quoted(key)
