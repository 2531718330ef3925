"""A source as a line of columns: status, name, phase, time, progress, its last words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from msgspec import Struct, structs
from rich.cells import cell_len
from rich.text import Text

from packer_fork.model import BuildStatus
from packer_fork.views.live.board import Row, is_step_unknown, one_line, step_of, steps_of
from packer_fork.views.live.times import clock

_LONGEST = 30
"""Cells of a name or a phase at the most, however wide the screen is."""

_SHORT_NAME, _SHORT_PHASE = 12, 16
"""Cells that these are cut to before other columns go."""

_BAR = 10
_LAST = 24
"""Cells that the last words need to stand in the line at all."""

_MARK = 2
_GAP = 2

_WORDS = {BuildStatus.PENDING: "waiting", BuildStatus.POST_PROCESSING: "post-processing"}
_MARKS = {
    BuildStatus.COMPLETE: ("✓", "+", "green"),
    BuildStatus.SKIPPED: ("–", "-", "dim"),  # noqa: RUF001 (a dash, where there is one)
    BuildStatus.PENDING: ("·", ".", "dim"),
    BuildStatus.CANCELLED: ("■", "x", "yellow"),
    BuildStatus.FAILED: ("✗", "!", "bold red"),
    BuildStatus.INTERRUPTED: ("✗", "!", "bold red"),
    BuildStatus.UNVERIFIED: ("?", "?", "yellow"),
}
_ACTIVE = ("●", "*", "cyan")


class Columns(Struct, frozen=True, kw_only=True):
    """Their widths in cells, 0 for one that is left out."""

    name: int
    phase: int
    time: int
    bar: int = 0
    left: int = 0
    last: int = 0

    @property
    def width(self) -> int:
        widths = (self.name, self.phase, self.time, self.bar, self.left, self.last)
        return _MARK + sum(widths) + _GAP * (sum(map(bool, widths)) - 1)


def columns(rows: Sequence[Row], width: int, now: datetime) -> Columns:
    """What fits best into a line of `width` cells."""
    widest = Columns(
        name=_widest((one_line(row.name) for row in rows), _LONGEST),
        phase=_widest(map(phase, rows), _LONGEST),
        time=_widest((_time(row, now) for row in rows), _LONGEST),
        left=_widest((left(row, now) for row in rows), _LONGEST),
    )
    if widest.left:
        widest = structs.replace(widest, bar=_BAR)
    fitting = _shrunk(widest, width)
    rest = width - fitting.width - _GAP
    return structs.replace(fitting, last=rest) if rest >= _LAST else fitting


def line(row: Row, widths: Columns, said: str, now: datetime, *, ascii_only: bool) -> Text:
    """`row` in columns of these widths, the last of them `said`."""
    sign, style = mark(row, ascii_only=ascii_only)
    dim = "dim" if row.status is BuildStatus.PENDING else ""
    text = Text(no_wrap=True)
    text.append(f"{sign} ", style)
    cells = [
        (one_line(row.name), dim or "bold" * row.is_active, widths.name),
        (phase(row), dim or style, widths.phase),
        (_time(row, now).rjust(widths.time), "dim", widths.time),
        (_bar(row, now, ascii_only=ascii_only), "cyan", widths.bar),
        (left(row, now), "dim", widths.left),
        (said, "dim", widths.last),
    ]
    shown = [(cell(words, width), style) for words, style, width in cells if width]
    for number, (words, its_style) in enumerate(shown):
        text.append(" " * _GAP * bool(number)).append(words, its_style)
    text.rstrip()
    return text


def cell(words: str, width: int) -> str:
    """`words` in exactly so many cells; a wide character takes two."""
    cut = Text(words)
    cut.truncate(width, overflow="ellipsis", pad=True)
    return cut.plain


def mark(row: Row, *, ascii_only: bool) -> tuple[str, str]:
    """A sign for its status, and the style of it."""
    status = BuildStatus.COMPLETE if row.is_finished else row.status
    sign, plain, style = _MARKS.get(status, _ACTIVE)
    return (plain if ascii_only else sign), style


def word(row: Row) -> str:
    return "finished" if row.is_finished else _WORDS.get(row.status, str(row.status))


def phase(row: Row) -> str:
    """In words, with the step that is at work: ``provisioning 3/5 ansible``, or ``?/5``."""
    if row.is_active and is_step_unknown(row.build):
        return f"{word(row)} ?/{len(steps_of(row.build))}"
    step = step_of(row.build) if row.is_active else None
    if step is None:
        return word(row)
    place, count, at_work = step
    return f"{word(row)} {place}/{count} {one_line(at_work.name or at_work.type)}"


def left(row: Row, now: datetime) -> str:
    """For how long still, by how long it took before; empty where that is not known."""
    seconds = row.seconds(now)
    if row.usual is None or seconds is None or not row.is_active:
        return ""
    to_go = row.usual - seconds
    return f"~{clock(max(1, to_go))} left" if to_go > -1 else f"{clock(-to_go)} over"


def _bar(row: Row, now: datetime, *, ascii_only: bool) -> str:
    seconds = row.seconds(now)
    if not left(row, now) or row.usual is None or seconds is None:
        return ""
    full = int(_BAR * seconds / row.usual) if seconds < row.usual else _BAR
    done, to_do = "#." if ascii_only else "━╌"
    return done * full + to_do * (_BAR - full)


def _time(row: Row, now: datetime) -> str:
    seconds = row.seconds(now)
    return "" if seconds is None else clock(seconds)


def _shrunk(wanted: Columns, width: int) -> Columns:
    """Names first, then the bar, phases, what is left, and all that is left of these."""
    steps: tuple[Callable[[Columns, int], Columns], ...] = (
        lambda c, over: structs.replace(c, name=max(min(c.name, _SHORT_NAME), c.name - over)),
        lambda c, _: structs.replace(c, bar=0),
        lambda c, over: structs.replace(c, phase=max(min(c.phase, _SHORT_PHASE), c.phase - over)),
        lambda c, _: structs.replace(c, left=0),
        lambda c, _: structs.replace(c, time=0),
        lambda c, over: structs.replace(c, phase=max(0, c.phase - over)),
    )
    found = wanted
    for step in steps:
        if found.width > width:
            found = step(found, found.width - width)
    return found


def _widest(texts: Iterable[str], most: int) -> int:
    return min(most, max(map(cell_len, texts), default=0))
