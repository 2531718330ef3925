"""Sources that a build block of HCL2 gives a name of its own.

Up to 1.6.6 ``packer inspect`` prints the source's own name, while the build goes by
the one that ``source "null.a" { name = "b" }`` gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct
from tree_sitter import Node

from packer_fork.template import grammar

_PLAIN = re.compile(r'"([^"\\$%]*)"')


class Renamed(Struct, frozen=True):
    """In the build block called `build` (or not at all) the source `ref` goes by `name`.

    The name is None where only Packer can tell it; so is `ref`, then empty, of a ``dynamic``
    block.
    """

    build: str
    ref: str
    name: str | None


def renamed(source: bytes) -> Iterator[Renamed]:
    """Every renamed source of one file; a broken file tells what it still can."""
    try:
        root = grammar.parse(source)
    except grammar.TooComplexError:
        return
    for kind, _, body in _blocks(_body_of(root)):
        if kind == "build":
            build = _plain(_attribute(body, "name")) or ""
            for inner, labels, content in _blocks(body):
                name = _attribute(content, "name")
                if inner == "source" and labels and name:
                    yield Renamed(build, labels[0].removeprefix("source."), _plain(name))
                elif inner == "dynamic" and "source" in labels:
                    yield from _dynamic(build, content)


def _dynamic(build: str, body: Node | None) -> Iterator[Renamed]:
    for kind, _, content in _blocks(body):
        if kind == "content" and _attribute(content, "name"):
            yield Renamed(build, "", None)


def _blocks(body: Node | None) -> Iterator[tuple[str, list[str], Node | None]]:
    for block in _of_type(body, "block"):
        kind, *labels = (
            _text(child).strip('"')
            for child in block.children
            if child.type in ("identifier", "string_lit")
        )
        yield kind, labels, _body_of(block)


def _attribute(body: Node | None, name: str) -> str:
    """The expression in ``name = ...``, empty if there is none."""
    for attribute in _of_type(body, "attribute"):
        if attribute.children and _text(attribute.children[0]) == name:
            return _text(attribute.children[-1]).strip()
    return ""


def _plain(expression: str) -> str | None:
    found = _PLAIN.fullmatch(expression)
    return found[1] if found else None


def _body_of(node: Node) -> Node | None:
    return next(_of_type(node, "body"), None)


def _of_type(node: Node | None, kind: str) -> Iterator[Node]:
    return (child for child in (node.children if node else ()) if child.type == kind)


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")
