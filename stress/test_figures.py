"""The docs' table of figures: the rows that `make bench` writes, and how it renews them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import structs

from stress import figures
from stress.meter import Figure
from tests.support.docs import DOCS


def test_figures_are_those_that_make_bench_writes() -> None:
    _, _, rest = DOCS.partition(figures.BEGIN)
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", rest.partition(figures.END)[0], re.MULTILINE)
    assert [text for text, _ in rows[1:]] == [row.text for row in figures.ROWS]
    assert len(dict(rows)) == len(rows)
    assert all(re.match(r"\d", cell) for _, cell in rows[1:])


def test_a_table_of_figures_is_written_anew(tmp_path: Path) -> None:
    taken = [
        Figure(section=section, what=what, value=number / 7, unit="ms", ratio=1.25)
        for row in figures.ROWS
        for number, (section, what) in enumerate(row.figures)
    ]
    path = tmp_path / "README.md"
    path.write_text(f"before\n{figures.BEGIN}old{figures.END}after\n", encoding="utf-8")
    figures.renew(path, "a machine", taken)
    renewed = path.read_text(encoding="utf-8")
    assert renewed.startswith(f"before\n{figures.BEGIN}Measured on a machine.\n")
    assert renewed.endswith(f"{figures.END}after\n")
    assert "| 0, 0.143, 0.286 ms |" in renewed
    assert "| 1.2, 1.2, 1.2 times |" in renewed
    half = len(figures.ROWS) // 2
    kept = [place for row in figures.ROWS[:half] for place in row.figures]
    others = [each for each in taken if (each.section, each.what) not in kept]
    figures.renew(path, "a machine", [structs.replace(each, value=1e6) for each in others])
    partly = path.read_text(encoding="utf-8").splitlines()
    assert partly[: half + 5] == renewed.splitlines()[: half + 5]
    assert any("1,000,000" in line for line in partly)
    with pytest.raises(ValueError, match="measure all parts"):
        figures.renew(path, "another machine", others)
    path.write_text(f"before\n{figures.BEGIN}old{figures.END}after\n", encoding="utf-8")
    with pytest.raises(KeyError):
        figures.renew(path, "a machine", others)
