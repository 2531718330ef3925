"""What an HCL template says, by tree-sitter: an error in it costs what it touches, no more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct, structs
from tree_sitter import Node

from packer_fork.template import grammar
from packer_fork.template.contents import (
    ANY_TYPE,
    At,
    BuildBlock,
    Contents,
    Expression,
    Literals,
    Local,
    Mention,
    Names,
    Parts,
    Place,
    Secret,
    Section,
    Sections,
    Step,
    StepKind,
    Use,
)
from packer_fork.template.expression_text import one_line, text_of, tokens
from packer_fork.template.expressions import (
    arguments,
    literal_text,
    literals,
    results,
    unwrapped,
)
from packer_fork.template.scope import Scope, closed, dynamic
from packer_fork.template.value_roles import NAMELESS

OPENING = frozenset(
    (
        *("file", "filebase64", "filemd5", "filesha1", "filesha256", "filesha512"),
        *("filebase64sha256", "filebase64sha512", "fileexists", "templatefile"),
    )
)
"""Functions whose first argument is a file that Packer reads."""

_STEPS: Mapping[str, StepKind] = {
    "provisioner": "provisioner",
    "post-processor": "post-processor",
    "error-cleanup-provisioner": "error-cleanup-provisioner",
}
_NAMED = ("source", "data", "local", "variable")
_COLLECTIONS = {"locals": "local", "variables": "variable"}
"""Blocks whose attributes are named things of the other kind."""

_WITH_PLUGIN = ("source", "data", *_STEPS)
"""Blocks that a plugin reads, with all that is nested in them."""

_DEFINITIONS = ("variable", "variables", "locals", "local", "packer")


def parse(source: bytes, file: str = "", *, has_lines: bool = True) -> Contents:
    """What is nested too deeply, or is too complex, is unintelligible to us.

    `has_lines`: whether the lines of `source` are those of `file`.
    """
    try:
        root = grammar.parse(source)
    except grammar.TooComplexError:
        return Contents(is_parsable=False, is_too_complex=True)
    secrets = tuple(_secrets(root))
    reader = _Reader(file, has_lines=has_lines)
    try:
        reader.top(root)
    except RecursionError:
        return Contents(secrets=secrets, is_parsable=False)
    return reader.result(secrets, is_parsable=not root.has_error)


def assignments(source: bytes) -> dict[str, Literals]:
    """The literals in each ``name = ...`` of a variables file. Raises TooComplexError."""
    found = _children(grammar.parse(source))
    return {text_of(a.children[0]): literals(a.children[-1]) for a in found if _is_attribute(a)}


_IDENTIFIER = re.compile(r"[^\W\d][\w-]*")


def _secrets(root: Node) -> Iterator[Secret]:
    """Sensitive variables and locals, also of a template that has errors in it."""
    for block in (child for child in _children(root) if child.type == "block"):
        kind, labels = _head(block)
        if kind not in ("variable", "local") or not labels:
            continue
        attributes = {text_of(a.children[0]): a.children[-1] for a in _attributes(block)}
        if "sensitive" in attributes and not _is_false(attributes["sensitive"]):
            value = attributes.get("default" if kind == "variable" else "expression")
            reference = f"{'var' if kind == 'variable' else 'local'}.{labels[0]}"
            yield Secret(
                name=labels[0],
                expression=reference if _IDENTIFIER.fullmatch(labels[0]) else "",
                literals=literals(value) if value else Literals(),
                is_assignable=kind == "variable",
            )


def _is_false(flag: Node) -> bool:
    return (literal_text(flag) or text_of(flag)).strip() == "false"


class _Gathered(Struct):
    """What was read of one section so far; see ``Section``."""

    tokens: dict[str, str]
    references: set[str]
    calls: set[str]
    mentions: list[Mention]
    lines: dict[str, int]


class _Reader:
    """Gathers in one walk; `block` below is the path of (type, labels...) to a body."""

    def __init__(self, file: str, *, has_lines: bool) -> None:
        self.file = file
        self.has_lines = has_lines
        self.mentions: list[Mention] = []
        self.variables: dict[str, str] = {}
        self.definitions: dict[str, tuple[Parts, ...]] = {}
        self.locals: list[Local] = []
        self.references: set[str] = set()
        self.calls: set[str] = set()
        self.scope: Scope = ()
        self.count = 0
        self.named: dict[str, dict[str, Section]] = {kind: {} for kind in _NAMED}
        self.builds: list[BuildBlock] = []
        self.others: list[Section] = []
        self.plugins: dict[str, str] = {}

    def result(self, secrets: tuple[Secret, ...], *, is_parsable: bool) -> Contents:
        return Contents(
            secrets=secrets,
            mentions=tuple(self.mentions),
            variables=self.variables,
            definitions=self.definitions,
            locals=tuple(self.locals),
            references=frozenset(self.references),
            calls=frozenset(self.calls),
            sources=tuple(self.named["source"]),
            is_parsable=is_parsable,
            sections=Sections(
                sources=self.named["source"],
                builds=tuple(self.builds),
                locals=self.named["local"],
                data=self.named["data"],
                variables={n: each for n, each in self.named["variable"].items() if each.calls},
                others=tuple(self.others),
                plugins=self.plugins,
            ),
        )

    def top(self, node: Node) -> None:
        for child in node.children:
            if child.type == "block":
                self.top_block(child)
            elif child.type == "attribute":
                self.others.append(self.section(child, "template"))
            elif child.type in ("body", "ERROR"):
                self.top(child)

    def top_block(self, node: Node) -> None:
        kind, labels = _head(node)
        if kind == "build":
            self.build(node)
        elif kind == "packer":
            self.require(self.section(node, "packer"))
        elif kind in _COLLECTIONS:
            singular = _COLLECTIONS[kind]
            for attribute in _attributes(node):
                key = text_of(attribute.children[0])
                section = self.section(attribute, f"{singular} {key}", within=node)
                self.named[singular][key] = section
        elif kind in self.named:
            name = ".".join(labels)
            plugin = labels[0] if labels and kind in ("source", "data") else ""
            self.named[kind][name] = self.section(node, f"{kind} {name}", plugin)
        else:
            self.others.append(self.section(node, " ".join((kind, *labels))))

    def require(self, packer: Section) -> None:
        for key, text in packer.tokens.items():
            if key.startswith("required_plugins."):
                self.plugins[key.removeprefix("required_plugins.")] = text

    def section(
        self, node: Node, label: str, plugin: str = "", *, within: Node | None = None
    ) -> Section:
        """A block, or an attribute `within` one, as a section of its own."""
        into = _Gathered({}, set(), set(), [], {})
        if node.type == "block":
            self.block(node, into)
        else:
            kind, labels = _head(within) if within else ("", ())
            place = Place(f"{kind} #{self.count}", kind)
            self.attribute(node, (kind, *labels), place, into)
        return self.seal(into, node, label, plugin)

    def at(self, node: Node) -> At:
        return At(self.file, node.start_point.row + 1 if self.has_lines else 0)

    def seal(self, into: _Gathered, node: Node, label: str, plugin: str = "") -> Section:
        self.mentions += into.mentions
        self.references |= into.references
        self.calls |= into.calls
        return Section(
            label=label,
            type=plugin,
            tokens=into.tokens,
            mentions=tuple(into.mentions),
            references=frozenset(into.references),
            calls=frozenset(into.calls),
            at=self.at(node),
            last=node.end_point.row + 1 if self.has_lines else 0,
            lines=into.lines,
        )

    def build(self, node: Node) -> None:
        own = _Gathered({}, set(), set(), [], {})
        uses: list[Use] | None = []
        steps: list[Step] = []
        name: str | None = ""
        plugin = ""
        for child in _children(node):
            if child.type == "attribute":
                key = text_of(child.children[0])
                if key == "name":
                    name = literal_text(child.children[-1])
                elif key == "sources":
                    listed = _names(child.children[-1])
                    uses = None if uses is None or listed is None else [*uses, *map(_use, listed)]
                if key not in ("name", "sources", "description") or name is None or uses is None:
                    self.attribute(child, ("build",), Place("build", "build"), own)
                continue
            kind, labels = _head(child)
            if kind == "source":
                use = self.use(child, labels)
                uses = None if uses is None else [*uses, use]
            elif kind in _STEPS:
                steps.append(self.step(child, _STEPS[kind], labels))
            elif kind == "post-processors" and (chain := _chain(child)):
                steps += [
                    self.step(each, "post-processor", _head(each)[1], chained=number > 0)
                    for number, each in enumerate(chain)
                ]
            else:
                is_known = kind == "hcp_packer_registry"
                plugin = plugin if is_known else ANY_TYPE
                makes_sources = kind == "dynamic" and _STEPS.keys().isdisjoint(labels)
                uses = None if makes_sources else uses
                self.block(child, own, f"{'.'.join((kind, *labels))}.")
        section = self.seal(own, node, "build", plugin)
        found = None if uses is None else tuple(uses)
        block = BuildBlock(
            name=name,
            uses=found,
            renamed=tuple(_renamed(node)),
            section=section,
            steps=tuple(steps),
        )
        self.builds.append(block)

    def use(self, node: Node, labels: tuple[str, ...]) -> Use:
        use = _use_in(node, labels)
        kind = use.ref.partition(".")[0]
        return structs.replace(use, section=self.section(node, f"source {use.ref}", kind))

    def step(
        self, node: Node, kind: StepKind, labels: tuple[str, ...], *, chained: bool = False
    ) -> Step:
        into = _Gathered({}, set(), set(), [], {})
        self.block(node, into)
        choices: dict[str, Names] = {"only": (), "except": ()}
        overrides: dict[str, str] = {}
        for attribute in _attributes(node):
            key, value = text_of(attribute.children[0]), attribute.children[-1]
            if key in choices:
                choices[key] = found = _names(value)
                if found is not None:
                    into.tokens.pop(key, None)
            elif key == "override" and (elements := _elements(value)):
                overrides = elements
                into.tokens.pop(key, None)
        if chained:
            into.tokens["chained"] = "true"
        plugin, name = labels[0] if labels else "", _value(node, "name")
        return Step(
            kind=kind,
            name=(literal_text(name) if name else None) or "",
            only=choices["only"],
            excepted=choices["except"],
            overrides=overrides,
            section=self.seal(into, node, plugin, plugin),
        )

    def body(
        self, node: Node, block: tuple[str, ...], place: Place, into: _Gathered, at: str
    ) -> None:
        for child in node.children:
            if child.type == "block":
                kind, labels = _head(child)
                path = f"{at}{'.'.join((kind, *labels))}"
                self.note(path, child, into)
                self.block(child, into, f"{path}.", place)
            elif child.type == "attribute":
                self.attribute(child, block, place, into, at)
            elif child.type in ("body", "ERROR"):
                self.body(child, block, place, into, at)

    def note(self, path: str, node: Node, into: _Gathered) -> None:
        """Remember the line of an attribute or block, the first of several."""
        if self.has_lines:
            into.lines.setdefault(path, node.start_point.row + 1)

    def block(self, node: Node, into: _Gathered, at: str = "", within: Place | None = None) -> None:
        """Gather a block; `at` is the path of its attributes, "" for those of the section, and
        `within` where a nested one stands.
        """
        kind, labels = _head(node)
        outer = self.scope
        if kind == "dynamic" and labels:
            body = next((child for child in node.children if child.type == "body"), None)
            binder = dynamic(labels[0], body)
            self.scope = (*outer, binder) if binder else outer
            kind, labels = labels[0], _dynamic_labels(node)
        self.count += 1
        if kind == "variable" and labels:
            self.variables[labels[0]] = f"var.{labels[0]}"
        self.body(node, (kind, *labels), self.place(kind, labels, within), into, at)
        self.scope = outer

    def place(self, kind: str, labels: tuple[str, ...], within: Place | None) -> Place:
        """Of the attributes of a block."""
        if within is not None and kind not in _STEPS and within.kind in _WITH_PLUGIN:
            path = within.path if kind == "content" else (*within.path, kind)
            block = within.block if kind == "content" else f"{within.block} {kind} #{self.count}"
            return structs.replace(within, block=block, path=path)
        name = ".".join(labels)
        if kind == "source":
            ref = name.removeprefix("source.")
            return Place(f"source {ref}", kind, ref.partition(".")[0])
        plugin = labels[0] if labels and kind in _WITH_PLUGIN else ""
        return Place(f"{kind} {name} #{self.count}", kind, plugin)

    def attribute(
        self, node: Node, block: tuple[str, ...], place: Place, into: _Gathered, at: str = ""
    ) -> None:
        key, value = text_of(node.children[0]), node.children[-1]
        references, calls = set(_references(value)), set(_calls(value))
        into.references |= references
        into.calls |= calls
        path = f"{at}{key}"
        self.note(path, node, into)
        before = into.tokens.get(path)
        into.tokens[path] = tokens(value) if before is None else f"{before}\n{tokens(value)}"
        kind = block[0] if block else ""
        if kind == "variables":
            self.variables[key] = f"var.{key}"
        elif kind == "locals" or (kind == "local" and key == "expression"):
            local = key if kind == "locals" else ".".join(block[1:])
            self.locals.append(Local(local, frozenset(references), frozenset(calls)))
            self.definitions[f"local.{local}"] = tuple(results(value, self.scope))
        elif kind == "variable" and key == "default":
            self.definitions[f"var.{'.'.join(block[1:])}"] = tuple(results(value, self.scope))
        spot = _Spot(structs.replace(place, path=(*place.path, key)), self.scope, self.at(node))
        into.mentions += _opened(value, spot)
        if kind not in _DEFINITIONS and (kind == "provisioner" or spot.place.role not in NAMELESS):
            into.mentions += _mentions(value, spot)


def _head(block: Node) -> tuple[str, tuple[str, ...]]:
    """Type and labels."""
    kind, *labels = (
        text_of(child).strip('"')
        for child in block.children
        if child.type in ("identifier", "string_lit")
    )
    return kind, tuple(labels)


def _dynamic_labels(block: Node) -> tuple[str, ...]:
    """The labels that a ``dynamic`` block gives what it makes, as far as they are literal."""
    listed = _value(block, "labels")
    return (_names(listed) or ()) if listed else ()


def _renamed(build: Node) -> Iterator[Use]:
    """The sources that a build block gives names of their own."""
    for block in (child for child in _children(build) if child.type == "block"):
        kind, labels = _head(block)
        if kind == "source" and _value(block, "name"):
            yield _use_in(block, labels)
        elif kind == "dynamic" and _names_its_source(block, labels):
            yield Use("", None)


def _names_its_source(dynamic: Node, labels: tuple[str, ...]) -> bool:
    """Whether a ``dynamic "source"`` block gives what it makes names of their own."""
    contents = (each for each in _children(dynamic) if each.type == "block")
    return "source" in labels and any(
        _head(each)[0] == "content" and _value(each, "name") for each in contents
    )


def _children(block: Node) -> Iterator[Node]:
    """Attributes and blocks directly in a block, as far as it can be read."""
    for child in block.children:
        if child.type in ("body", "ERROR"):
            yield from _children(child)
        elif child.type in ("attribute", "block"):
            yield child


def _chain(block: Node) -> list[Node]:
    """The post-processors of a chain; none if it holds anything else."""
    inner = list(_children(block))
    return inner if all(_is_post_processor(each) for each in inner) else []


def _is_post_processor(node: Node) -> bool:
    return node.type == "block" and _head(node)[0] == "post-processor"


def _attributes(block: Node) -> Iterator[Node]:
    return filter(_is_attribute, _children(block))


def _is_attribute(node: Node) -> bool:
    return node.type == "attribute"


def _value(block: Node, name: str) -> Node | None:
    """The expression of an attribute."""
    found = (a.children[-1] for a in _attributes(block) if text_of(a.children[0]) == name)
    return next(found, None)


def _use_in(source: Node, labels: tuple[str, ...]) -> Use:
    """What a ``source`` block in a build block makes."""
    ref = ".".join(labels).removeprefix("source.")
    kind, _, bare = ref.partition(".")
    renamed = _value(source, "name")
    name = bare if renamed is None else literal_text(renamed)
    return Use(ref, None if name is None else f"{kind}.{name}")


def _use(name: str) -> Use:
    ref = name.removeprefix("source.")
    return Use(ref, ref)


def _names(expression: Node) -> Names:
    """The texts of a list of plain strings; None for all else."""
    node = expression
    while node.type in ("expression", "collection_value") and node.child_count == 1:
        node = node.children[0]
    if node.type != "tuple":
        return None
    found = [literal_text(child) for child in node.children if child.type == "expression"]
    return None if None in found else tuple(each for each in found if each is not None)


def _elements(expression: Node) -> dict[str, str]:
    """The tokens of each element of an object with plain keys; empty for all else."""
    node = expression
    while node.type in ("expression", "collection_value") and node.child_count == 1:
        node = node.children[0]
    elements = [child for child in node.children if child.type == "object_elem"]
    if node.type != "object":
        return {}
    pairs = [_element(each) for each in elements]
    return {key: tokens(value) for key, value in pairs} if all(key for key, _ in pairs) else {}


class _Spot(Struct, frozen=True):
    """Where an expression stands, the names that are bound there, and its line."""

    place: Place
    scope: Scope
    at: At

    def of(self, node: Node) -> _Spot:
        """The same for an expression that may stand on a line of its own."""
        line = node.start_point.row + 1 if self.at.line else 0
        return self if line == self.at.line else structs.replace(self, at=At(self.at.file, line))

    def mention(self, parts: Parts, *, opened: bool = False, listed: bool = False) -> Mention:
        return Mention(self.place, parts, opened=opened, listed=listed, at=self.at)

    def element(self, key: str) -> _Spot:
        """The place of an element of an object."""
        place = structs.replace(self.place, path=(*self.place.path, key))
        return structs.replace(self, place=place) if key else self


def _mentions(node: Node, spot: _Spot) -> Iterator[Mention]:
    """Each text of a value, and what its expressions come to."""
    node = unwrapped(node)
    spot = spot.of(node)
    if node.type == "tuple":
        for child in node.children:
            if child.type == "expression":
                yield from _mentions(child, spot)
    elif node.type == "object":
        for element in (each for each in node.children if each.type == "object_elem"):
            key, value = _element(element)
            yield from _mentions(value, spot.element(key))
    else:
        yield from (spot.mention(parts) for parts in results(node, spot.scope))


def _element(node: Node) -> tuple[str, Node]:
    """Key (as far as it is plain) and value of an object's element."""
    expressions = [child for child in node.children if child.type == "expression"]
    key = text_of(expressions[0]).strip('"')
    return key if key.isidentifier() else "", expressions[-1]


def _opened(node: Node, spot: _Spot) -> Iterator[Mention]:
    """What Packer reads itself to evaluate `node`."""
    if node.type == "function_call":
        name, given = text_of(node.children[0]), arguments(node)
        if name in OPENING and given:
            inner = spot.of(node)
            yield from (inner.mention(p, opened=True) for p in results(given[0], spot.scope))
        elif name == "fileset" and len(given) == 2:
            part = _fileset(node, given, spot)
            yield spot.of(node).mention((part,), opened=True, listed=True)
    for child in node.children:
        yield from _opened(child, spot)


def _fileset(call: Node, given: list[Node], spot: _Spot) -> Expression:
    """The files of ``fileset()`` with the folder, which its result leaves out."""
    at, glob = map(one_line, given)
    source = closed(call, spot.scope, f'[for f in fileset({at}, {glob}) : "${{{at}}}/${{f}}"]')
    folders, globs = (list(results(each, spot.scope)) for each in given)
    found = tuple((*folder, "/", *pattern) for folder in folders for pattern in globs)
    return Expression(source or "", found)


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
