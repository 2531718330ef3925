"""What the script of each shell asks with, and how it is answered. No I/O.

A line of an answer is ``=`` and a word, or tells the script what else to do: ``option``,
``cut``, ``files``. No line holds a character that a terminal would act on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from packer_fork.cli.completing import line
from packer_fork.cli.completing.position import Candidate, Wanted
from packer_fork.cli.completing.values import Offer
from packer_fork.terminal import clean

_LISTING = frozenset("?!@")
"""Values of COMP_TYPE with which bash lists words; with the others it puts one in."""

_LONGEST = 100
_NARROWEST = 10


class Request(NamedTuple):
    """The words behind the program's name; of bash also how it will use the answer."""

    shell: str
    words: Sequence[str]
    typed: line.Typed
    breaks: str = ""
    is_listing: bool = False
    columns: int = 0


def read(request: Sequence[str]) -> Request:
    """Raises ValueError or KeyError for what no script of ours asks."""
    shell, *rest = request
    return SHELLS[shell].read(shell, rest)


def write(request: Request, wanted: Wanted, offer: Offer) -> list[str]:
    candidates = tuple(Candidate(text, _in_one_line(about)) for text, about in offer.candidates)
    return list(SHELLS[request.shell].write(request, wanted, offer._replace(candidates=candidates)))


def _in_one_line(text: str) -> str:
    return _shortened(" ".join(clean(text).split()), _LONGEST)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _read_bash(shell: str, rest: Sequence[str]) -> Request:
    """``LINE BREAKS TYPE COLUMNS``; the line up to the cursor, as it was typed."""
    text, breaks, kind, columns = rest
    typed = line.split(text)
    is_listing = chr(int(kind)) in _LISTING
    return Request(shell, typed.words[1:], typed, breaks, is_listing, int(columns))


def _read_words(shell: str, rest: Sequence[str]) -> Request:
    """``WORD... LAST``; all but the last without their quotes."""
    *before, last = rest
    typed = line.split(last)
    return Request(shell, (*before, *typed.words), typed)


def _write_bash(request: Request, wanted: Wanted, offer: Offer) -> Iterator[str]:
    """Words as readline puts them in the place of what follows a quote, or the last break."""
    plain, quote = request.typed.plain, request.typed.quote

    def typed(text: str) -> str:
        whole = f"{wanted.kept}{text}"
        if quote:
            return line.quoted(whole[len(plain) :], quote)
        return line.quoted(whole, "")[line.after_break(plain, request.breaks) :]

    found = [Candidate(typed(text), about) for text, about in offer.candidates]
    if len(found) == 1 and found[0].text.endswith("="):
        yield "option nospace"
    listed = _table(found, request.columns) if request.is_listing and found[1:] else found
    yield from (f"={each.text}" for each in listed)
    yield from _files(offer)


def _table(found: Sequence[Candidate], columns: int) -> Iterator[Candidate]:
    """Words with their descriptions, which bash only shows; there is one word for each row."""
    width = max(len(each.text) for each in found)
    room = columns - width - len("  ()") - 1
    for text, about in found:
        has_room = about and room >= _NARROWEST
        yield Candidate(f"{text:{width}}  ({_shortened(about, room)})" if has_room else text)


def _write_zsh(_request: Request, wanted: Wanted, offer: Offer) -> Iterator[str]:
    """``WORD:DESCRIPTION``, as zsh's _describe takes it; no blank follows a ``+``."""
    if wanted.kept:
        yield f"cut {wanted.kept[-1]}"
    for text, about in offer.candidates:
        escaped = text.replace("\\", "\\\\").replace(":", "\\:")
        mark = "+" if text.endswith("=") else "="
        yield f"{mark}{escaped}:{about}" if about else f"{mark}{escaped}"
    yield from _files(offer)


def _write_fish(_request: Request, wanted: Wanted, offer: Offer) -> Iterator[str]:
    """``WORD<tab>DESCRIPTION``, whole words, as fish's complete takes it."""
    yield from (f"={wanted.kept}{text}\t{about}" for text, about in offer.candidates)
    yield from _files(offer)


def _files(offer: Offer) -> Iterable[str]:
    return () if offer.files is None else (f"files {' '.join(offer.files.patterns)}",)


class _Shell(NamedTuple):
    read: Callable[[str, Sequence[str]], Request]
    write: Callable[[Request, Wanted, Offer], Iterator[str]]


SHELLS: Mapping[str, _Shell] = {
    "bash": _Shell(_read_bash, _write_bash),
    "zsh": _Shell(_read_words, _write_zsh),
    "fish": _Shell(_read_words, _write_fish),
}
