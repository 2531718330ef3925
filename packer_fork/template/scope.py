"""Names in HCL that stand for the elements of a collection, and expressions freed of them.

``[for f in fileset(...) : EXPRESSION]`` gives what EXPRESSION comes to for every
element; what a ``dynamic`` block calls its elements is bound in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from tree_sitter import Node

from packer_fork.template.expression_text import one_line, text_of

EVALUABLE = frozenset(("var", "local", "path"))
"""What Packer can evaluate before a build runs."""

_LOOPS = ("for_tuple_expr", "for_object_expr")


class Binder(Struct, frozen=True):
    """``for NAMES in COLLECTION :``, what that rests on, and a condition behind it."""

    names: frozenset[str]
    intro: str
    free: frozenset[str]
    collection: Node
    condition: str = ""


Scope = tuple[Binder, ...]


def dynamic(label: str, body: Node | None) -> Binder | None:
    """What the ``dynamic`` block with this label and body binds in its content."""
    attributes = {
        text_of(child.children[0]): child.children[-1]
        for child in (body.children if body else ())
        if child.type == "attribute"
    }
    if "for_each" not in attributes:
        return None
    name = text_of(attributes["iterator"]) if "iterator" in attributes else label
    collection = attributes["for_each"]
    elements = f"[for k, v in {one_line(collection)} : {{key = k, value = v}}]"
    intro = f"for {name} in {elements} :"
    return Binder(frozenset((name,)), intro, frozenset(free(collection)), collection)


def closed(node: Node, scope: Scope, source: str = "") -> str | None:
    """An expression for every value that `node` takes; None if some name stays unknown."""
    source, names = source or one_line(node), free(node)
    for binder in (*_around(node), *reversed(scope)):
        if names <= EVALUABLE:
            break
        if names & binder.names:
            source = f"[{binder.intro} {source} {binder.condition}]"
            names = (names - binder.names) | binder.free
    return source if names <= EVALUABLE else None


def bound_to(name: str, node: Node, scope: Scope) -> tuple[Node, Scope] | None:
    """The collection whose elements `name` stands for at `node`, and the names bound there."""
    for binder in _around(node):
        if name in binder.names:
            return binder.collection, scope
    for number, binder in reversed(list(enumerate(scope))):
        if name in binder.names:
            return binder.collection, scope[:number]
    return None


def free(node: Node) -> set[str]:
    """The first names that `node` rests on, other than those that a ``for`` in it binds."""
    if node.type == "variable_expr":
        return {text_of(node)}
    children = [child for child in node.children if child.is_named]
    if node.type == "object_elem" and _is_bare(children[0]):
        children = children[1:]
    found, bound = set[str](), set[str]()
    for child in children:
        found |= free(child)
        bound.update(_bound(child))
    return found - bound


def _is_bare(key: Node) -> bool:
    """Whether this is the ``a`` of ``{ a = 1 }``, which looks like a variable and is none."""
    return key.child_count == 1 and key.children[0].type == "variable_expr"


def _around(node: Node) -> Iterator[Binder]:
    """The ``for`` expressions that `node` is in the body of, from the inside."""
    child, parent = node, node.parent
    while parent:
        loops = parent.children if parent.type in _LOOPS else ()
        intro = next((each for each in loops if each.type == "for_intro"), None)
        if intro and child.type != "for_intro":
            condition = next((each for each in parent.children if each.type == "for_cond"), None)
            yield Binder(
                frozenset(_bound(intro)),
                one_line(intro),
                frozenset(free(intro)),
                _collection(intro),
                one_line(condition) if condition else "",
            )
        child, parent = parent, parent.parent


def _collection(intro: Node) -> Node:
    return next((each for each in intro.children if each.type == "expression"), intro)


def _bound(intro: Node) -> Iterator[str]:
    if intro.type in ("for_intro", "template_for_start"):
        yield from (text_of(child) for child in intro.children if child.type == "identifier")
