"""HCL's JSON syntax (``*.pkr.json``), read by writing it as the HCL that it stands for.

Every string in it is an HCL template without escapes, which is what a heredoc holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from packer_fork.template import hcl
from packer_fork.template.contents import Parsed

_END = "END_OF_JSON_TEXT"
_BOM = b"\xef\xbb\xbf"
_PLAIN_BLOCKS = ("build", "locals", "variables", "packer", "post-processors", "content")
_LABELLED = ("source", "data", "variable", "local", "dynamic", "provisioner", "post-processor")
_LABELS = dict.fromkeys(_PLAIN_BLOCKS, 0) | dict.fromkeys(_LABELLED, 1)
_TOP_LEVEL = {"source": 2, "data": 2}
"""How many labels a block has; anything else is an attribute."""


def parse(source: bytes, file: str = "") -> Parsed:
    try:
        document = json.loads(source.removeprefix(_BOM).decode(), object_pairs_hook=_object)
        if not isinstance(document, dict):
            return Parsed(intelligible=False)
        written = "".join(_body(document, _LABELS | _TOP_LEVEL)).encode()
    except (ValueError, OverflowError, RecursionError):  # half a surrogate pair, a long number
        return Parsed(intelligible=False)
    return hcl.parse(written, file, has_lines=False)


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
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
        return f"<<{_END}\n{value}\n{_END}\n"
    if isinstance(value, dict):
        elements = [f"{_key(k)} = {_value(v)}\n" for k, v in value.items()]
        return "".join(("{\n", *elements, "}"))
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return msgspec.json.encode(value).decode()


def _key(key: str) -> str:
    return key if key.isidentifier() else msgspec.json.encode(key).decode()
