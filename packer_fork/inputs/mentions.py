"""What a parsed template says that may bear on its inputs, whatever language it is written in."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

ANYTHING = "\0"
"""Stands in a text for a part whose value is not known before the build runs."""


class Expression(Struct, frozen=True):
    """Source text, on one line, that Packer can evaluate."""

    source: str


class Unknown(Struct, frozen=True):
    """A part that has no value yet: an iterator, what a build will be named."""


Part = str | Expression | Unknown


class Mention(Struct, frozen=True):
    """A value in a template that may name files.

    ``block``: where it stands, "TYPE LABEL" and a number; a source has the same one
    wherever it is spoken of. ``attribute``: the innermost name. ``parts``: its text in
    pieces; a single Expression may be of any type. ``fallback``: the pieces to take
    where that cannot be evaluated. ``opened``: Packer itself reads it, as in ``file()``.
    """

    block: str
    attribute: str
    parts: tuple[Part, ...]
    fallback: tuple[Part, ...] = ()
    opened: bool = False


class Local(Struct, frozen=True):
    """A local value: the names that it rests on ("var.a", "local.b"), the functions it calls."""

    name: str
    references: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()


class Parsed(Struct, frozen=True, kw_only=True):
    """All of one file. ``variables`` maps a name to the expression of its value."""

    mentions: tuple[Mention, ...] = ()
    variables: Mapping[str, str] = {}
    unstable: frozenset[str] = frozenset()
    locals: tuple[Local, ...] = ()
    references: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()
    intelligible: bool = True
