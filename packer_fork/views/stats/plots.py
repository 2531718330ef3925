"""Plots as SVG. Across they are as wide as the page lets them be: positions are percentages.

So texts and marks keep their size on a phone. What a mark means is told by its shape, not by
its colour alone; a title tells the rest where a pointer rests on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from math import ceil

from msgspec import Struct

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


_STEPS = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30),
    *(60, 120, 300, 600, 1200, 1800),
    *(3600, 7200, 14400, 28800, 43200, 86400),
)
"""Seconds between two lines: what is round to people."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))

_LINES = 3
"""Above zero at the most."""


class Item(Struct, frozen=True, kw_only=True):
    """What is plotted in slot ``slot``, counted from 0; ``seconds`` are None if not known.

    ``href``: where a click leads to, empty for nowhere.
    """

    slot: int
    seconds: float | None
    status: str
    title: str
    href: str = ""


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
    scale = scale_for(max((item.seconds or 0 for item in items), default=0))

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
    scale = scale_for(max((item.seconds or 0 for item in known), default=0))

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


def _plot(grid: Grid, scale: Scale, label: str, *drawn: Markup) -> Markup:
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


def _lines(scale: Scale, grid: Grid) -> Markup:
    """They and their names, which stand in the margin to the left."""
    zero = _across(_y(0, scale, grid), "zero")
    return joined(
        [
            zero,
            *(_across(_y(line, scale, grid), "line") for line in scale.lines),
            *(
                tag("text", text(scale_name(line)), x=-8, y=_y(line, scale, grid) + 4, class_="y")
                for line in scale.lines
            ),
        ]
    )


def _dates(grid: Grid) -> Markup:
    """The first, the last and one between, as far as there is room; none says what another does."""
    names = dates(grid.moments)
    last = len(names) - 1
    chosen: list[int] = [0] if names else []
    for slot in (last // 2, last):
        has_room = slot > 0 and grid.middle(slot) - grid.middle(chosen[-1]) > 30
        if has_room and names[slot] not in [names[each] for each in chosen]:
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
    group = tag("g", tag("title", text(item.title)), slot, *drawn)
    return tag("a", group, href=item.href) if item.href else group


def _below(item: Item, grid: Grid) -> Markup:
    place = _percent(grid.middle(item.slot))
    return mark(item.status, x=place, y=grid.bottom - 4)


def _across(y: float, kind: str) -> Markup:
    return tag("line", x1="0", x2="100%", y1=y, y2=y, class_=kind)


def _y(seconds: float, scale: Scale, grid: Grid) -> float:
    return _ABOVE + grid.height * (1 - seconds / scale.top)


def _percent(share: float) -> str:
    return f"{share:.5g}%"


class Scale(Struct, frozen=True):
    """From zero to ``top``, with a line at each multiple of ``step``."""

    top: float
    step: float

    @property
    def lines(self) -> list[float]:
        return [self.step * number for number in range(1, round(self.top / self.step) + 1)]


def scale_for(longest: float) -> Scale:
    """The smallest on which `longest` seconds can be shown."""
    days = _STEPS[-1] * ceil(longest / _LINES / _STEPS[-1])
    step = next((step for step in _STEPS if step * _LINES >= longest), days)
    return Scale(step * max(1, ceil(longest / step)), step)


def scale_name(seconds: float) -> str:
    """Of a line, in one unit: ``0.5 s``, ``5 min``, ``1.5 h``."""
    size, unit = next((each for each in _UNITS if seconds >= each[0]), (1, "s"))
    return f"{seconds / size:g} {unit}"


def dates(moments: Sequence[datetime]) -> list[str]:
    """As exact as it takes to tell them apart, in the reader's time zone."""
    local = [moment.astimezone() for moment in moments]
    if not local:
        return []
    if len({moment.date() for moment in local}) == 1:
        form = "%H:%M"
    elif max(local) - min(local) < timedelta(days=6):
        form = "%a %H:%M"
    else:
        form = "%Y-%m-%d"
    return [moment.strftime(form) for moment in local]
