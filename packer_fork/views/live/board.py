"""What a live view knows of a build: folded from events, pure, without a clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct, structs

from packer_fork import events
from packer_fork.model import Build, BuildStatus, Step, StepStatus
from packer_fork.terminal import clean
from packer_fork.views.output import FAILED, lines_of

KEPT_LINES = 8
"""Lines of a build's output that are remembered, the newest."""


class Row(Struct, frozen=True, kw_only=True):
    """One build, as far as it is known. ``usual``: seconds that it takes, None if never built.

    ``elsewhere``: another machine builds it.
    """

    build: Build
    usual: float | None = None
    lines: tuple[str, ...] = ()
    elsewhere: bool = False

    @property
    def name(self) -> str:
        return self.build.name

    @property
    def status(self) -> BuildStatus:
        return self.build.status

    @property
    def is_finished(self) -> bool:
        """Whether Packer calls it finished, which is no proof before its report is closed."""
        return self.build.evidence.finished and not self.status.is_final

    @property
    def is_active(self) -> bool:
        begun = not self.status.is_final and self.status is not BuildStatus.PENDING
        return begun and not self.is_finished

    @property
    def is_over(self) -> bool:
        return self.status.is_final or self.is_finished

    @property
    def has_failed(self) -> bool:
        return self.status in FAILED

    def seconds(self, now: datetime) -> float | None:
        """How long it has taken by `now`, or took; None before it has begun."""
        if self.build.started is None:
            return None
        return max(0.0, ((self.build.ended or now) - self.build.started).total_seconds())


class Cancel(Struct, frozen=True):
    """``signals`` came so far; Packer is killed at ``deadline``."""

    signals: int
    deadline: datetime


class LockWait(Struct, frozen=True):
    """What is known since ``at`` of the lock that this build waits for."""

    event: events.Waiting
    at: datetime


class Board(Struct, frozen=True, kw_only=True):
    """All rows by name, in the order in which they became known; ``logs``: of items that ended.

    ``is_rebuild``: what is up to date was to be built, too. ``hashing``: how far that is, until
    there is a plan.
    """

    template: str = ""
    workspace: str = "default"
    rows: dict[str, Row] = {}
    up_to_date: dict[str, events.BuildPlan] = {}
    is_rebuild: bool = False
    started: datetime | None = None
    run: int = 0
    logs: tuple[str, ...] = ()
    ended: events.RunEnded | None = None
    cancel: Cancel | None = None
    hashing: events.Hashing | None = None
    wait: LockWait | None = None


def apply(board: Board, event: events.Event, now: datetime) -> Board:
    """`board` after `event`, which came at `now`; the same if that changes nothing on it."""
    after = board
    match event:
        case events.Hashing() | events.Waiting() | events.LockTaken():
            after = _before_run(board, event, now)
        case events.Planned():
            after = structs.replace(_planned(board, event), hashing=None)
        case events.RunStarted():
            after = _started(board, event)
        case events.ItemStarted() | events.ItemEnded():
            after = _of_item(board, event)
        case events.Output() if event.build in board.rows:
            after = _spoken(board, event)
        case events.BuildChanged():
            after = _with(board, _row(board, event.build))
        case events.Elsewhere():
            after = _elsewhere(board, event)
        case events.Cancelling():
            deadline = now + timedelta(seconds=event.kill_in)
            after = structs.replace(board, cancel=Cancel(event.signals, deadline))
        case events.RunEnded():
            after = _ended(board, event)
    return after


def _before_run(
    board: Board, event: events.Hashing | events.Waiting | events.LockTaken, now: datetime
) -> Board:
    if isinstance(event, events.Hashing):
        return structs.replace(board, hashing=event)
    wait = LockWait(event, now) if isinstance(event, events.Waiting) else None
    return structs.replace(board, wait=wait)


def steps_of(build: Build) -> tuple[Step, ...]:
    """The steps of the phase that a build is in."""
    is_after = build.status is BuildStatus.POST_PROCESSING
    return build.post_processors if is_after else build.provisioners


def is_step_unknown(build: Build) -> bool:
    """Whether one of several steps is at work, and Packer's output does not tell which."""
    return any(step.status is StepStatus.UNKNOWN for step in steps_of(build)) and not any(
        step.status is StepStatus.RUNNING for step in steps_of(build)
    )


def step_of(build: Build) -> tuple[int, int, Step] | None:
    """The step that is at work, or was last: its place, of how many of its kind."""
    steps = steps_of(build)
    begun = [place for place, step in enumerate(steps, 1) if step.started is not None]
    running = [place for place in begun if steps[place - 1].status is StepStatus.RUNNING]
    if not begun:
        return None
    place = running[-1] if running else begun[-1]
    return place, len(steps), steps[place - 1]


def one_line(text: str) -> str:
    """`text`, harmless, its white space closed up."""
    return " ".join(clean(text).split())


def _planned(board: Board, event: events.Planned) -> Board:
    done = {b.name: b for b in event.builds if b.action is events.Action.UP_TO_DATE}
    todo = (Build(name=b.name) for b in event.builds if b.name not in done)
    rows = {build.name: Row(build=build) for build in todo}
    return structs.replace(
        board,
        template=event.template,
        workspace=event.workspace,
        rows={**board.rows, **rows},
        up_to_date=done,
        is_rebuild=any("--rebuild" in b.reasons for b in event.builds),
    )


def _started(board: Board, event: events.RunStarted) -> Board:
    run = event.run
    fresh = {
        name: Row(build=Build(name=name, run=run.number), usual=event.usual.get(name))
        for name in run.builds
    }
    return structs.replace(
        board,
        template=event.template,
        workspace=event.workspace,
        rows={**board.rows, **fresh},
        up_to_date=_without(board.up_to_date, run.builds),
        started=board.started or run.started,
        run=run.number,
    )


def _of_item(board: Board, event: events.ItemStarted | events.ItemEnded) -> Board:
    """A retry begins each of its builds anew."""
    if isinstance(event, events.ItemEnded):
        return structs.replace(board, logs=(*board.logs, event.log) if event.log else board.logs)
    item = event.item
    if item.attempt == 1:
        return board
    rows = (_row(board, Build(name=name, run=item.run)) for name in item.sources)
    fresh = {row.name: structs.replace(row, lines=()) for row in rows}
    return structs.replace(board, rows={**board.rows, **fresh})


def _elsewhere(board: Board, event: events.Elsewhere) -> Board:
    after = _with(board, structs.replace(_row(board, event.build), elsewhere=True))
    began = board.started or event.build.started
    return structs.replace(after, started=began, run=event.run)


def _spoken(board: Board, event: events.Output) -> Board:
    row = board.rows[event.build]
    lines = (*row.lines, *lines_of(event.build, event.text))[-KEPT_LINES:]
    return _with(board, structs.replace(row, lines=lines))


def _ended(board: Board, event: events.RunEnded) -> Board:
    rows = {build.name: _row(board, build) for build in event.builds}
    return structs.replace(
        board,
        rows={**board.rows, **rows},
        ended=event,
    )


def _row(board: Board, build: Build) -> Row:
    known = board.rows.get(build.name)
    return structs.replace(known, build=build) if known else Row(build=build)


def _with(board: Board, row: Row) -> Board:
    return structs.replace(board, rows={**board.rows, row.name: row})


def _without(
    plans: dict[str, events.BuildPlan], names: Iterable[str]
) -> dict[str, events.BuildPlan]:
    gone = set(names)
    return {name: plan for name, plan in plans.items() if name not in gone}
