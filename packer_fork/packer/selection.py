"""Which builds ``-only`` and ``-except`` choose, by Packer's own rules. No I/O.

HCL2: patterns on the whole name, in the words of the Go library gobwas/glob, without
separators: ``*`` and ``?`` match dots too, ``[!a-c]`` is one range or one list and
never both, ``{`` needs no end. Legacy JSON: names as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_NOTHING = "(?!)"
_SPECIAL = re.compile(r"[*?\[\]{}\\]")
_WILD = {"?": ".", "*": ".*"}


def select(
    names: Sequence[str], only: Sequence[str], except_: Sequence[str], *, hcl: bool
) -> tuple[str, ...]:
    """Those of `names` that Packer would build, given the values of both flags.

    A pattern that Packer refuses chooses nothing: Packer itself will say why.
    """
    return tuple(
        name
        for name in names
        if (not only or _is_among(name, only, hcl=hcl)) and not _is_among(name, except_, hcl=hcl)
    )


def naming(names: Sequence[str], *, hcl: bool) -> tuple[str, ...]:
    """Patterns for ``-only`` that mean these very names; none if Packer cannot be told.

    It splits the flag's value on commas, before anything could be escaped.
    """
    if any("," in name for name in names):
        return ()
    return tuple(_SPECIAL.sub(r"\\\g<0>", name) if hcl else name for name in names)


def _is_among(name: str, patterns: Sequence[str], *, hcl: bool) -> bool:
    return any(_glob(p).fullmatch(name) for p in patterns) if hcl else name in patterns


@lru_cache(maxsize=256)
def _glob(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(_Translation(pattern).regex(), re.DOTALL)
    except ValueError:
        return re.compile(_NOTHING)


class _Translation:
    """From one pattern to the regular expression that matches the same names.

    Raises ValueError where the Go library refuses the pattern.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def regex(self) -> str:
        return self._sequence(0)

    def _sequence(self, depth: int) -> str:
        """Up to the end of the pattern or, inside of braces, of their content."""
        parts: list[str] = []
        while letter := self._next():
            if letter == "{":
                parts.append(f"(?:{self._sequence(depth + 1)})")
            elif depth and letter == "}":
                break
            elif depth and letter == ",":
                parts.append("|")
            else:
                parts.append(self._item(letter))
        return "".join(parts)

    def _item(self, letter: str) -> str:
        if letter == "[":
            return self._one_of()
        if letter == "\\":
            letter = self._next()
            return re.escape(letter)
        return _WILD.get(letter, re.escape(letter))

    def _one_of(self) -> str:
        negated = self._pattern.startswith("!", self._at)
        self._at += negated
        if self._pattern.startswith("-", self._at + 1):
            low, _, high = self._next(), self._next(), self._next()
            if high < low:
                raise ValueError(self._pattern)
            letters = f"{re.escape(low)}-{re.escape(high)}"
        else:
            letters = self._list()
        if self._next() != "]" or not letters:
            raise ValueError(self._pattern)
        return f"[{'^' if negated else ''}{letters}]"

    def _list(self) -> str:
        letters: list[str] = []
        while (letter := self._peek()) and letter != "]":
            self._next()
            letters.append(re.escape(self._next() if letter == "\\" else letter))
        return "".join(letters)

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _next(self) -> str:
        letter = self._peek()
        self._at += 1
        return letter
