"""What stands on the terminal once the region is gone: what came of it, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import PurePath

from msgspec import Struct, structs
from rich.cells import cell_len
from rich.text import Text

from packer_fork import events
from packer_fork.failures import cause
from packer_fork.model import Artifact, BuildStatus, RunStatus
from packer_fork.terminal import clean
from packer_fork.views import words
from packer_fork.views.live.board import Board, Row, one_line
from packer_fork.views.live.region import cell, mark

_MOST_UNTOUCHED = 10
"""Builds of one kind that are listed though nothing was done for them."""

_MOST_LOGS = 3

_LABEL = 11
_BELOW = " " * 6


Likely = Callable[[str], Sequence[str]]


class _Entry(Struct, frozen=True, kw_only=True):
    """A line: a label, a name, how long it took, what to say, and what stands below.

    ``is_untouched``: nothing was done, so that it matters less.
    """

    label: str
    style: str
    name: str
    took: str = ""
    said: str = ""
    below: tuple[str, ...] = ()
    is_untouched: bool = False


def summary(
    board: Board, place: Sequence[str], width: int, likely: Likely = lambda _: ()
) -> list[Text]:
    """On a screen `width` cells wide; nothing if nothing is known.

    `place`: the arguments by which another command finds this state. `likely`: lines
    of a build's output that look like the cause of its failure.
    """
    if not board.ended and not board.up_to_date:
        return []
    facts = [*_facts("log", _logs(board)), *_facts("next", _next(board, place))]
    return [_head(board), *_table(_limited(_entries(board, likely)), width), *facts]


def _head(board: Board) -> Text:
    head = Text(f"packer-fork: {one_line(board.template)}", "bold")
    if board.workspace != "default":
        head.append(f" in workspace {one_line(board.workspace)}")
    if not board.ended:
        return head.append(": everything is up to date, nothing to build")
    run = board.ended.run
    seconds = (run.ended - (board.started or run.started)).total_seconds() if run.ended else 0
    return head.append(f": run {run.number} {run.status} after {words.duration(seconds)}")


def _entries(board: Board, likely: Likely) -> Iterator[_Entry]:
    """What is fine comes first: what is not stands where the eye is."""
    rows = sorted(board.rows.values(), key=_order)
    done = [row for row in rows if row.status is BuildStatus.COMPLETE]
    yield from map(_built, done)
    yield from map(_up_to_date, board.up_to_date.values())
    yield from (_not_built(row, likely) for row in rows[len(done) :])


def _order(row: Row) -> tuple[bool, bool, str]:
    status = row.status
    return (status is not BuildStatus.COMPLETE, row.has_failed, status * status.is_final)


def _limited(entries: Iterable[_Entry]) -> list[_Entry]:
    """The same, of those that are untouched only some of each kind; the others are counted."""
    shown: list[_Entry] = []
    for label, group in groupby(entries, key=lambda each: (each.label, each.is_untouched)):
        of_kind = list(group)
        most = _MOST_UNTOUCHED if label[1] else len(of_kind)
        shown += of_kind[:most]
        if rest := of_kind[most:]:
            shown.append(structs.replace(rest[0], name=f"and {len(rest)} more", took="", said=""))
    return shown


def _built(row: Row) -> _Entry:
    _, style = mark(row, ascii_only=True)
    made = _artifacts(row.build.artifacts)
    return _Entry(label="built", style=style, name=one_line(row.name), took=_took(row), said=made)


def _up_to_date(plan: events.BuildPlan) -> _Entry:
    made = _artifacts(plan.result.artifacts) if plan.result else ""
    run = f"run {plan.result.run}" if plan.result else ""
    name = one_line(plan.name)
    return _Entry(
        label="up to date", style="cyan", name=name, took=run, said=made, is_untouched=True
    )


def _not_built(row: Row, likely: Likely) -> _Entry:
    _, style = mark(row, ascii_only=True)
    return _Entry(
        label=str(row.status) if row.status.is_final else "not built",
        style=style,
        name=one_line(row.name),
        took=_took(row),
        said=one_line(cause(row.build)),
        below=tuple(likely(row.name)) if row.has_failed else (),
        is_untouched=row.build.started is None,
    )


def _took(row: Row) -> str:
    build = row.build
    if build.started is None or build.ended is None:
        return ""
    return words.duration((build.ended - build.started).total_seconds())


def _artifacts(artifacts: Iterable[Artifact]) -> str:
    return one_line(", ".join(a.string or a.id for a in artifacts if a.string or a.id))


def _table(entries: Sequence[_Entry], width: int) -> Iterator[Text]:
    name = max((cell_len(each.name) for each in entries), default=0)
    took = max((cell_len(each.took) for each in entries), default=0)
    for each in entries:
        line = Text("  ").append(cell(each.label, _LABEL), each.style)
        line.append(f" {cell(each.name, name)}  {cell(each.took, took)}")
        is_short = line.cell_len + 2 + cell_len(each.said) <= width
        line.append(f"  {each.said}" if is_short else "")
        line.rstrip()
        yield line
        if not is_short:
            yield Text(f"{_BELOW}{each.said}")
        yield from (Text(f"{_BELOW}{text}", "dim") for text in each.below)


def _facts(label: str, texts: Iterable[str]) -> Iterator[Text]:
    for number, text in enumerate(texts):
        yield Text("  ").append(f"{cell(label * (not number), _LABEL)} ", "dim").append(clean(text))


def _logs(board: Board) -> list[str]:
    """Of each work item; of many only the folder that they are in."""
    logs = list(dict.fromkeys(board.logs))
    return logs if len(logs) <= _MOST_LOGS else [f"{PurePath(logs[0]).parent}/"]


def _next(board: Board, place: Sequence[str]) -> Iterator[str]:
    """Commands, each with what it does."""
    arguments = shlex.join(place)
    if board.ended and board.ended.run.status is not RunStatus.COMPLETE:
        how = "without --rebuild" if board.is_rebuild else "again"
        yield f"the same command {how}: it builds only what is not complete"
        yield f"packer-fork state show {arguments}: what is on record"
    else:
        yield f"packer-fork artifacts {arguments}: for whoever goes on with them"
