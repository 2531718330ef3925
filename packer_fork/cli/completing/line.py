"""Words of a line that is still being typed, as a POSIX shell splits it. No I/O."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

_SPECIAL = re.compile(r"([^\w@%+=:,./-])")
_SPECIAL_IN_DOUBLE_QUOTES = re.compile(r'([\\"$`])')
_LAST = re.compile(r"(?:[^\s\\]|\\.)*\Z", re.DOTALL)
_QUOTE = re.compile(r"(?<!\\)['\"]")


class Typed(NamedTuple):
    """The words of a line, and how the last one was typed.

    It is ``plain``, escapes and all, up to the quote that it is still in; ``quote`` is "" if
    it is in none.
    """

    words: tuple[str, ...]
    plain: str
    quote: str


def split(line: str) -> Typed:
    """Raises ValueError for a word that is in quotes in part, which is not completed."""
    for quote in ("", "'", '"'):
        try:
            words = tuple(shlex.split(f"{line}{quote}"))
        except ValueError:
            continue
        before, opening, _ = line.rpartition(quote) if quote else (line, "", "")
        found = _LAST.search(before)
        plain = found[0] if found else ""
        if opening != quote or before.endswith("\\") or _QUOTE.search(plain):
            break
        return Typed(words if plain or quote else (*words, ""), plain, quote)
    raise ValueError(line)


def quoted(text: str, quote: str) -> str:
    """`text` as it is typed within `quote`, or outside of any."""
    if quote == "'":
        return text.replace("'", "'\\''")
    if quote:
        return _SPECIAL_IN_DOUBLE_QUOTES.sub(r"\\\1", text)
    return _SPECIAL.sub(r"\\\1", text)


def after_break(plain: str, breaks: str) -> int:
    """Where that begins which readline replaces: behind the last of `breaks`."""
    ends = (n + 1 for n, each in enumerate(plain) if each in breaks and plain[n - 1 : n] != "\\")
    return max(ends, default=0)
