"""Statistics for a terminal: what runs came to, and a row for each source."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from msgspec import Struct

from packer_fork.model import BuildStatus
from packer_fork.statistics import BuildPoint, SourceFigures, Statistics
from packer_fork.terminal import clean
from packer_fork.views.stats.text import extent, facts, last, percent, title, took
from packer_fork.views.tables import width_of

_SHORTEST_NAME, _SHORTEST_TREND = 12, 16
_MOST_TREND = 40
_TREND = "TREND"
_HEADER = ("BUILDS", "OK", "MEDIAN", "LONGEST", "LAST")
_INDENT = "  "
_GAP = "  "


_BLOCKS = ("▁▂▃▄▅▆▇█", "12345678")
_FAILED = ("✗", "x")
_LEFT_OUT = ("·", ".")
"""Each as it is, and where only ASCII can be shown."""

_AT_WORD = frozenset({BuildStatus.CANCELLED, BuildStatus.SKIPPED})


class Paper(Struct, frozen=True):
    """What is written on: so many cells wide. ``ascii_only``: it shows nothing beyond ASCII."""

    width: int
    ascii_only: bool = False


def lines(statistics: Statistics, paper: Paper) -> Iterator[str]:
    """The rows of sources are no wider than `paper`, where that has 80 cells or so."""
    found = statistics.figures
    if found is None or not found.runs:
        yield f"{title(statistics)}: no run has ended yet"
        return
    yield f"{title(statistics)}: {extent(found)}"
    for name, said in facts(found).items():
        yield from _wrapped(f"{_INDENT}{name + ':':<9}", said, paper.width)
    if found.sources:
        yield from (f"{_INDENT}{row}" for row in _rows(found.sources, paper))


def _wrapped(head: str, said: str, width: int) -> list[str]:
    rest = " " * len(head)
    return textwrap.wrap(said, max(width, 40), initial_indent=head, subsequent_indent=rest)


def _rows(sources: Sequence[SourceFigures], paper: Paper) -> Iterator[str]:
    """Names and trends share the room that figures leave."""
    names = ["SOURCE", *(" ".join(clean(each.name).split()) or '""' for each in sources)]
    figures = _to_the_right([_HEADER, *map(_cells, sources)])
    widest = len(figures[0])
    room = paper.width - len(_INDENT) - widest - 2 * len(_GAP)
    most = max(len(_TREND), *(len(each.builds) for each in sources))
    longest = max(map(width_of, names))
    width = min(longest, max(_SHORTEST_NAME, room - min(most, _SHORTEST_TREND)))
    cells = min(_MOST_TREND, room - width) if room - width >= len(_TREND) else 0
    trends = [sparkline(each.builds, cells, ascii_only=paper.ascii_only) for each in sources]
    for name, said, trend in zip(names, figures, [_TREND * bool(cells), *trends], strict=True):
        cut = _cut(name, width, ascii_only=paper.ascii_only)
        yield f"{cut}{_GAP}{said}{_GAP}{trend}".rstrip()


def _to_the_right(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _cells(source: SourceFigures) -> tuple[str, ...]:
    return (
        f"{len(source.builds):,}",
        percent(source.success),
        took(source.took.median if source.took else None),
        took(source.took.longest if source.took else None),
        last(source),
    )


def _cut(name: str, width: int, *, ascii_only: bool) -> str:
    """`name` in exactly so many cells; a wide character takes two."""
    if width_of(name) > width:
        while name and width_of(name) >= width:
            name = name[:-1]
        name += "~" if ascii_only else "…"
    return name + " " * (width - width_of(name))


def sparkline(builds: Sequence[BuildPoint], cells: int, *, ascii_only: bool) -> str:
    """The newest of `builds`, as many as there are cells; zero is below the lowest block."""
    shown = builds[-cells:] if cells > 0 else ()
    done = (build.seconds or 0.0 for build in shown if build.status == BuildStatus.COMPLETE)
    longest = max(done, default=0.0)
    return "".join(_sign(build, longest)[ascii_only] for build in shown)


def _sign(build: BuildPoint, longest: float) -> tuple[str, str]:
    if build.status in _AT_WORD:
        return _LEFT_OUT
    if build.status != BuildStatus.COMPLETE:
        return _FAILED
    blocks, digits = _BLOCKS
    share = (build.seconds or 0.0) / longest if longest else 0.0
    step = min(len(blocks) - 1, int(share * len(blocks)))
    return blocks[step], digits[step]
