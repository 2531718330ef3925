"""HCL expressions on one line, as `packer console` wants them, as tokens, and as plain texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tree_sitter import Node

_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([nrt"\\]))')
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_QUOTED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_LEFT_OUT = frozenset(("comment", ","))
_SPLIT = re.compile(r"([$%])\1\{")


def text_of(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "surrogateescape")


def one_line(node: Node) -> str:
    """The source of `node` without comments and line breaks, of the same meaning."""
    match node.type:
        case "comment":
            return " "
        case "object":
            elements = (one_line(child) for child in node.children if child.type == "object_elem")
            return f"{{{', '.join(elements)}}}"
        case "heredoc_template":
            return f'"{"".join(_in_quotes(piece) for piece in pieces(node))}"'
        case "string_lit":
            return text_of(node)
    if not node.children:
        return text_of(node)
    strict = node.type in ("quoted_template", "template_if", "template_for")
    return "".join(_joined(node, verbatim=strict))


def _joined(node: Node, *, verbatim: bool) -> Iterator[str]:
    between, end = _between(node), node.start_byte
    for child in node.children:
        gap = between(end, child.start_byte)
        yield gap if verbatim else " " * bool(gap)
        yield one_line(child)
        end = child.end_byte
    if verbatim:
        yield between(end, node.end_byte)


def _between(node: Node) -> Callable[[int, int], str]:
    """The source between two offsets, of which `node` is copied but once."""
    text, offset = node.text or b"", node.start_byte
    return lambda start, end: text[start - offset : end - offset].decode("utf-8", "surrogateescape")


def _in_quotes(piece: Node | str) -> str:
    return piece.translate(_QUOTED) if isinstance(piece, str) else one_line(piece)


def quoted(text: str) -> str:
    """A text without ``${}`` and ``%{}`` as a string literal."""
    return f'"{text.translate(_QUOTED)}"'


def pieces(template: Node) -> Iterator[Node | str]:
    """Literal source text and ``${}``/``%{}`` nodes of a string or heredoc, in order.

    White space at the edges of a literal belongs to no node of the grammar.
    """
    children = template.children
    if template.type == "heredoc_template":
        start = next(c.end_byte for c in children if c.type == "heredoc_identifier")
        start += len(re.match(rb"\r?\n?", _after(template, start))[0])  # type: ignore[index]
        end = children[-1].start_byte if len(children) > 2 else template.end_byte
        end = max(start, end)
    else:
        start, end = children[0].end_byte, children[-1].start_byte
    between = _between(template)
    for child in children:
        if child.type in ("template_interpolation", "template_directive"):
            if child.start_byte > start:
                yield between(start, child.start_byte)
            yield child
            start = child.end_byte
    if end > start:
        yield between(start, end)


def _after(node: Node, offset: int) -> bytes:
    return (node.text or b"")[offset - node.start_byte :]


def unescape(literal: str, *, heredoc: bool) -> str:
    """The characters that literal source text stands for."""
    plain = _SPLIT.sub(r"\1{", literal)
    return plain if heredoc else _ESCAPE.sub(_character, plain)


def _character(found: re.Match[str]) -> str:
    code = found[1] or found[2]
    return chr(min(int(code, 16), 0x10FFFF)) if code else _SIMPLE[found[3]]


def tokens(node: Node) -> str:  # noqa: PLR0911 (a table)
    """The tokens of `node`, one space between them: equal for what `packer fmt` calls equal, and
    only for that.

    Comments and layout are left out, `:` in objects is `=`, a comma before a closing bracket is
    dropped. Texts stand byte for byte.
    """
    match node.type:
        case "quoted_template" | "string_lit":
            return f'"{_text_tokens(node)}"'
        case "heredoc_template":
            flush = "-" if any(c.type == "<<-" for c in node.children[0].children) else ""
            body = _text_tokens(node).rstrip(" \t")  # the end marker's indent says nothing
            return f"<<{flush}\n{body}"
        case "template_directive":
            return text_of(node)
        case "object_elem":
            key, value = (tokens(c) for c in node.children if c.type == "expression")
            return f"{key} = {value}"
        case "object":
            elements = (tokens(c) for c in node.children if c.type == "object_elem")
            return f"{{ {' , '.join(elements)} }}"
        case "tuple" | "function_arguments":
            return " , ".join(_between_commas(node))
    if not node.children:
        return text_of(node)
    return " ".join(tokens(child) for child in node.children if child.type != "comment")


def _text_tokens(template: Node) -> str:
    return "".join(piece if isinstance(piece, str) else tokens(piece) for piece in pieces(template))


def _between_commas(node: Node) -> Iterator[str]:
    """The elements; brackets and ``...`` stand by themselves."""
    return (tokens(child) for child in node.children if child.type not in _LEFT_OUT)
