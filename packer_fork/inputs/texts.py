"""From mentions to texts: evaluated values put in, unknown parts left open."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct

from packer_fork.template.contents import ANYTHING, Expression, Mention, Parts
from packer_fork.template.value_roles import ValueRole

_RUNTIME = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
"""What a plugin puts in when it runs: ``{{build_name}}``, ``{{.Vars}}``."""

_SAME = {".BuildName": "build_name", ".BuilderType": "build_type"}
_MOST_TEXTS = 1_000
"""Of one mention; with more its parts are left open."""

_MOST_DIGITS = 100
"""Of a number that is written without an exponent."""

_WORD = re.compile(r"[^\s,;=@:'\"|&()<>{}`]+")
_VARIABLE = re.compile(
    r"[A-Z0-9_]*(?:PATHS?|DIRS?|DIRECTORY|FOLDER|ROOT|ROLES|COLLECTIONS|INVENTORY|LIBRARY|PLUGINS"
    r"|SRC|SOURCES?)"
)
"""Variables whose values are folders, even without a ``/``."""

_WRITTEN = re.compile(r"(?:>>?|\btee\s|\btouch\s|\bmkdir\s|\s-o\s|--output[ =])\s*(?:-\w+\s+)*\S+")
_LONGEST_PATH = 4096
_DOWNLOAD = {
    "source": ValueRole.REMOTE,
    "sources": ValueRole.REMOTE,
    "destination": ValueRole.OUTPUT,
}
"""Roles in a file provisioner whose direction is "download"."""


class Values:
    """What the expressions of a template come to."""

    def __init__(
        self,
        told: Mapping[str, object],
        definitions: Mapping[str, tuple[Parts, ...]],
        places: Mapping[str, str],
        names: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """`told`: JSON values by expression; `definitions`: see ``Contents``; `places`: folders by
        "path.root" and what else stands for one. `names`: what "source.name" and "build_name"
        may be for the build in question; None if it is not about one build.
        """
        self.told = {**places, **told}
        self._definitions = definitions
        self._places = places
        self._names = names
        self.depends_on_build = False
        """Whether any text so far was another one, or could be, for another build."""

    def of_build(self, names: Mapping[str, tuple[str, ...]]) -> Values:
        return Values(self.told, self._definitions, self._places, names)

    @property
    def names(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return tuple(sorted((self._names or {}).items()))

    def texts(self, mention: Mention) -> list[str]:
        """What a mention comes to; the strings within it if it is no string."""
        found = self._texts(mention.parts, frozenset())
        known = dict.fromkeys(each for text in found for each in self._without_runtime(text))
        if not mention.opened:
            known.pop(ANYTHING, None)
        return list(known)

    def _texts(self, parts: Parts, within: frozenset[str]) -> list[str]:
        """`within`: names of the definitions that these parts are of."""
        if len(parts) == 1:
            return self._choices(parts[0], within)
        choices = [dict.fromkeys(self._choices(part, within)) or [ANYTHING] for part in parts]
        if math.prod(map(len, choices)) > _MOST_TEXTS:
            choices = [each if len(each) == 1 else [ANYTHING] for each in choices]
        return ["".join(each) for each in itertools.product(*choices)]

    def _choices(self, part: str | Expression, within: frozenset[str]) -> list[str]:
        if isinstance(part, str):
            return [part]
        if part.source in self.told:
            return list(_scalars(self.told[part.source]))
        if part.name.startswith(("source.", "build.")):
            return self._name(part.name)
        found = [text for parts in part.inner for text in self._texts(parts, within)]
        if part.name in self._definitions and part.name not in within:
            inner = within | {part.name}
            for parts in self._definitions[part.name]:
                found += self._texts(parts, inner)
        return found or [ANYTHING]

    def _name(self, name: str) -> list[str]:
        self.depends_on_build = True
        return list((self._names or {}).get(name, (ANYTHING,)))

    def _without_runtime(self, text: str) -> Iterator[str]:
        """A text with each ``{{...}}`` put in, as far as it is known."""
        if "{{" not in text:
            yield text
            return
        pieces = _RUNTIME.split(text)  # every second one is what stands in the braces
        choices = [
            self._runtime(piece) if number % 2 else [piece] for number, piece in enumerate(pieces)
        ]
        yield from ("".join(each) for each in itertools.product(*choices))

    def _runtime(self, action: str) -> list[str]:
        name = _SAME.get(action, action)
        if name in ("build_name", "build_type"):
            return self._name(name)
        return [self._places.get(name, ANYTHING)]


def _scalars(value: Any) -> Iterator[str]:
    """Every string in a JSON value; a number or bool as it would stand in a text."""
    if isinstance(value, bool):
        yield str(value).lower()
    elif isinstance(value, int | float | Decimal):
        number = Decimal(str(value))
        yield f"{number:f}" if abs(number.adjusted()) < _MOST_DIGITS else str(number)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _scalars(item)


def is_path(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_PATH and not set("\n\r") & set(text)


class Word(Struct, frozen=True):
    """A word of a command line. ``assigned``: it is the value of an option or a variable."""

    text: str
    assigned: bool


def words(text: str) -> Iterator[Word]:
    """Words of a command that may be paths, but not those that it writes to."""
    text = _WRITTEN.sub(" ", text)
    before, end, assigned = "", 0, False
    for found in _WORD.finditer(text):
        gap = text[end : found.start()]
        continues = assigned and gap in (":", ",")
        assigned = continues or (
            (before.startswith("-") and (gap.isspace() or gap.startswith("=")))
            or (gap.startswith("=") and _VARIABLE.fullmatch(before) is not None)
        )
        if is_path(found[0]):
            yield Word(found[0], assigned)
        before, end = found[0], found.end()


def with_roles(mentions: Sequence[Mention], values: Values) -> Iterator[tuple[Mention, ValueRole]]:
    """Each mention with what it stands for; a file provisioner that downloads turns it round."""
    downloads = {
        mention.place.block
        for mention in mentions
        if mention.place.plugin == "file"
        and mention.place.path == ("direction",)
        and "download" in values.texts(mention)
    }
    for mention in mentions:
        turned = mention.place.block in downloads and not mention.opened
        role = mention.role
        yield mention, _DOWNLOAD.get(mention.place.path[-1], role) if turned else role
