"""HTML whose texts are escaped by construction: what is not `Markup` cannot get into a tag."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import NewType

from packer_fork.terminal import clean

Markup = NewType("Markup", str)

_EMPTY = frozenset({"meta"})
"""Elements that have no end."""


def text(words: str) -> Markup:
    return Markup(escape(clean(words)))


def joined(parts: Iterable[Markup]) -> Markup:
    return Markup("".join(parts))


def tag(name: str, /, *content: Markup, **attributes: str | float) -> Markup:
    """``tag("p", text("a & b"), class_="note")``; numbers are rounded to what can be seen."""
    said = "".join(
        f' {key.strip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
    )
    end = "" if name in _EMPTY else f"</{name}>"
    return Markup(f"<{name}{said}>{joined(content)}{end}")


def _value(value: str | float) -> str:
    return escape(clean(value)) if isinstance(value, str) else f"{value:.6g}"
