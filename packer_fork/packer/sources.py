"""From a line of Packer's output to an event, and to the build that it is about. No I/O.

Packer puts ``==> NAME: `` or the same width of blanks before whatever a build says, each
line of it, and ``NAME (TYPE)`` for what a post-processor says. Names may hold anything,
colons too, so that of all known ones the longest that fits is taken, and only at the
very beginning of a text: there no script can write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache

from msgspec import Struct

from packer_fork.packer.lines import Line, as_decoded

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d): ")
"""What ``-timestamp-ui`` puts before the first line of a text."""

_SUFFIX = r"(?P<inner> \([\w.-]+\))?:(?: |\Z)"
_UNKNOWN = re.compile(rf"==> (?P<name>[^\s:](?:[^\n]*?[^\s:])??){_SUFFIX}")
_VERDICT = (
    r"(?P<verdict>finished|errored|failed to acquire semaphore)"
    r"(?: after [^:]*)?(?:\.?\Z|: (?P<error>.*))"
)
_UNKNOWN_VERDICT = re.compile(rf"Build '(?P<name>.{{1,1000}}?)' {_VERDICT}", re.DOTALL)


class LineEvent(Struct, frozen=True, kw_only=True):
    """What one line of Packer's output says. ``name``: the build that it is about, "" if none."""

    at: datetime
    name: str = ""


class Said(LineEvent, frozen=True):
    """What a build says: ``text`` is the first line of it, without what Packer puts before.

    ``is_step`` tells Packer's own tone (``==>`` on standard output) from plain output,
    ``is_inner`` what a post-processor says.
    """

    text: str
    is_step: bool
    is_inner: bool


class Status(LineEvent, frozen=True):
    """That a build has ended, and with which error, if any."""

    error: str | None


class Fact(LineEvent, frozen=True):
    """A machine-readable line that is no text."""

    kind: str
    args: tuple[str, ...]


class Message(LineEvent, frozen=True):
    """A text that Packer says of itself, in some ``tone``."""

    tone: str
    text: str


def event_of(names: Sequence[str], line: Line) -> LineEvent:
    """What `line` says, of one of the builds `names`, or of one that Packer tells of first."""
    if line.type != "ui":
        return _fact(names, line)
    text = _text_of(line)
    found = _said(names, line, text) or _verdict(names, line, text)
    return found or Message(at=line.at, tone=line.args[0] if line.args else "", text=text)


def _text_of(line: Line) -> str:
    """What a ``ui`` line says, without the time that ``-timestamp-ui`` puts before it."""
    text = line.args[1] if len(line.args) > 1 else ""
    stamp = _TIMESTAMP.match(text)
    return text[stamp.end() :] if stamp else text


def _said(names: Sequence[str], line: Line, text: str) -> Said | None:
    """What a build says; one that is not among `names` must speak in Packer's tone."""
    is_said, known = line.args[:1] == ("say",), _known(tuple(names))
    found = known.prefix.match(text)
    if found is None and is_said:
        found = _UNKNOWN.match(text)
    if found is None:
        return None
    return Said(
        at=line.at,
        name=known.names.get(found["name"], found["name"]),
        text=text[found.end() :].partition("\n")[0],
        is_step=is_said and text.startswith("==>"),
        is_inner=found["inner"] is not None,
    )


def _verdict(names: Sequence[str], line: Line, text: str) -> Status | None:
    if not text.startswith("Build '"):
        return None
    known = _known(tuple(names))
    found = known.verdict.match(text) or _UNKNOWN_VERDICT.match(text)
    if found is None:
        return None
    error = None if found["verdict"] == "finished" else found["error"] or found["verdict"]
    return Status(at=line.at, name=known.names.get(found["name"], found["name"]), error=error)


def _fact(names: Iterable[str], line: Line) -> Fact:
    """Packer does not mark commas in a build's name: only who knows it can tell."""
    fields = (line.target, line.type, *line.args)
    for name in names:
        width = name.count(",") + 1
        if 1 < width < len(fields) and ",".join(fields[:width]) == name:
            return Fact(at=line.at, name=name, kind=fields[width], args=fields[width + 1 :])
    return Fact(at=line.at, name=line.target, kind=line.type, args=line.args)


class _Known(Struct, frozen=True):
    """Patterns for known names, which are those of the output, and what they stand for."""

    prefix: re.Pattern[str]
    verdict: re.Pattern[str]
    names: dict[str, str]


@lru_cache(maxsize=16)
def _known(names: tuple[str, ...]) -> _Known:
    # What a build says has its name as it is, its last line has it decoded like any text.
    printed = {spelt: name for name in names for spelt in (as_decoded(name), name)}
    longest = sorted(printed, key=len, reverse=True)
    either = "|".join(re.escape(name) for name in longest) or "(?!)"
    return _Known(
        re.compile(rf"(?:==>|   |-->) (?P<name>{either}){_SUFFIX}"),
        re.compile(rf"Build '(?P<name>{either})' {_VERDICT}", re.DOTALL),
        printed,
    )
