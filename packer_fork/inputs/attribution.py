"""Which builds of one Packer process a file that it read counts for.

Nothing tells which source read a file, and one Packer builds several. A file that the
template names for some builds counts for those, and for every other build one of whose
own inputs mentions it; a file that it names for no build counts for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from pathlib import PurePosixPath
from typing import NamedTuple

_MOST_TEXTS = 2_000
"""Inputs of a build whose texts are looked at; one that has more is taken to mention all."""

_MOST_PARTS = 15
"""Of a wildcard: with more it is taken for one that covers everything."""

_WORD = re.compile(r"[^\s'\"`;|&<>()=,]+")
_WILD = frozenset("*?[")
_CASE = re.compile(r"\*\)")
"""The last branch of a shell's ``case``."""

_VARIABLE = re.compile(r"\$[*@#?!]|\$\{[^}]*\}|\$\w+|\$\(|\{\{.*?\}\}|%\{[^}]*\}|%[sdv]\b|\{\w*\}")
_IMPORTED = frozenset((".py", ".rb", ".js", ".ts", ".pm"))
"""Files that languages import by their names without these endings."""


class _Wildcard(NamedTuple):
    """A pattern of the last part of a path, and the folder before it where that has a name."""

    folder: str
    pattern: re.Pattern[str]
    has_variable: bool

    def matches(self, path: PurePosixPath) -> bool:
        is_there = self.folder in ("", path.parent.name)
        return is_there and self.pattern.fullmatch(path.name) is not None


class Text:
    """The text of an input, asked whether it mentions a file."""

    def __init__(self, text: str) -> None:
        self._text = text

    def mentions(self, name: str) -> bool:
        """`name`: of the project's file, with ``/`` between parts."""
        path = PurePosixPath(name)
        return (
            self._has(path.name)
            or (path.suffix in _IMPORTED and self._has(path.stem))
            or any(each.matches(path) for each in self._wildcards)
            or any(self._covers(parent.name) for parent in path.parents if parent.name)
        )

    def names(self, name: str, *, by_glob: bool) -> bool:
        """The same, but word for word, or by a glob without a variable."""
        path = PurePosixPath(name)
        globs = (each for each in self._wildcards if by_glob and not each.has_variable)
        return self._has(path.name) or any(each.matches(path) for each in globs)

    def _has(self, base: str) -> bool:
        found = self._text.find(base)
        while found >= 0:
            before = self._text[found - 1 : found]
            after = self._text[found + len(base) : found + len(base) + 1]
            if not (_is_of_name(before, "._-") or _is_of_name(after, "_-")):
                return True
            found = self._text.find(base, found + 1)
        return False

    def _covers(self, folder: str) -> bool:
        """Whether `folder` is spoken of as a whole, not on the way to one of its files."""
        if folder not in self._text:
            return False
        pattern = rf"(?<![\w.-]){re.escape(folder)}(?:/+\.?)?(?![\w.-]|/)"
        return re.search(pattern, self._text) is not None

    @cached_property
    def _wildcards(self) -> tuple[_Wildcard, ...]:
        """All paths with a wildcard or a variable in their last part."""
        words = set(_WORD.findall(_VARIABLE.sub("\0", _CASE.sub(")", self._text))))
        split = (word.rstrip("/").rpartition("/") for word in words if word != "/*")
        found = {(head.rpartition("/")[2], last) for head, _, last in split if _is_wild(last)}
        return tuple(
            _Wildcard(
                folder if _is_literal(folder) else "",
                re.compile(_pattern(last), re.DOTALL),
                has_variable="\0" in f"{folder}/{last}",
            )
            for folder, last in sorted(found)
        )


def _is_of_name(character: str, more: str) -> bool:
    return character.isalnum() or (character != "" and character in more)


def _is_wild(word: str) -> bool:
    """A variable alone may be anything at all, and says nothing."""
    return not _WILD.isdisjoint(word) or ("\0" in word and word.strip("\0.-:") != "")


def _is_literal(folder: str) -> bool:
    return folder.strip(".") != "" and "\0" not in folder and _WILD.isdisjoint(folder)


def _pattern(word: str) -> str:
    parts = re.split(r"([*\0]+|\?|\[[^\]]*\])", word)
    return "".join(map(_piece, parts)) if len(parts) <= _MOST_PARTS else ".*"


def _piece(part: str) -> str:
    if part and set(part) <= {"*", "\0"}:
        return ".*"
    return "." if part == "?" or part.startswith("[") else re.escape(part)


def attribute(
    reads: Collection[str],
    builds: Collection[str],
    named: Mapping[str, frozenset[str]],
    evaluated: frozenset[str],
    said: Callable[[str], str],
    text: Callable[[str], str],
) -> dict[str, frozenset[str]]:
    """By build, which of `reads` count for it.

    `named`: by build, of the whole template, the files that the template names for it.
    `evaluated`: files that Packer itself opens for every build. A Packer of one build
    reads all others for that build. `said` gives what the template says of a build, and `text`
    the text of a file, empty if it has none: both are only asked where there is a doubt.
    """
    known = evaluated.union(*named.values()) if len(builds) > 1 else evaluated
    everyones = frozenset(reads) - known
    contested = frozenset(reads) & known
    texts: dict[str, Text] = {}

    def of(path: str) -> Text:
        return texts.setdefault(path, Text(text(path)))

    found = {}
    for build in builds:
        spoken = Text(said(build) if contested else "")
        mentioned = frozenset(each for each in contested if spoken.mentions(each))
        own = named.get(build, frozenset()) | mentioned
        found[build] = everyones | _own(contested, everyones, own, of)
    return found


def _own(
    contested: frozenset[str],
    everyones: frozenset[str],
    named: frozenset[str],
    text: Callable[[str], Text],
) -> frozenset[str]:
    """Of the files that are named for some builds, those that count for one: what it mentions
    may mention more.
    """
    found = contested & named
    left = contested - found
    asked: Iterable[str] = named | everyones
    if left and len(named | everyones) > _MOST_TEXTS:
        return contested
    while left and asked:
        asked = {each for each in left if any(text(path).mentions(each) for path in asked)}
        found |= asked
        left -= asked
    return found


def mentioned(
    products: Mapping[str, bool], own: Collection[str], said: str, text: Callable[[str], str]
) -> frozenset[str]:
    """Of files that other builds made in a run, those that a build is likely to have read.

    `products`: by name, whether it was seen to be read, by one of the run's builds; then a glob
    is enough. Steps that builds share name their products by variables, which says nothing.
    `own`: inputs of the build, whose texts count beside what the template says of it.
    """
    if len(own) > _MOST_TEXTS:
        return frozenset()
    texts = [Text(said), *(Text(text(name)) for name in own)] if products else []
    return frozenset(
        name
        for name, is_read in products.items()
        if any(each.names(name, by_glob=is_read) for each in texts)
    )
