"""Values that stand plainly in HCL and JSON, found without Packer.

Only what needs no evaluation is read: strings, numbers, lists and maps of them, and
``env("NAME")``. Broken sources give what can still be told; nothing raises but TooComplexError.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from tree_sitter import Node

from packer_fork.template import grammar

_KINDS = {"variable": "var", "local": "local"}


class Declaration(Struct, frozen=True):
    """A variable or local of a template; ``kind`` is ``var`` or ``local``."""

    kind: str
    name: str
    sensitive: bool
    values: tuple[str, ...] = ()


def declarations_in_hcl(source: bytes, environ: Mapping[str, str]) -> Iterator[Declaration]:
    """Every ``variable`` and ``local`` block, with the values of its default or expression."""
    for body in _of_type(grammar.parse(source), "body"):
        for block in _of_type(body, "block"):
            kind, *labels = (_text(child) for child in block.children[:2])
            if kind in _KINDS and labels:
                yield _declaration(_KINDS[kind], labels[0].strip('"'), block, environ)


def _declaration(kind: str, name: str, block: Node, environ: Mapping[str, str]) -> Declaration:
    attributes: dict[str, Node] = {}
    for body in _of_type(block, "body"):
        attributes |= _attributes(body)
    flag, value = attributes.get("sensitive"), attributes.get(_VALUE_OF[kind])
    return Declaration(
        kind,
        name,
        sensitive=flag is not None and _text(flag) == "true",
        values=tuple(_leaves(value, environ)) if value else (),
    )


_VALUE_OF = {"var": "default", "local": "expression"}


def assignments_in_hcl(source: bytes, environ: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The values in each ``name = ...`` of a variables file."""
    found: dict[str, tuple[str, ...]] = {}
    for body in _of_type(grammar.parse(source), "body"):
        for name, value in _attributes(body).items():
            found[name] = tuple(_leaves(value, environ))
    return found


def declarations_in_json(source: bytes) -> Iterator[Declaration]:
    """The same for ``*.pkr.json``: ``{"variable": {NAME: {...}}}``, or a list of such objects."""
    root = parse_json(source)
    for block, kind in _KINDS.items():
        for group in _objects(root.get(block) if isinstance(root, dict) else None):
            for name, bodies in group.items():
                for body in _objects(bodies):
                    values = tuple(leaves(body.get(_VALUE_OF[kind])))
                    yield Declaration(kind, name, body.get("sensitive") is True, values)


def _objects(value: object) -> list[dict[str, Any]]:
    candidates = value if isinstance(value, list) else [value]
    return [candidate for candidate in candidates if isinstance(candidate, dict)]


def parse_json(source: bytes | str) -> Any:
    """The document, its numbers as they are written; None if it is no JSON."""
    try:
        return json.loads(source, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None


def leaves(value: object) -> Iterator[str]:
    """Every string and number in a parsed document, however deep; no keys, no booleans."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, int | float) and not isinstance(item, bool):
            yield str(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _of_type(node: Node, *types: str) -> Iterator[Node]:
    return (child for child in node.children if child.type in types)


def _attributes(body: Node) -> dict[str, Node]:
    return {_text(node.children[0]): node.children[-1] for node in _of_type(body, "attribute")}


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")


def _leaves(expression: Node, environ: Mapping[str, str]) -> Iterator[str]:
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        if node.type == "function_call":
            yield from _environment(node, environ)
        elif node.type in ("string_lit", "numeric_lit", "heredoc_template"):
            yield from _plain(node)
        elif node.type == "object_elem":
            waiting.append(node.children[-1])
        elif node.type in _TRANSPARENT:
            waiting.extend(node.children)


_TRANSPARENT = frozenset(
    ("expression", "collection_value", "object", "tuple", "literal_value", "template_expr")
)


def _environment(call: Node, environ: Mapping[str, str]) -> Iterator[str]:
    name, *_ = call.children
    if _text(name) == "env":
        for arguments in _of_type(call, "function_arguments"):
            for variable in (value for node in arguments.children for value in _leaves(node, {})):
                yield environ.get(variable, "")


def _plain(node: Node) -> Iterator[str]:
    text = _text(node)
    if node.type == "numeric_lit":
        yield text
    elif node.type == "heredoc_template":
        if not any(_of_type(node, "template_interpolation", "template_directive")):
            yield textwrap.dedent(text.partition("\n")[2].rpartition("\n")[0])
    else:
        yield _unquoted(text[1:-1])


def _unquoted(text: str) -> str:
    r"""HCL's escapes are JSON's, with ``\UNNNNNNNN``, ``$${`` and ``%%{`` besides."""
    plain = text.replace("$${", "${").replace("%%{", "%{")
    try:
        return str(json.loads(f'"{plain}"', strict=False))
    except ValueError:
        return plain
