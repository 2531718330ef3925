"""README.md taken apart: sections, tables, names, examples, transcripts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]+)`")
OPTION = re.compile(r"--?[a-z][a-z-]*")
_FENCE = re.compile(r"^(?:<!-- ([^\n]+) -->\n)?```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Section(NamedTuple):
    """A heading with what stands below it, up to the next of its level or above."""

    title: str
    text: str


def sections(level: int, text: str = README) -> Iterator[Section]:
    heading = re.compile(rf"^#{{{level}}} (.+)$", re.MULTILINE)
    higher = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE)
    for found in heading.finditer(text):
        end = higher.search(text, found.end())
        yield Section(found[1], text[found.end() : end.start() if end else None])


def section(title: str, level: int = 2) -> str:
    (found,) = (each.text for each in sections(level) if each.title == title)
    return found


def table(first_header: str, text: str) -> list[list[str]]:
    """The cells of the rows below the header that begins with `first_header`."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    assert rows
    return rows


def names(cell: str) -> set[str]:
    return set(CODE.findall(cell))


def options_in(cell: str) -> set[str]:
    """``--state`` of `--state DIR`."""
    return {found[0] for name in names(cell) if (found := OPTION.match(name))}


class Example(NamedTuple):
    """A fenced block, with the name that the comment above it gives."""

    name: str
    language: str
    text: str


def examples() -> Iterator[Example]:
    for name, language, text in _FENCE.findall(README):
        yield Example(name, language, text)


def example(name: str) -> str:
    (found,) = (each.text for each in examples() if each.name == name)
    return found


class Step(NamedTuple):
    """A command of a transcript: its words, and what it printed."""

    words: list[str]
    said: str


def transcript(name: str) -> list[Step]:
    steps = re.split(r"^\$ (.*)\n", example(name), flags=re.MULTILINE)
    lines = zip(steps[1::2], steps[2::2], strict=True)
    return [Step(shlex.split(line, comments=True), said) for line, said in lines]


def ours(said: str) -> str:
    """Of what a build printed, packer-fork's own lines."""
    return "\n".join(line for line in said.splitlines() if line.startswith("packer-fork:"))


_VARYING = (
    (re.compile(r"(under )?\d+(\.\d+)? (s|min|h|d)( \d+ (s|min|h))?\b"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d(T[\d:]+Z| [\d:]+ \w+)"), "MOMENT"),
    (re.compile(r"\S+@[^\s,]+"), "USER@HOST"),
    # output that comes at once is committed at once
    (re.compile(r"serials? \d+( to \d+)?"), "serial N"),
    (re.compile(r"\bpacker +\d+\.\d+\.\d+"), "packer VERSION"),
    (re.compile(r"\d+ changes"), "N changes"),
    # Packer 1.6 leaves the blank out
    (re.compile(r"(exit status: \d+\.) ?"), r"\1 "),
    (re.compile(r"[\d.]+ [kM]?B read"), "SIZE read"),
    (re.compile(r"[0-9a-f]{64}|\d{12}-restore-\w+-[0-9a-f]{16}"), "NAME"),
    (re.compile(r"/\S*/\.packer-fork/"), "/FOLDER/.packer-fork/"),
    (re.compile(r"\s+"), " "),
)


def lasting(text: str) -> list[str]:
    """Its lines without what differs from run to run."""
    lines = [line for line in text.splitlines() if line]
    for pattern, name in _VARYING:
        lines = [pattern.sub(name, line).strip() for line in lines]
    return sorted(lines)
