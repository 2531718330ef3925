"""Hiding secret values, whatever shape Packer gives them. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import groupby
from typing import Any, TypeVar

from msgspec import Struct, structs

from packer_fork.terminal import clean

HIDDEN = "<sensitive>"
MIN_LENGTH = 4
"""Characters; anything shorter would be found by chance in every other line."""

_KEPT = frozenset(
    ("name", "type", "builds", "inputs", "sha256", "commit", "builder_id", "packer_version", "log")
)
"""Fields that name what Packer or we name, or hold digests: a chance match would break them."""

_HEAD = re.compile(r"\d+,[^,]*,(?:ui,(?:say|message|error)|[a-z-]+),")
"""What a machine-readable line begins with: time, build, type."""

_MACHINE = str.maketrans({",": "%!(PACKER_COMMA)", "\n": "\\n", "\r": "\\r"})

_BLANKS = re.compile(r"[ \t]+")
_BLANK = r"(?:[ \t]+|\n|\\n)"
"""Packer breaks its errors into lines of 78 characters: any blanks may become a line feed, or
its spelling in JSON and in machine-readable lines."""

T = TypeVar("T")


class Sensitive(Struct, frozen=True):
    """Values to hide, longest first.

    ``too_short`` names variables with a value that is too short to be hidden,
    ``unknown`` those that nothing could be learnt about.
    """

    values: tuple[str, ...] = ()
    too_short: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class Mask:
    """Hides a fixed set of values; those shorter than `MIN_LENGTH` are left alone."""

    def __init__(self, values: Iterable[str]) -> None:
        plain = {shape for value in values for shape in (value, clean(value))}
        quoted = {json.dumps(value, ensure_ascii=False)[1:-1] for value in plain}
        shapes = {shape for shape in plain | quoted if len(shape) >= MIN_LENGTH}
        self._text = _pattern(shapes)
        self._line = _pattern({shape.translate(_MACHINE) for shape in shapes})

    def text(self, text: str) -> str:
        """`text` with every value replaced, also one that only shows once control codes are gone.

        In that case the answer is without control codes.
        """
        return _hide(self._text, text)

    def line(self, line: bytes) -> bytes:
        """One of Packer's machine-readable lines, masked in its own encoding.

        Time, build and type stay; a line that is none of Packer's is masked as a whole.
        """
        text = line.decode("utf-8", "surrogateescape")
        head = _HEAD.match(text)
        start = head.end() if head else 0
        masked = text[:start] + _hide(self._line, text[start:])
        return masked.encode("utf-8", "surrogateescape")

    def document(self, document: T) -> T:
        """A Struct, list, dict or string with every string in it masked, keys of dicts too.

        Names and types of builds and steps, digests and statuses stay as they are.
        """
        masked: T = self._masked(document) if self._text else document
        return masked

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return value if isinstance(value, Enum) else self.text(value)
        if isinstance(value, Struct):
            names = set(value.__struct_fields__) - _KEPT
            changed = {name: self._masked(getattr(value, name)) for name in names}
            return structs.replace(value, **changed)
        if isinstance(value, dict):
            return {self._masked(key): self._masked(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._masked(item) for item in value)
        return value


def _pattern(values: Iterable[str]) -> re.Pattern[str] | None:
    """One pattern for all values, at each place the longest that matches; None for none."""
    known = sorted({_with_single_blanks(value) for value in values})
    return re.compile(_alternatives(known, MIN_LENGTH - 1)) if known else None


def _with_single_blanks(value: str) -> str:
    single = _BLANKS.sub(" ", value)
    return single if len(single) >= MIN_LENGTH else value


def _escape(text: str) -> str:
    return _BLANK.join(re.escape(part) for part in re.split("[ \t]", text))


def _alternatives(values: list[str], depth: int) -> str:
    """Branches on the first `depth` characters: there may be thousands of values."""
    if depth == 0 or len(values) == 1:
        return "|".join(_escape(value) for value in sorted(values, key=len, reverse=True))
    return "|".join(
        f"{_escape(first)}(?:{_alternatives([value[1:] for value in group], depth - 1)})"
        for first, group in groupby(values, key=lambda value: value[0])
    )


def _hide(pattern: re.Pattern[str] | None, text: str) -> str:
    if pattern is None:
        return text
    masked = _replace(pattern, text)
    bare = clean(masked)
    return _replace(pattern, bare) if bare != masked and pattern.search(bare) else masked


def _replace(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.search(text):
        return text
    parts, end = [], 0
    for start, stop in _stretches(pattern, text):
        parts += [text[end:start], HIDDEN]
        end = stop
    return "".join((*parts, text[end:]))


def _stretches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Where values are; those that overlap are one stretch."""
    start = stop = position = 0
    while found := pattern.search(text, position):
        if found.start() >= stop:
            if stop:
                yield start, stop
            start = found.start()
        stop = max(stop, found.end())
        position = found.start() + 1
    yield start, stop
