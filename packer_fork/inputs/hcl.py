"""What an HCL template says, by tree-sitter: an error in it costs what it touches, no more."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, structs
from tree_sitter import Node

from packer_fork import grammar
from packer_fork.inputs.mentions import Expression, Local, Mention, Parsed, Part, Unknown
from packer_fork.inputs.oneline import one_line, pieces, text_of, unescape
from packer_fork.inputs.scope import EVALUABLE, Scope, closed, dynamic, free

OPENING = frozenset(
    (
        *("file", "filebase64", "filemd5", "filesha1", "filesha256", "filesha512"),
        *("filebase64sha256", "filebase64sha512", "fileexists", "templatefile"),
    )
)
"""Functions whose first argument is a file that Packer reads."""

_TEXTS = ("quoted_template", "heredoc_template", "string_lit")
_DEFINITIONS = ("variable", "variables", "locals", "local", "packer")


def parse(source: bytes) -> Parsed:
    """What is nested too deeply, or is too complex, is unintelligible to us."""
    reader = _Reader()
    try:
        root = grammar.parse(source)
        reader.body(root, ())
    except (grammar.TooComplexError, RecursionError):
        return Parsed(intelligible=False)
    return reader.result(intelligible=not root.has_error)


class _Reader:
    """Gathers in one walk; `block` below is the path of (type, labels...) to a body."""

    def __init__(self) -> None:
        self.mentions: list[Mention] = []
        self.variables: dict[str, str] = {}
        self.locals: list[Local] = []
        self.references: set[str] = set()
        self.calls: set[str] = set()
        self.sources: list[str] = []
        self.scope: Scope = ()
        self.count = 0

    def result(self, *, intelligible: bool) -> Parsed:
        return Parsed(
            mentions=tuple(self.mentions),
            variables=self.variables,
            locals=tuple(self.locals),
            references=frozenset(self.references),
            calls=frozenset(self.calls),
            sources=tuple(self.sources),
            intelligible=intelligible,
        )

    def body(self, node: Node, block: tuple[str, ...], name: str = "") -> None:
        for child in node.children:
            if child.type == "block":
                self.block(child)
            elif child.type == "attribute":
                self.attribute(child, block, name)
            elif child.type in ("body", "ERROR"):
                self.body(child, block, name)

    def block(self, node: Node) -> None:
        kind, *labels = (
            text_of(child).strip('"')
            for child in node.children
            if child.type in ("identifier", "string_lit")
        )
        outer = self.scope
        if kind == "dynamic" and labels:
            body = next((child for child in node.children if child.type == "body"), None)
            binder = dynamic(labels[0], body)
            self.scope = (*outer, binder) if binder else outer
            kind, *labels = labels
        self.count += 1
        name = f"{kind} {'.'.join(labels)} #{self.count}"
        if kind == "source":
            source = ".".join(labels).removeprefix("source.")
            name = f"source {source}"
            self.sources.append(source)
        elif kind == "variable" and labels:
            self.variables[labels[0]] = f"var.{labels[0]}"
        self.body(node, (kind, *labels), name)
        self.scope = outer

    def attribute(self, node: Node, block: tuple[str, ...], name: str) -> None:
        key, value = text_of(node.children[0]), node.children[-1]
        references, calls = set(_references(value)), set(_calls(value))
        self.references |= references
        self.calls |= calls
        kind = block[0] if block else ""
        if kind == "variables":
            self.variables[key] = f"var.{key}"
        elif kind == "locals" or (kind == "local" and key == "expression"):
            local = key if kind == "locals" else ".".join(block[1:])
            self.locals.append(Local(local, frozenset(references), frozenset(calls)))
        place = _Place(name, key, self.scope)
        self.mentions += _opened(value, place)
        if kind not in _DEFINITIONS:
            self.mentions += _texts(value, place)


class _Place(Struct, frozen=True):
    """Where an expression stands: block, attribute, and the names that are bound there."""

    block: str
    attribute: str
    scope: Scope

    def mention(self, parts: tuple[Part, ...], *, opened: bool = False) -> Mention:
        return Mention(self.block, self.attribute, parts, opened=opened)


def _texts(node: Node, place: _Place) -> Iterator[Mention]:
    """Every text below `node`, and what its expressions come to."""
    if node.type == "object_elem":
        key, node = _element(node)
        place = _Place(place.block, key or place.attribute, place.scope)
    if node.type in _TEXTS:
        yield _mention(node, place)
    elif _is_computed(node):
        source = closed(node, place.scope)
        if source:
            yield place.mention((Expression(source),))
    for child in node.children:
        yield from _texts(child, place)


def _mention(node: Node, place: _Place, *, opened: bool = False) -> Mention:
    """Of a text or expression: in pieces, as a whole where names in it are bound."""
    parts = tuple(_parts(node)) if node.type in _TEXTS else (Unknown(),)
    if Unknown() not in parts:
        return place.mention(parts, opened=opened)
    source = closed(node, place.scope)
    whole = Mention(place.block, place.attribute, parts, opened=opened)
    return structs.replace(whole, parts=(Expression(source),), fallback=parts) if source else whole


def _is_computed(node: Node) -> bool:
    """Whether this is the whole of an expression that is neither a literal nor a collection."""
    plain = ("template_expr", "literal_value", "collection_value", "template_interpolation")
    parent = node.parent.type if node.parent else ""
    return (
        node.type == "expression"
        and parent in ("attribute", "object_elem", "tuple", "conditional", "config_file")
        and bool(node.children)
        and node.children[0].type not in plain
    )


def _element(node: Node) -> tuple[str, Node]:
    """Key (as far as it is plain) and value of an object's element."""
    expressions = [child for child in node.children if child.type == "expression"]
    key = text_of(expressions[0]).strip('"')
    return key if key.isidentifier() else "", expressions[-1]


def _parts(template: Node) -> Iterator[Part]:
    heredoc = template.type == "heredoc_template"
    for piece in pieces(template):
        if isinstance(piece, str):
            yield unescape(piece, heredoc=heredoc)
        elif not free(piece) <= EVALUABLE:
            yield Unknown()
        elif piece.type == "template_directive":
            yield Expression(f'"{one_line(piece)}"')
        else:
            inner = next((c for c in piece.children if c.type == "expression"), None)
            yield Expression(one_line(inner)) if inner else ""


def _opened(node: Node, place: _Place) -> Iterator[Mention]:
    """What Packer reads itself to evaluate `node`."""
    if node.type == "function_call":
        name, arguments = text_of(node.children[0]), list(_arguments(node))
        if name in OPENING and arguments:
            yield _mention(_inner(arguments[0]), place, opened=True)
        elif name == "fileset" and len(arguments) == 2:
            source = closed(node, place.scope, _fileset(*arguments))
            yield place.mention((Expression(source) if source else Unknown(),), opened=True)
    for child in node.children:
        yield from _opened(child, place)


def _arguments(call: Node) -> Iterator[Node]:
    for child in call.children:
        if child.type == "function_arguments":
            yield from (each for each in child.children if each.type == "expression")


def _inner(node: Node) -> Node:
    """The text that an expression consists of, or the expression."""
    text = node
    while text.type in ("expression", "template_expr", "literal_value") and text.children:
        text = text.children[0]
    return text if text.type in _TEXTS else node


def _fileset(folder: Node, pattern: Node) -> str:
    """The files of ``fileset()`` with the folder, which its result leaves out."""
    at, glob = one_line(folder), one_line(pattern)
    return f'[for f in fileset({at}, {glob}) : "${{{at}}}/${{f}}"]'


def _calls(node: Node) -> Iterator[str]:
    if node.type == "function_call":
        yield text_of(node.children[0])
    for child in node.children:
        yield from _calls(child)


def _references(node: Node) -> Iterator[str]:
    """Dotted names: "var.a", "local.b", "data.amazon-ami.base", "path.root"."""
    children = node.children
    for index, child in enumerate(children):
        if child.type == "variable_expr":
            following = [
                text_of(c).lstrip(".") for c in children[index + 1 :] if c.type == "get_attr"
            ]
            root = text_of(child)
            yield ".".join((root, *following[: 2 if root == "data" else 1]))
        yield from _references(child)
