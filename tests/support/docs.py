"""README.md and the pages of the docs, parsed: sections, tables, examples, transcripts."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import packer_fork

ROOT = Path(__file__).parents[2]
PACKAGE = Path(packer_fork.__file__).parent  # of the installed wheel, when that is tested
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((PACKAGE / "docs").glob("*.md")))
}
DOCS = "\n".join(PAGES.values())
CODE = re.compile(r"`([^`]+)`")
OPTION = re.compile(r"--?[a-z][a-z-]*")
_FENCE = re.compile(r"^(?:<!-- ([^\n]+) -->\n)?```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


def linked(page: Path, target: str) -> Path:
    """The file that a relative link on `page` leads to."""
    folder = Path("packer_fork/docs") if page.parent == PACKAGE / "docs" else Path()
    path = Path(os.path.normpath(folder / target))
    in_package = path.parts[0] == "packer_fork"
    return PACKAGE.joinpath(*path.parts[1:]) if in_package else ROOT / path


class Section(NamedTuple):
    """A heading with the text below it, up to the next heading of its level or above."""

    title: str
    level: int
    text: str


def sections(text: str) -> Iterator[Section]:
    """Every section of one page or of one section, nested ones included."""
    # a comment of a shell script in an example is no heading
    bare = _FENCED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    headings = [(found, len(found[1])) for found in _HEADING.finditer(bare)]
    for index, (found, level) in enumerate(headings):
        ends = (later.start() for later, deep in headings[index + 1 :] if deep <= level)
        yield Section(found[2], level, text[found.end() : next(ends, None)])


def section(title: str) -> str:
    """The one section of that title, whichever page it is on."""
    found = [each for page in PAGES.values() for each in sections(page) if each.title == title]
    (only,) = found
    return only.text


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
    for name, language, text in _FENCE.findall(DOCS):
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
