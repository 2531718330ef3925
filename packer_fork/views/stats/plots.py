"""Plots as SVG. Across they are as wide as the page lets them be: positions are percentages.

So texts and marks keep their size on a phone. What a mark means is told by its shape, not by
its colour alone; a title tells the rest where a pointer rests on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from packer_fork.views.stats import axis
from packer_fork.views.stats.markup import Markup, joined, tag, text

_FEWEST = 24
"""Slots of a plot: a few bars need not be as wide as all of it."""

_ABOVE, _BELOW = 8, 24
"""Pixels around what is plotted: half a mark; dates."""

_MARKED_BELOW = 14
"""Pixels for a row of marks between what is plotted and its dates."""

MARKS = {
    "complete": tag("circle", r=3, fill="currentColor"),
    "failed": tag("path", d="M-3.5-3.5 3.5 3.5M3.5-3.5-3.5 3.5", stroke="currentColor"),
    "interrupted": tag("path", d="M-4 3.5 0-4 4 3.5Z", fill="currentColor"),
    "unverified": tag("path", d="M-4 0 0-4 4 0 0 4Z", stroke="currentColor", fill="none"),
    "cancelled": tag("path", d="M-3-3H3V3H-3Z", stroke="currentColor", fill="none"),
    "skipped": tag("path", d="M-4 0H4", stroke="currentColor"),
}
"""By what a run or a build came to."""


_MARKED = MARKS.keys() - {"complete"}
"""What a bar has a mark for, as its colour may not be seen."""


class Item(Struct, frozen=True, kw_only=True):
    """What is plotted in slot ``slot``, counted from 0; ``seconds`` are None if not known."""

    slot: int
    seconds: float | None
    status: str
    title: str


class Grid(Struct, frozen=True, kw_only=True):
    """So many slots, for what began at ``moments``, and a height in pixels for durations.

    ``marked``: with a row of marks below them.
    """

    moments: tuple[datetime, ...]
    height: int
    marked: bool = False

    @property
    def bottom(self) -> int:
        """Where the dates begin."""
        return _ABOVE + self.height + _MARKED_BELOW * self.marked

    @property
    def slot(self) -> float:
        """Its width, in per cent."""
        return 100 / max(_FEWEST, len(self.moments))

    def middle(self, slot: int) -> float:
        return (slot + 0.5) * self.slot


def marks() -> Markup:
    """What plots refer to; once on each page."""
    shapes = (tag("g", shape, id=f"mark-{name}") for name, shape in MARKS.items())
    return tag("svg", tag("defs", *shapes), class_="marks", aria_hidden="true")


def mark(status: str, **place: str | float) -> Markup:
    """The sign of a status, in its colour."""
    return tag("use", href=f"#mark-{status}", class_=status, **place)


def bars(items: Sequence[Item], grid: Grid, label: str) -> Markup:
    """A bar for each, as high as it took long; below it the mark of what it came to."""
    scale = axis.scale(max((item.seconds or 0 for item in items), default=0))

    def drawn() -> Iterator[Markup]:
        for item in items:
            y = _y(item.seconds or 0, scale, grid)
            bar = tag(
                "rect",
                x=_percent(grid.middle(item.slot) - grid.slot * 0.4),
                width=_percent(grid.slot * 0.8),
                y=y,
                height=max(1, _ABOVE + grid.height - y),
                class_=item.status,
            )
            sign = (_below(item, grid),) if grid.marked and item.status in _MARKED else ()
            yield _titled(item, grid, bar, *sign)

    return _plot(grid, scale, label, *drawn())


def dots(items: Sequence[Item], grid: Grid, label: str, *, median: float | None) -> Markup:
    """A mark for each, as high as it took long, with a line at the median."""
    known = [item for item in items if item.seconds is not None]
    scale = axis.scale(max((item.seconds or 0 for item in known), default=0))

    def drawn() -> Iterator[Markup]:
        if median is not None:
            yield _across(_y(median, scale, grid), "median")
        for item in known:
            place = _y(item.seconds or 0, scale, grid)
            sign = mark(item.status, x=_percent(grid.middle(item.slot)), y=place)
            yield _titled(item, grid, sign)

    return _plot(grid, scale, label, *drawn())


def meter(median: float, longest: float, top: float, label: str) -> Markup:
    """A bar up to the median, and a line on to the longest."""
    ends = {"x1": _percent(100 * median / top), "x2": _percent(100 * longest / top)}
    return tag(
        "svg",
        tag("rect", y=2, height=8, width=_percent(100 * median / top)),
        tag("line", **ends, y1=6, y2=6),
        class_="meter",
        role="img",
        aria_label=label,
    )


def _plot(grid: Grid, scale: axis.Scale, label: str, *drawn: Markup) -> Markup:
    return tag(
        "svg",
        _lines(scale, grid),
        *drawn,
        _dates(grid),
        class_="plot",
        height=grid.bottom + _BELOW,
        role="img",
        aria_label=label,
    )


def _lines(scale: axis.Scale, grid: Grid) -> Markup:
    """They and their names, which stand in the margin to the left."""
    zero = _across(_y(0, scale, grid), "zero")
    return joined(
        [
            zero,
            *(_across(_y(line, scale, grid), "line") for line in scale.lines),
            *(
                tag("text", text(axis.name(line)), x=-8, y=_y(line, scale, grid) + 4, class_="y")
                for line in scale.lines
            ),
        ]
    )


def _dates(grid: Grid) -> Markup:
    """The first, the last and one between, as far as there is room for them."""
    names = axis.dates(grid.moments)
    last = len(names) - 1
    chosen: list[int] = [0] if names else []
    for slot in (last // 2, last):
        if slot > 0 and grid.middle(slot) - grid.middle(chosen[-1]) > 30:
            chosen.append(slot)
    return joined(_date(slot, names[slot], grid) for slot in chosen)


def _date(slot: int, name: str, grid: Grid) -> Markup:
    middle = grid.middle(slot)
    anchor = "start" if middle < 15 else "end" if middle > 85 else "middle"
    y = grid.bottom + 17
    return tag("text", text(name), x=_percent(middle), y=y, text_anchor=anchor)


def _titled(item: Item, grid: Grid, *drawn: Markup) -> Markup:
    """The title is shown anywhere above or below it."""
    slot = tag(
        "rect",
        x=_percent(grid.middle(item.slot) - grid.slot / 2),
        width=_percent(grid.slot),
        height=grid.bottom,
        class_="slot",
    )
    return tag("g", tag("title", text(item.title)), slot, *drawn)


def _below(item: Item, grid: Grid) -> Markup:
    place = _percent(grid.middle(item.slot))
    return mark(item.status, x=place, y=grid.bottom - 4)


def _across(y: float, kind: str) -> Markup:
    return tag("line", x1="0", x2="100%", y1=y, y2=y, class_=kind)


def _y(seconds: float, scale: axis.Scale, grid: Grid) -> float:
    return _ABOVE + grid.height * (1 - seconds / scale.top)


def _percent(share: float) -> str:
    return f"{share:.5g}%"
