"""What an HCL expression may come to where Packer cannot evaluate it as a whole.

Its texts and those of its parts that can be evaluated are taken: both branches of a condition,
the arguments of functions that pass them on, the body of a ``for`` with what its names stand for.
What is compared, or asked for as a key, names nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from tree_sitter import Node

from packer_fork.template.contents import UNKNOWN, Expression, Literals, Parts
from packer_fork.template.expression_text import one_line, pieces, text_of, unescape
from packer_fork.template.scope import EVALUABLE, Scope, bound_to, closed, free

TEXTS = ("quoted_template", "heredoc_template", "string_lit")
_WRAPPERS = (
    *("expression", "collection_value", "literal_value", "template_expr"),
    *("operation", "for_expr"),
)
_PLAIN = ("numeric_lit", "bool_lit", "null_lit", "binary_operation", "unary_operation")
"""What comes to no text of its own."""

_PASS_ON = frozenset(
    (
        *("concat", "flatten", "compact", "distinct", "sort", "reverse", "toset", "tolist"),
        *("tomap", "tostring", "coalesce", "coalescelist", "try", "setunion", "merge", "values"),
        *("chunklist", "nonsensitive", "sensitive", "one", "zipmap"),
    )
)
"""Functions whose result consists of their arguments, or of parts of these."""

_KEYED = {"lookup": (1,), "element": (1,), "slice": (1, 2), "index": (1,), "contains": (0, 1)}
"""By function, the arguments that choose and are not passed on."""

_PREDICATES = frozenset(
    ("can", "length", "alltrue", "anytrue", "regexall", "startswith", "endswith")
)
_READING = frozenset(
    (
        *("file", "filebase64", "templatefile", "fileset", "fileexists", "filemd5", "filesha1"),
        *("filesha256", "filesha512", "jsondecode", "yamldecode", "env", "formatdate"),
    )
)
"""Functions whose arguments have nothing in common with their results."""

_VERB = re.compile(r"%(?:\[\d+\])?[-+# 0-9.*]*[a-zA-Z]")
_UNKNOWN: tuple[Parts, ...] = ((UNKNOWN,),)


def unwrapped(node: Node) -> Node:
    """What an expression consists of, without parentheses."""
    while node.type in _WRAPPERS:
        inner = [child for child in node.children if child.is_named and child.type != "comment"]
        if len(inner) != 1 or inner[0].type == "variable_expr":
            break
        node = inner[0]
    return node


def expression(node: Node, scope: Scope) -> Expression:
    """`node`, which is neither a text nor a collection."""
    return Expression(closed(node, scope) or "", tuple(_inner(node, scope)), _name(node, scope))


def text(node: Node, scope: Scope) -> Parts:
    """A text in pieces; as one expression where names in it stand for several things."""
    parts = tuple(_pieces(node, scope))
    if free(node) <= EVALUABLE:
        return parts
    source = closed(node, scope)
    return (Expression(source, (parts,)),) if source else parts


def results(node: Node, scope: Scope) -> Iterator[Parts]:
    """Each thing that `node` may come to; the elements of a collection."""
    node = unwrapped(node)
    if node.type in TEXTS:
        yield text(node, scope)
    elif node.type == "tuple":
        for child in _expressions(node):
            yield from results(child, scope)
    elif node.type == "object":
        for element in (each for each in node.children if each.type == "object_elem"):
            yield from results(_expressions(element)[-1], scope)
    elif node.type not in _PLAIN:
        yield (expression(node, scope),)


def literal_text(node: Node) -> str | None:
    """The text of a plain string; None for all else."""
    node = unwrapped(node)
    if node.type not in TEXTS or not all(isinstance(piece, str) for piece in pieces(node)):
        return None
    heredoc = node.type == "heredoc_template"
    return "".join(unescape(each, heredoc=heredoc) for each in pieces(node) if type(each) is str)


def literals(node: Node) -> Literals:
    """The literals in `node`, however deep it is nested; no keys, no booleans."""
    texts: list[str] = []
    environment: list[str] = []
    waiting = [node]
    while waiting:
        node = unwrapped(waiting.pop())
        if node.type == "tuple":
            waiting += _expressions(node)
        elif node.type == "object":
            elements = (child for child in node.children if child.type == "object_elem")
            waiting += (_expressions(each)[-1] for each in elements)
        elif node.type == "function_call" and text_of(node.children[0]) == "env":
            environment += filter(None, map(literal_text, arguments(node)))
        elif node.type == "numeric_lit":
            texts.append(text_of(node))
        elif (plain := literal_text(node)) is not None:
            texts.append(plain.removesuffix("\n") if node.type == "heredoc_template" else plain)
    return Literals(tuple(texts), tuple(environment))


def arguments(call: Node) -> list[Node]:
    listed = next((child for child in call.children if child.type == "function_arguments"), None)
    return _expressions(listed) if listed else []


def _pieces(template: Node, scope: Scope) -> Iterator[str | Expression]:
    heredoc = template.type == "heredoc_template"
    for piece in pieces(template):
        if isinstance(piece, str):
            yield unescape(piece, heredoc=heredoc)
        elif piece.type == "template_directive":
            known = free(piece) <= EVALUABLE
            yield Expression(f'"{one_line(piece)}"') if known else UNKNOWN
        elif inner := _expressions(piece):
            yield expression(inner[0], scope)


def _inner(node: Node, scope: Scope) -> Iterator[Parts]:
    node = unwrapped(node)
    match node.type:
        case "conditional":
            for branch in _expressions(node)[1:]:
                yield from results(branch, scope)
        case "function_call":
            yield from _of_call(node, scope)
        case "for_tuple_expr" | "for_object_expr":
            yield from results(_expressions(node)[-1], scope)
        case "expression" | "variable_expr":
            yield from _of_reference(node, scope)
        case _ if node.type in TEXTS or node.type in ("tuple", "object"):
            yield from results(node, scope)


def _of_call(call: Node, scope: Scope) -> Iterator[Parts]:
    name = text_of(call.children[0])
    given = arguments(call)
    if name in _PREDICATES:
        return
    if name == "format" and given and unwrapped(given[0]).type in TEXTS:
        yield tuple(_with_verbs(text(unwrapped(given[0]), scope)))
        return
    if name == "replace" and len(given) == 3:
        yield from _replaced(given, scope)
        return
    if name == "join" and len(given) == 2 and unwrapped(given[1]).type == "tuple":
        yield from _joined(given[0], given[1], scope)
        return
    if name not in _READING:
        skipped = _KEYED.get(name, ())
        for number, argument in enumerate(given):
            if number not in skipped:
                yield from results(argument, scope)
    if name not in _PASS_ON and name not in _KEYED:
        yield from _UNKNOWN


def _with_verbs(parts: Parts) -> Iterator[str | Expression]:
    """The text of ``format()`` with an unknown part for each verb."""
    for part in parts:
        if isinstance(part, Expression):
            yield part
            continue
        end = 0
        for verb in _VERB.finditer(part):
            yield part[end : verb.start()]
            yield UNKNOWN
            end = verb.end()
        yield part[end:]


def _replaced(arguments: list[Node], scope: Scope) -> Iterator[Parts]:
    """The texts of ``replace()`` with what is put in, if what it looks for is a plain text."""
    texts, searched, put_in = (list(results(each, scope)) for each in arguments)
    match searched:
        case [(str(old),)] if old:
            for parts, new in itertools.product(texts, put_in):
                yield tuple(_with(parts, old, new))
        case _:
            yield from (*texts, *put_in, *_UNKNOWN)


def _with(parts: Parts, old: str, new: Parts) -> Iterator[str | Expression]:
    for part in parts:
        if isinstance(part, Expression):
            yield part
            continue
        first, *rest = part.split(old)
        yield first
        for each in rest:
            yield from (*new, each)


def _joined(separator: Node, listed: Node, scope: Scope) -> Iterator[Parts]:
    """The text of ``join()`` of a list whose elements are texts."""
    first, *rest = list(results(listed, scope)) or [()]
    for between in results(separator, scope):
        yield (*first, *(part for each in rest for part in (*between, *each)))


def _of_reference(node: Node, scope: Scope) -> Iterator[Parts]:
    first = node if node.type == "variable_expr" else node.children[0]
    if first.type != "variable_expr":
        yield from _UNKNOWN if first.type == node.type else _inner(first, scope)
        return
    root = text_of(first)
    if bound := bound_to(root, node, scope):
        yield from results(*bound)
    elif root not in EVALUABLE and root not in ("source", "build"):
        yield from _UNKNOWN


def _name(node: Node, scope: Scope) -> str:
    """The first two names of a reference."""
    node = unwrapped(node)
    following = [child for child in node.children if child.type == "get_attr"]
    first = node.children[0] if node.children else node
    if node.type != "expression" or first.type != "variable_expr" or not following:
        return ""
    root = text_of(first)
    bound = bound_to(root, node, scope) is not None
    return "" if bound else f"{root}.{text_of(following[0]).lstrip('. ')}"


def _expressions(node: Node) -> list[Node]:
    return [child for child in node.children if child.type == "expression"]
