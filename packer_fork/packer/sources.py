"""Which build a line of Packer's output belongs to. No I/O.

Packer puts ``==> NAME: `` or the same width of blanks before whatever a build says, each
line of it, and ``NAME (TYPE)`` for what a post-processor says. Names may hold anything,
colons too, so that of all known ones the longest that fits is taken, and only at the
very beginning of a text: there no script can write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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


class Said(Struct, frozen=True):
    """What a build says: ``text`` is the first line of it, without what Packer puts before.

    ``is_step`` tells Packer's own tone (``==>`` on standard output) from plain output,
    ``is_inner`` what a post-processor says.
    """

    name: str
    text: str
    is_step: bool
    is_inner: bool


class Verdict(Struct, frozen=True):
    """That a build has ended, and with which error, if any."""

    name: str
    error: str | None


def text_of(line: Line) -> str:
    """What a ``ui`` line says, without the time that ``-timestamp-ui`` puts before it."""
    text = line.args[1] if len(line.args) > 1 else ""
    stamp = _TIMESTAMP.match(text)
    return text[stamp.end() :] if stamp else text


def output_source(names: Sequence[str], line: Line) -> str:
    """The one of `names` that a ``ui`` line belongs to, empty if to none."""
    if line.type != "ui":
        return ""
    found = said(names, line) or verdict(names, text_of(line))
    return found.name if found and found.name in names else ""


def said(names: Sequence[str], line: Line) -> Said | None:
    """What a build says in `line`; one that is not among `names` must speak in Packer's tone."""
    text, is_said = text_of(line), line.args[:1] == ("say",)
    known = _known(tuple(names))
    found = known.prefix.match(text)
    if found is None and is_said:
        found = _UNKNOWN.match(text)
    if found is None:
        return None
    return Said(
        known.names.get(found["name"], found["name"]),
        text[found.end() :].partition("\n")[0],
        is_step=is_said and text.startswith("==>"),
        is_inner=found["inner"] is not None,
    )


def verdict(names: Sequence[str], text: str) -> Verdict | None:
    """How a build has ended, if that is what `text` says."""
    if not text.startswith("Build '"):
        return None
    known = _known(tuple(names))
    found = known.verdict.match(text) or _UNKNOWN_VERDICT.match(text)
    if found is None:
        return None
    error = None if found["verdict"] == "finished" else found["error"] or found["verdict"]
    return Verdict(known.names.get(found["name"], found["name"]), error)


def addressed(names: Iterable[str], line: Line) -> tuple[str, str, tuple[str, ...]]:
    """Build, type and arguments of a machine-readable line.

    Packer does not mark commas in a build's name: only who knows it can tell.
    """
    fields = (line.target, line.type, *line.args)
    for name in names:
        width = name.count(",") + 1
        if 1 < width < len(fields) and ",".join(fields[:width]) == name:
            return name, fields[width], fields[width + 1 :]
    return line.target, line.type, line.args


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
