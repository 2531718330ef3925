"""Tables for people: aligned columns, wrapped by words where a terminal is too narrow.

Without a width, as in a pipe, nothing is wrapped or cut.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from msgspec import Struct

from packer_fork.terminal import clean
from packer_fork.views.console import StyledLine

_GAP = "  "
_INDENT = "    "
"""Of what stands below a row."""

_UNBROKEN = 20
"""Cells of a text that is not wrapped in its column: a status, a time, a short name."""

_STYLES = {
    "complete": "good",
    **dict.fromkeys(("up to date", "skipped", "pending"), "minor"),
    **dict.fromkeys(("failed", "interrupted"), "bad"),
    **dict.fromkeys(("unverified", "cancelled"), "doubtful"),
    **dict.fromkeys(("running", "creating", "provisioning", "post_processing"), "active"),
}


class Cell(Struct, frozen=True):
    text: str
    style: str = ""


class TableRow(Struct, frozen=True):
    """Cells of a row, and texts that stand below it in all of the width."""

    cells: tuple[Cell, ...]
    below: tuple[Cell, ...] = ()


def row(*cells: str | Cell, below: Iterable[Cell] = ()) -> TableRow:
    return TableRow(
        tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells), tuple(below)
    )


def header(*names: str) -> TableRow:
    return TableRow(tuple(Cell(name, "head") for name in names))


def status(text: str) -> Cell:
    """A status in its colour."""
    return Cell(text, _STYLES.get(text, ""))


def table(
    rows: Sequence[TableRow], width: int | None = None, *, indent: int = 0
) -> list[StyledLine]:
    """Lines of at most `width` cells, as far as words are no longer.

    Columns that do not fit even when wrapped stand on a second line, below their rows.
    """
    clean_rows = [TableRow(tuple(map(_cleaned, each.cells)), each.below) for each in rows]
    if not clean_rows:
        return []
    room = None if width is None else max(1, width - indent)
    columns = [[row.cells[n].text for row in clean_rows] for n in range(len(clean_rows[0].cells))]
    widths = _widths(columns, room)
    margin = " " * indent
    return [line for row in clean_rows for line in _lines(row, widths, room, margin)]


def wrapped(text: str, width: int | None) -> list[str]:
    """`text` in lines of at most `width` cells; a longer word has a line of its own."""
    if width is None or width_of(text) <= width:
        return [text]
    lines: list[str] = []
    for word in text.split():
        if lines and width_of(lines[-1]) + 1 + width_of(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines or [""]


def width_of(text: str) -> int:
    """Cells that it takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def _cleaned(cell: Cell) -> Cell:
    return Cell(" ".join(clean(cell.text).split()), cell.style)


def _widths(columns: Sequence[Sequence[str]], room: int | None) -> list[int]:
    """Of those columns that fit side by side, the widest ones narrowed as far as it takes."""
    widths = [max(map(width_of, column)) for column in columns]
    if room is None:
        return widths
    least = [max(map(_narrowest, column)) for column in columns]
    count = len(columns)
    while count > 1 and sum(least[:count]) + len(_GAP) * (count - 1) > room:
        count -= 1
    return _narrowed(widths[:count], least[:count], room - len(_GAP) * (count - 1))


def _narrowed(widths: list[int], least: list[int], room: int) -> list[int]:
    while sum(widths) > room:
        wide = [n for n, width in enumerate(widths) if width > least[n]]
        if not wide:
            break
        widest = max(wide, key=lambda n: widths[n])
        widths[widest] -= 1
    return widths


def _narrowest(text: str) -> int:
    width = width_of(text)
    return width if width <= _UNBROKEN else max(map(width_of, text.split()), default=0)


def _lines(
    row: TableRow, widths: Sequence[int], room: int | None, margin: str
) -> Iterator[StyledLine]:
    beside, rest = row.cells[: len(widths)], row.cells[len(widths) :]
    cells = [
        wrapped(cell.text, None if room is None else width)
        for cell, width in zip(beside, widths, strict=True)
    ]
    for texts in zip_longest(*cells, fillvalue="") if any(map(any, cells)) else ():
        yield StyledLine.of((margin, ""), *_padded(texts, beside, widths))
    below = None if room is None else max(1, room - len(_INDENT))
    for line in (*_second(rest, below), *map(_cleaned, row.below)):
        for text in wrapped(line.text, below):
            yield StyledLine.of((f"{margin}{_INDENT}", ""), (text, line.style))


def _second(cells: Sequence[Cell], width: int | None) -> list[Cell]:
    """`cells` side by side if there is room for that, otherwise one below another."""
    there = [cell for cell in cells if cell.text not in ("", "-")]
    joined = _GAP.join(cell.text for cell in there)
    if len(there) < 2 or (width is not None and width_of(joined) > width):
        return there
    return [Cell(joined, there[0].style)]


def _padded(
    texts: Sequence[str], cells: Sequence[Cell], widths: Sequence[int]
) -> Iterator[tuple[str, str]]:
    last = max((n for n, text in enumerate(texts) if text), default=0)
    for number, (text, cell, width) in enumerate(zip(texts, cells, widths, strict=True)):
        if number <= last:
            yield text, cell.style
        if number < last:
            yield " " * (width - width_of(text)) + _GAP, ""
