"""Packer's diagnostics: errors and warnings in one text, each with a heading. No I/O.

An error of HCL2 may name its place, ``on FILE line N``; one of a JSON template names its build.
Several causes of one error are bullets below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from packer_fork.model import Build, Lines

_HEADING = re.compile(r"^(?=(?:Error|Warning): )", re.MULTILINE)
_COUNT = re.compile(r"^(?:Error: )?\d+ error\(s\) occurred:", re.MULTILINE)
_BULLET = re.compile(r"^\s*\* ", re.MULTILINE)
_PLACE = re.compile(r"^ +on (?P<file>.*) line (?P<line>\d+).*:$", re.MULTILINE)
_NO_SOURCE = re.compile(r"^ +\(source code not available\)$", re.MULTILINE)
_NAMED = re.compile(r'^Error: Failed to (?:prepare|initialize) build:? "(?P<name>.*)"', re.DOTALL)
_FOLDER_EXISTS = re.compile(r"Output directory .* already exists\b", re.DOTALL)


def errors_of(text: str) -> tuple[str, ...]:
    """The errors in `text`, each once, without warnings; what has no heading is an error too."""
    blocks = dict.fromkeys(block.strip() for block in _HEADING.split(text))
    return tuple(block for block in blocks if block and not block.startswith("Warning: "))


def headline(error: str) -> str:
    """The cause in one line: the heading of `error`, or the last bullet of several causes."""
    head, *bullets = _bullets(error)
    is_list = bool(bullets) and _COUNT.search(head) is not None
    text = bullets[-1] if is_list else head.removeprefix("Error: ").partition("\n")[0]
    return " ".join(text.partition("\n\n")[0].split())


def led_by_cause(text: str, cause: str) -> str:
    """`text` behind `cause`, unless its first line tells that."""
    return text if cause in text.partition("\n")[0] else f"{cause}\n\n{text}"


def is_of_folders(error: str) -> bool:
    """Whether `error` only says that output folders exist."""
    _, *bullets = _bullets(error)
    return bool(bullets) and all(_FOLDER_EXISTS.match(bullet) for bullet in bullets)


class Causes(Struct, frozen=True):
    """Errors by what they are about: one build each, or no build that is known."""

    by_build: dict[str, tuple[str, ...]]
    others: tuple[str, ...]

    def of(self, build: str) -> tuple[str, ...]:
        """The errors about `build`; where there are none, those that may be about any build."""
        return self.by_build.get(build) or self.others


def causes(text: str, builds: Iterable[Build]) -> Causes:
    """The errors in `text`, which Packer printed for a template with `builds`."""
    errors = errors_of(text)
    found = {
        build.name: tuple(error for error in errors if _is_about(error, build)) for build in builds
    }
    known = {error for each in found.values() for error in each}
    return Causes(found, tuple(error for error in errors if error not in known))


def _is_about(error: str, build: Build) -> bool:
    if named := _NAMED.match(error):
        return build.name in (named["name"], f"{build.type}.{named['name']}")
    place = _PLACE.search(error)
    return place is not None and any(
        _is_within(place["file"], int(place["line"]), lines) for lines in build.places
    )


def _is_within(file: str, line: int, lines: Lines) -> bool:
    """Packer spells the file as it was given, with or without its folder."""
    return re.split(r"[/\\]", file)[-1] == lines.file and lines.first <= line <= lines.last


def _bullets(error: str) -> list[str]:
    return _BULLET.split(_NO_SOURCE.sub("", _PLACE.sub("", error)))
