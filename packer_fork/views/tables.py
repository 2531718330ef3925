"""Tables for people: rows in aligned columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from packer_fork.terminal import clean

_LONGEST = 60


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns as wide as their widest cell on a terminal."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell + " " * (width - width_of(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def _cell(value: str) -> str:
    line = " ".join(clean(value).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def width_of(text: str) -> int:
    """Cells that it takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )
