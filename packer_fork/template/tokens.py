"""HCL expressions as tokens: equal for what `packer fmt` calls equal, and only for that.

Comments and layout are left out, `:` in objects is `=`, a comma before a closing bracket
is dropped. Texts stand byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from packer_fork.template.expression_text import pieces, text_of

_LEFT_OUT = frozenset(("comment", ","))


def tokens(node: Node) -> str:  # noqa: PLR0911 (a table)
    """The tokens of `node`, one space between them."""
    match node.type:
        case "quoted_template" | "string_lit":
            return f'"{_text(node)}"'
        case "heredoc_template":
            flush = "-" if any(c.type == "<<-" for c in node.children[0].children) else ""
            body = _text(node).rstrip(" \t")  # the end marker's indent says nothing
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


def _text(template: Node) -> str:
    return "".join(piece if isinstance(piece, str) else tokens(piece) for piece in pieces(template))


def _between_commas(node: Node) -> Iterator[str]:
    """The elements; brackets and ``...`` stand by themselves."""
    return (tokens(child) for child in node.children if child.type not in _LEFT_OUT)
