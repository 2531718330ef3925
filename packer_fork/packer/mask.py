"""Hiding secret values, whatever shape Packer gives them. No I/O.

Packer 1.15.1 and later hide secrets themselves, one after the other in random order, each
line of a secret too, however short. Where one secret lies in another, the rest of the longer
one stays: ``<sensitive>-S3cretPass99`` of ``admin-S3cretPass99``. Such a rest is a *piece*.
Pieces are hidden only in texts with something hidden: elsewhere ``https://`` is no secret.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import cached_property
from itertools import groupby
from typing import Any, TypeVar

from msgspec import Struct, structs

from packer_fork.terminal import clean

HIDDEN = "<sensitive>"
MIN_LENGTH = 4
"""Characters; anything shorter would be found by chance in every other line."""

MAX_PIECES = 10_000
_MAX_PIECES_SIZE = 4 << 20
"""Characters of all pieces together."""

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
    """Values and their lines, longest first; the short ones only cut others into pieces.

    ``too_short`` names variables with a value that is too short to be hidden,
    ``unknown`` those that nothing could be learnt about.
    """

    values: tuple[str, ...] = ()
    too_short: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class Mask:
    """Hides a fixed set of values; those shorter than `MIN_LENGTH` are left alone.

    Short values still cut others into pieces. A text with more than `MAX_PIECES` to be
    looked for is hidden line by line instead, wherever something in the line is hidden.
    """

    def __init__(self, values: Iterable[str]) -> None:
        plain = {shape for value in values for shape in (value, clean(value)) if shape}
        long = {value for value in plain if len(value.strip(" \t")) >= MIN_LENGTH}
        shapes = _spellings(long)
        pieces = _pieces(long, plain)
        self._text = _Spelling(shapes, pieces)
        self._line = _Spelling(
            {shape.translate(_MACHINE) for shape in shapes},
            None if pieces is None else {piece.translate(_MACHINE) for piece in pieces},
        )

    def text(self, text: str) -> str:
        """`text` with every value replaced, also one that only shows once control codes are gone.

        In that case the answer is without control codes.
        """
        return self._text.hide(text, "\n")

    def line(self, line: bytes) -> bytes:
        """One of Packer's machine-readable lines, masked in its own encoding.

        Time, build and type stay; a line that is none of Packer's is masked as a whole.
        """
        text = line.decode("utf-8", "surrogateescape")
        head = _HEAD.match(text)
        start = head.end() if head else 0
        masked = text[:start] + self._line.hide(text[start:], "," if head else "\n")
        return masked.encode("utf-8", "surrogateescape")

    def document(self, document: T) -> T:
        """A Struct, list, dict or string with every string in it masked, keys of dicts too.

        Names and types of builds and steps, digests and statuses stay as they are.
        """
        masked: T = self._masked(document) if self._text.is_known else document
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


def _spellings(values: Iterable[str]) -> set[str]:
    """The values, plain and as JSON spells them."""
    import json  # most templates have no secret

    return {
        shape for value in values for shape in (value, json.dumps(value, ensure_ascii=False)[1:-1])
    }


class _Spelling:
    """All values and pieces, spelled as in a text or as in a machine-readable line."""

    def __init__(self, values: set[str], pieces: set[str] | None) -> None:
        """`pieces` is None where there are too many."""
        self._known = values
        self._values = _pattern(values) if values else None
        self._pieces = pieces

    @property
    def is_known(self) -> bool:
        return self._values is not None

    def hide(self, text: str, between: str) -> str:
        """`between` are the parts of which each is hidden as a whole, if there are too many pieces.

        A value may show only without control codes; then the answer is without them.
        """
        if self._values is None:
            return text
        masked = self._replace(self._values, text, between)
        bare = clean(masked)
        if bare == masked:
            return masked
        found = self._replace(self._values, bare, between)
        return masked if found == bare else found

    def _replace(self, values: re.Pattern[str], text: str, between: str) -> str:
        if not values.search(text) and HIDDEN not in text:
            return text
        if self._pieces is None:
            return _whole(_replace(values, text), between)
        return _replace(self._with_pieces, text)

    @cached_property
    def _with_pieces(self) -> re.Pattern[str]:
        return _pattern(self._known | (self._pieces or set()))


def _whole(masked: str, between: str) -> str:
    body = masked.removesuffix("\n")
    parts = (HIDDEN if HIDDEN in part else part for part in body.split(between))
    return between.join(parts) + masked[len(body) :]


def _pieces(secrets: Iterable[str], known: Iterable[str]) -> set[str] | None:
    """What may be left of a line of `secrets`, however `known` values are cut out of it.

    None if that is more than can be looked for.
    """
    cutters = _Cutters(known)
    begun = _spellings(line for secret in secrets for line in _lines(secret))
    seen, open_, room = set(begun), list(begun), _MAX_PIECES_SIZE
    pieces: set[str] = set()
    while open_:
        for piece in cutters.cut(open_.pop()):
            if len(piece) < MIN_LENGTH or piece in seen:
                continue
            seen.add(piece)
            open_.append(piece)
            room -= len(piece)
            pieces |= {shape for shape in (piece, piece.strip()) if len(shape) >= MIN_LENGTH}
            if len(pieces) > MAX_PIECES or room < 0:
                return None
    return {piece for piece in pieces if piece.strip()}


class _Cutters:
    """What Packer may cut out of a line: a value, a line of one, or where one begins or ends."""

    def __init__(self, values: Iterable[str]) -> None:
        self._by_length: dict[int, set[str]] = defaultdict(set)
        lines = [_lines(value) for value in values]
        for line in _spellings(line for each in lines for line in each if line):
            self._by_length[len(line)].add(line)
        self._firsts = _spellings(each[0] for each in lines if each[1:])
        self._lasts = _spellings(each[-1] for each in lines if each[1:])

    def cut(self, line: str) -> Iterator[str]:
        for cutter in self._within(line):
            yield from line.split(cutter)
        for first in self._firsts:
            yield line.removesuffix(first)
        for last in self._lasts:
            yield line.removeprefix(last)

    def _within(self, line: str) -> Iterator[str]:
        for length, cutters in self._by_length.items():
            places = range(len(line) - length + 1)
            if len(cutters) > len(places):
                yield from cutters & {line[at : at + length] for at in places}
            else:
                yield from (cutter for cutter in cutters if cutter in line)


def _lines(value: str) -> list[str]:
    return value.replace("\r\n", "\n").split("\n")


def _pattern(values: Iterable[str]) -> re.Pattern[str]:
    """One pattern for all values, at each place the longest that matches."""
    known = sorted({_with_single_blanks(value) for value in values})
    return re.compile(_alternatives(known, MIN_LENGTH - 1))


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
