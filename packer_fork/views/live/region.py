"""The region at the bottom of the screen: a line for each source, cut to width and height."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct, structs
from rich.cells import cell_len
from rich.text import Text

from packer_fork.locks import who
from packer_fork.model import BuildStatus
from packer_fork.views.live.board import (
    Board,
    LockWait,
    Row,
    is_step_unknown,
    one_line,
    step_of,
    steps_of,
)
from packer_fork.views.plain import hashing
from packer_fork.views.words import clock

_SHARE = 2 / 3
"""Of the screen's height that the region takes, unless more sources run; the rest is the log's."""

_LOG = 3
"""Lines of the screen that are the log's even if running sources need more than the share."""

_UNFOLDED = 5
"""Lines that a failure shows of its output; fewer where there is no room."""

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


class Size(Struct, frozen=True):
    """Of a terminal, in cells. ``ascii_only``: it cannot show what is beyond ASCII."""

    width: int
    height: int
    ascii_only: bool = False


def region(board: Board, size: Size, now: datetime) -> list[Text]:
    """Its lines, none as wide as the screen: what ends right at the edge wraps on some."""
    width = max(1, size.width - 1)
    if board.wait is not None:
        return [cut(line, width) for line in _waiting(board.wait, now)]
    if board.started is None and board.hashing is not None:
        return [cut(Text(hashing(board.hashing), "dim"), width)]
    head, foot = [_header(board, now)], _footer(board, now)
    every = list(board.rows.values())
    wanted = sum(row.is_active for row in every) + 1
    most = max(int(size.height * _SHARE), min(wanted + len(foot) + 1, size.height - _LOG))
    room = max(2, most) - len(head) - len(foot)
    rows, rest = _fitting(every, room - _reserved(every, room))
    if rest:
        foot = [Text(f"  and {len(rest)} more: {_counts(rest)}", "dim"), *foot]
    lines = [*head, *_body(rows, room - len(rows) - bool(rest), width, size, now), *foot]
    return [cut(each, width) for each in lines]


def cut(line: Text, width: int) -> Text:
    """The same in one line of at most so many cells; a wide character takes two."""
    line.truncate(width, overflow="ellipsis")
    return line


def _header(board: Board, now: datetime) -> Text:
    head = Text(one_line(board.template), "bold")
    if board.workspace != "default":
        head.append(f" in workspace {one_line(board.workspace)}", "not bold")
    head.append(f"  run {board.run}", "not bold")
    if board.rows:
        head.append(f"  {_counts(list(board.rows.values()))}", "not bold dim")
    if board.started is not None:
        head.append(f"  {clock((now - board.started).total_seconds())}", "not bold dim")
    return head


def _waiting(wait: LockWait, now: datetime) -> list[Text]:
    """Two lines, the first of which counts down."""
    event, passed = wait.event, (now - wait.at).total_seconds()
    parts = [f"gives up in {clock(event.seconds_left - passed)}"]
    if event.eta is not None:
        parts.append(f"about {clock(event.eta - passed)} to go")
    parts.append(f"{event.place} before us" if event.place else "next in the queue")
    holder = f"  {event.status.status} by {who(event.status)}"
    phase = f", {event.phase}" if event.phase else ""
    return [
        Text(f"waiting for the lock: {', '.join(parts)}", "bold yellow"),
        Text(one_line(f"{holder}{phase}"), "dim"),
    ]


def _footer(board: Board, now: datetime) -> list[Text]:
    cancel = board.cancel
    if cancel is None:
        return []
    if cancel.signals > 2:
        return [Text("Killing Packer.", "bold red")]
    again = "Ctrl-C twice more" if cancel.signals == 1 else "Ctrl-C once more"
    seconds = (cancel.deadline - now).total_seconds()
    return [
        Text(f"Packer cleans up, for {clock(seconds)} at most. {again} kills it.", "bold yellow")
    ]


def _body(rows: list[Row], room: int, width: int, size: Size, now: datetime) -> list[Text]:
    """The lines of `rows`, with what stands below them in `room` lines more."""
    widths = columns(rows, width, now)
    below = _unfolded(rows, room)
    room -= sum(map(len, below.values()))
    active = [row for row in rows if row.is_active and row.lines]
    if not widths.last and len(active) <= room:
        below |= {row.name: [_below(row.lines[-1], "dim")] for row in active}
    lines: list[Text] = []
    for row in rows:
        said = "" if row.name in below else _said(row)
        lines.append(line(row, widths, said, now, ascii_only=size.ascii_only))
        lines += below.get(row.name, ())
    return lines


def _unfolded(rows: Sequence[Row], room: int) -> dict[str, list[Text]]:
    """The last lines of what has failed; each failure gets its last one before any gets more."""
    failed = [row for row in rows if row.has_failed]
    shown: Mapping[str, list[Text]] = {row.name: [] for row in failed}
    for back in range(1, _UNFOLDED + 1):
        for row in failed:
            if back <= len(row.lines) and room > 0:
                shown[row.name].insert(0, _below(row.lines[-back], "red"))
                room -= 1
    return {name: lines for name, lines in shown.items() if lines}


def _below(text: str, style: str) -> Text:
    return Text(f"    {text}", style, no_wrap=True)


def _said(row: Row) -> str:
    """The last words of a row: of Packer's, or what came out."""
    if row.status is BuildStatus.COMPLETE:
        return one_line(
            ", ".join(a.string or a.id for a in row.build.artifacts if a.string or a.id)
        )
    if row.elsewhere and row.build.by is not None:
        return one_line(f"by {row.build.by}")
    return row.lines[-1] if row.lines else one_line(row.build.error)


def _reserved(rows: list[Row], room: int) -> int:
    """Lines for what failures have to show: rather these than rows of what waits or is done."""
    matter = sum(row.is_active or row.has_failed for row in rows)
    wanted = sum(min(len(row.lines), _UNFOLDED) for row in rows if row.has_failed)
    return max(0, min(wanted, room - 1 - matter))


def _fitting(rows: list[Row], room: int) -> tuple[list[Row], list[Row]]:
    """Which rows are shown, in their order, and which are only counted."""
    if len(rows) <= room:
        return rows, []
    chosen = {row.name for row in sorted(rows, key=_rank)[: max(0, room - 1)]}
    return [r for r in rows if r.name in chosen], [r for r in rows if r.name not in chosen]


def _rank(row: Row) -> int:
    """What goes on comes first where not all fit, then what has failed; last, what is done."""
    if row.is_active:
        return 0
    return 1 if row.has_failed else 2 + row.is_over


def _counts(rows: Sequence[Row]) -> str:
    """``2 provisioning, 1 failed, 9 waiting``"""
    words = [word(row) for row in sorted(rows, key=_rank)]
    return ", ".join(f"{words.count(each)} {each}" for each in dict.fromkeys(words))


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
