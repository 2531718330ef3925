"""The region at the bottom of the screen: a line for each source, cut to width and height."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from rich.text import Text

from packer_fork.model import BuildStatus
from packer_fork.views.live import table
from packer_fork.views.live.board import Board, Row, one_line
from packer_fork.views.live.times import clock
from packer_fork.views.sentences import hashing

_SHARE = 2 / 3
"""Of the screen's height that the region takes at the most: the rest is the log's."""

_UNFOLDED = 5
"""Lines that a failure shows of its output; fewer where there is no room."""


class Size(Struct, frozen=True):
    """Of a terminal, in cells. ``ascii_only``: it cannot show what is beyond ASCII."""

    width: int
    height: int
    ascii_only: bool = False


def region(board: Board, size: Size, now: datetime) -> list[Text]:
    """Its lines, none as wide as the screen: what ends right at the edge wraps on some."""
    width = max(1, size.width - 1)
    if board.started is None and board.hashing is not None:
        return [cut(Text(hashing(board.hashing), "dim"), width)]
    head, foot = [_header(board, now)], _footer(board, now)
    room = max(2, int(size.height * _SHARE)) - len(head) - len(foot)
    every = list(board.rows.values())
    rows, rest = _fitting(every, room - _reserved(every, room))
    if rest:
        foot = [Text(f"  and {len(rest)} more: {_counts(rest)}", "dim"), *foot]
    lines = [*head, *_body(rows, room - len(rows) - bool(rest), width, size, now), *foot]
    return [cut(line, width) for line in lines]


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
    widths = table.columns(rows, width, now)
    below = _unfolded(rows, room)
    room -= sum(map(len, below.values()))
    active = [row for row in rows if row.is_active and row.lines]
    if not widths.last and len(active) <= room:
        below |= {row.name: [_below(row.lines[-1], "dim")] for row in active}
    lines: list[Text] = []
    for row in rows:
        said = "" if row.name in below else _said(row)
        lines.append(table.line(row, widths, said, now, ascii_only=size.ascii_only))
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
    words = [table.word(row) for row in sorted(rows, key=_rank)]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
