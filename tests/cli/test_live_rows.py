"""What the live view makes of events, line by line, without a terminal."""

import os
import pty
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len

from packer_fork import events
from packer_fork.events import Action, BuildPlan
from packer_fork.locks import LockStatus, Status
from packer_fork.model import (
    Actor,
    Build,
    BuildStatus,
    Evidence,
    Result,
    Run,
    RunStatus,
    Step,
    StepStatus,
    WorkItem,
)
from packer_fork.views.live.board import KEPT_LINES, Board, apply
from packer_fork.views.live.region import Size, left, phase, region
from packer_fork.views.live.screen import wrapped
from packer_fork.views.live.summary import summary
from packer_fork.views.live.view import Log, live_view
from packer_fork.views.output import lines_of
from packer_fork.views.plain import PlainView
from packer_fork.views.verbosity import Verbosity, is_shown
from packer_fork.views.words import clock

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
BY = Actor(user="ana", host="laptop", pid=1)
HOSTILE = "a\x1b[2Jb\x1b]0;title\x07\x9b31m[bold]c\u202ed"


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def started(*names: str, number: int = 1, usual: dict[str, float] | None = None) -> events.Event:
    run = Run(number=number, token=1, started=START, by=BY, builds=names)
    return events.RunStarted(run=run, template="t.pkr.hcl", workspace="default", usual=usual or {})


def at_work(name: str, place: int = 3, count: int = 5) -> Build:
    begun = [
        Step(type="shell", name=f"step {n}", status=StepStatus.COMPLETE, started=START)
        for n in range(1, place)
    ]
    now = Step(type="shell", name=f"step {place}", status=StepStatus.RUNNING, started=START)
    steps = (*begun, now, *[Step(type="shell")] * (count - place))
    return Build(name=name, status=BuildStatus.PROVISIONING, started=START, provisioners=steps)


def over(name: str, status: BuildStatus, error: str = "") -> Build:
    return Build(name=name, status=status, started=START, ended=later(30), error=error)


def changed(build: Build) -> events.Event:
    return events.BuildChanged(build=build)


def said(name: str, text: str) -> events.Event:
    return events.Output(at=START, kind="message", text=f"    {name}: {text}", build=name)


def ended(*builds: Build, number: int = 1, status: RunStatus = RunStatus.COMPLETE) -> events.Event:
    run = Run(
        number=number, token=1, started=START, by=BY, ended=later(60), status=status, exit_code=0
    )
    return events.RunEnded(run=run, builds=builds, exit_code=0)


def item(*names: str, number: int, attempt: int = 1) -> WorkItem:
    return WorkItem(
        run=1, number=number, token=1, started=START, by=BY, sources=names, attempt=attempt
    )


def begun_item(*names: str, number: int, attempt: int = 1) -> events.Event:
    return events.ItemStarted(item=item(*names, number=number, attempt=attempt))


def ended_item(*builds: Build, number: int) -> events.Event:
    names = (build.name for build in builds)
    log = f"/logs/1-{number}.log"
    return events.ItemEnded(item=item(*names, number=number), builds=builds, log=log)


def board(*news: events.Event) -> Board:
    found = Board()
    for event in news:
        found = apply(found, event, START)
    return found


def drawn(found: Board, width: int = 100, height: int = 24, seconds: float = 60) -> list[str]:
    return [line.plain for line in region(found, Size(width, height), later(seconds))]


def shown(found: Board, width: int = 100) -> list[str]:
    return [line.plain for line in summary(found, ["t.pkr.hcl", "--state", "my dir"], width)]


def test_a_row_tells_phase_step_time_progress_and_last_words() -> None:
    found = board(started("a", usual={"a": 120.0}), changed(at_work("a")), said("a", "now this"))
    (only,) = drawn(found)[1:]
    assert only == "● a  provisioning 3/5 step 3  1:00  ━━━━━╌╌╌╌╌  ~1:00 left  now this"
    (only,) = drawn(found, seconds=150)[1:]
    assert "2:30  ━━━━━━━━━━  0:30 over" in only


def test_a_step_that_is_not_known_is_not_guessed() -> None:
    steps = tuple(Step(type="shell", status=StepStatus.UNKNOWN, started=START) for _ in range(2))
    steps = (*steps, Step(type="ansible"))
    build = Build(name="a", status=BuildStatus.PROVISIONING, started=START, provisioners=steps)
    assert phase(board(started("a"), changed(build)).rows["a"]) == "provisioning ?/3"


def test_without_runs_before_there_is_no_time_left_and_no_bar() -> None:
    found = board(started("a", "b"), changed(at_work("a")))
    assert left(found.rows["a"], later(5)) == ""
    assert "━" not in "".join(drawn(found))


def test_what_ascii_cannot_show_has_other_signs() -> None:
    found = board(started("a", "b", usual={"a": 90.0}), changed(at_work("a")))
    lines = [line.plain for line in region(found, Size(100, 24, ascii_only=True), later(60))]
    assert "\n".join(lines).isascii()
    assert "######...." in lines[1]


def test_below_eighty_columns_the_last_words_stand_below() -> None:
    found = board(started("a" * 20), changed(at_work("a" * 20)), said("a" * 20, "now this"))
    assert drawn(found, width=60)[-1] == "    now this"


@pytest.mark.parametrize("width", [1, 2, 7, 20, 33, 79, 80, 81, 200])
@pytest.mark.parametrize("height", [1, 5, 24])
def test_no_line_is_as_wide_as_the_screen_and_no_region_as_high(width: int, height: int) -> None:
    names = [f"null.机器{n}" for n in range(40)]
    usual = dict.fromkeys(names, 4000.0)
    found = board(
        started(*names, usual=usual),
        *(changed(at_work(name)) for name in names[:20]),
        *(said(name, "宽" * 300) for name in names[:30]),
        *(changed(over(name, BuildStatus.FAILED, "很 长")) for name in names[20:30]),
        events.Cancelling(signal="SIGINT", signals=1, kill_in=900),
    )
    lines = drawn(found, width, height)
    assert len(lines) <= max(3, height - 3), "20 run, and three lines are the log's"
    assert all(cell_len(line) <= max(1, width - 1) and "\n" not in line for line in lines)


def test_what_does_not_fit_is_counted_and_what_matters_is_shown() -> None:
    names = [f"n{number:02}" for number in range(40)]
    found = board(
        started(*names),
        *(changed(over(name, BuildStatus.COMPLETE)) for name in names[:20]),
        changed(over("n38", BuildStatus.FAILED)),
        changed(at_work("n39")),
    )
    head, *rows, rest = drawn(found)
    assert "1 provisioning, 1 failed, 18 waiting, 20 complete" in head
    assert [row[:5] for row in rows[-2:]] == ["✗ n38", "● n39"]
    assert rest == "  and 26 more: 6 waiting, 20 complete"


def test_a_failure_unfolds_and_others_get_a_line_before_it_gets_more() -> None:
    names = ["a", "b"]
    found = board(
        started(*names),
        *(said(name, f"line {n}") for name in names for n in range(9)),
        *(changed(over(name, BuildStatus.FAILED)) for name in names),
    )
    high, low = drawn(found, height=60), drawn(found, height=9)
    assert high[2:7] == [f"    line {n}" for n in range(4, 9)]
    assert [line for line in low if line.startswith("    ")] == [
        "    line 7",
        "    line 8",
        "    line 8",
    ]


def test_what_a_failure_shows_takes_the_place_of_what_is_done() -> None:
    names = [f"n{number:02}" for number in range(40)]
    found = board(
        started(*names),
        *(said("n39", f"line {n}") for n in range(9)),
        *(changed(over(name, BuildStatus.COMPLETE)) for name in names[:39]),
        changed(over("n39", BuildStatus.FAILED)),
    )
    lines = drawn(found)
    assert len(lines) == 16
    assert lines[-7:-1] == [lines[-7], *(f"    line {n}" for n in range(4, 9))]
    assert lines[-7].startswith("✗ n39")
    assert lines[-1] == "  and 31 more: 31 complete"


def test_every_running_source_keeps_its_line_on_a_small_screen() -> None:
    running, failed = ([f"{kind}{n:02}" for n in range(9)] for kind in ("run", "bad"))
    found = board(
        started(*failed, *running),
        *(said(name, f"line {n}") for name in failed for n in range(9)),
        *(changed(over(name, BuildStatus.FAILED)) for name in failed),
        *(changed(at_work(name)) for name in running),
    )
    lines = drawn(found)
    assert len(lines) == 16
    assert [line[2:7] for line in lines if line.startswith("●")] == running
    many = board(started(*running, *failed), *(changed(at_work(n)) for n in (*running, *failed)))
    assert sum(line.startswith("●") for line in drawn(many)) == 18


def test_waiting_for_the_lock_counts_down() -> None:
    status = LockStatus(status=Status.HELD, id="x")
    waiting = events.Waiting(status=status, seconds_left=600, place=2, phase="building", eta=100)
    found = board(waiting)
    assert drawn(found, seconds=0) == [
        "waiting for the lock: gives up in 10:00, about 1:40 to go, 2 before us",
        "held by a holder whose record cannot be read (lock x), building",
    ]
    assert drawn(found, seconds=70)[0].startswith(
        "waiting for the lock: gives up in 8:50, about 0:30"
    )
    assert apply(found, events.LockTaken(token=1, lock_id="x", waited=1), START).wait is None


def test_finished_is_no_proof_of_complete() -> None:
    build = Build(
        name="a", status=BuildStatus.CREATING, started=START, evidence=Evidence(finished=True)
    )
    found = board(started("a"), changed(build))
    assert phase(found.rows["a"]) == "finished"
    assert shown(board(started("a"), ended(over("a", BuildStatus.UNVERIFIED))))[1].startswith(
        "  unverified"
    )


def test_while_packer_cleans_up_the_last_line_says_for_how_long() -> None:
    one = events.Cancelling(signal="SIGINT", signals=1, kill_in=900)
    found = board(started("a"), one)
    assert drawn(found)[-1] == "Packer cleans up, for 14:00 at most. Ctrl-C twice more kills it."
    two = events.Cancelling(signal="SIGINT", signals=2, kill_in=840)
    assert drawn(apply(found, two, later(60)))[-1].endswith("Ctrl-C once more kills it.")
    three = events.Cancelling(signal="SIGINT", signals=3, kill_in=0)
    assert drawn(apply(found, three, later(60)))[-1] == "Killing Packer."


def test_a_retry_begins_its_rows_anew() -> None:
    failed = over("a", BuildStatus.FAILED)
    found = board(
        started("a", "b"),
        begun_item("a", "b", number=1),
        said("a", "old"),
        changed(failed),
        changed(over("b", BuildStatus.COMPLETE)),
        ended_item(failed, over("b", BuildStatus.COMPLETE), number=1),
        begun_item("a", number=2, attempt=2),
    )
    assert drawn(found)[0].startswith("t.pkr.hcl  run 1  1 waiting, 1 complete")
    assert found.rows["a"].lines == ()
    made = over("a", BuildStatus.COMPLETE)
    again = apply(found, ended_item(made, number=2), later(90))
    again = apply(again, ended(made, over("b", BuildStatus.COMPLETE)), later(90))
    assert shown(again)[0] == "packer-fork: t.pkr.hcl: run 1 complete after 1 min"
    assert "  log         /logs/1-1.log" in shown(again)
    assert "              /logs/1-2.log" in shown(again)


def test_what_failed_comes_last() -> None:
    builds = (over("a", BuildStatus.FAILED, "no"), over("b", BuildStatus.COMPLETE))
    found = board(
        started("a", "b"),
        begun_item("a", number=1),
        begun_item("b", number=2),
        *(ended_item(build, number=number) for number, build in enumerate(builds, 1)),
        ended(*builds, status=RunStatus.FAILED),
    )
    lines = shown(found)
    assert "run 1 failed after" in lines[0]
    assert [line.split()[:2] for line in lines[1:3]] == [["built", "b"], ["failed", "a"]]
    assert "next        the same command again: it builds only what is not complete" in lines[-2]


def test_after_a_rebuild_that_failed_the_rest_needs_no_rebuild() -> None:
    plans = tuple(
        BuildPlan(name=name, action=Action.BUILD, reasons=("--rebuild", "never built"))
        for name in "ab"
    )
    planned = events.Planned(template="t.pkr.hcl", workspace="default", builds=plans)
    last = ended(over("a", BuildStatus.FAILED, "no"), status=RunStatus.FAILED)
    assert "the same command without --rebuild: it" in shown(board(planned, started("a"), last))[-2]


def test_a_source_that_another_machine_builds_says_so() -> None:
    build = Build(name="a", status=BuildStatus.CREATING, started=START, by=BY)
    head, only = drawn(board(events.Elsewhere(run=4, build=build)))
    assert "run 4  1 creating  1:00" in head
    assert only.endswith("by ana@laptop")


def test_the_summary_tells_what_was_built_and_what_was_not() -> None:
    plans = tuple(
        BuildPlan(
            name=f"old{n:02}",
            action=Action.UP_TO_DATE,
            reasons=("run 1",),
            result=Result(run=1),
        )
        for n in range(12)
    )
    planned = events.Planned(template="t.pkr.hcl", workspace="blue", builds=plans)
    run = events.RunStarted(
        run=Run(number=2, token=1, started=START, by=BY, builds=("new", "never")),
        template="t.pkr.hcl",
        workspace="blue",
    )
    new = over("new", BuildStatus.COMPLETE)
    never = Build(name="never", status=BuildStatus.CANCELLED)
    lines = shown(board(planned, run, ended(new, never, status=RunStatus.CANCELLED, number=2)))
    assert lines[0] == "packer-fork: t.pkr.hcl in workspace blue: run 2 cancelled after 1 min"
    assert lines[1].split() == ["built", "new", "30", "s"]
    assert sum(line.startswith("  up to date") for line in lines) == 11
    assert "  up to date  and 2 more" in lines
    assert "  cancelled   never" in lines
    assert "packer-fork state show t.pkr.hcl --state 'my dir'" in lines[-1]


def test_a_run_without_builds_that_failed_is_not_called_done() -> None:
    lines = shown(board(started(), ended(status=RunStatus.FAILED)))
    assert "the same command again" in lines[-2]
    assert shown(board()) == []


def test_lines_of_output_lose_what_packer_puts_before_them() -> None:
    text = "==> a.b: one\n    a.b: two\t2\n\n2026-03-02T10:00:00Z:     a.b (shell-local): three"
    assert list(lines_of("a.b", text)) == ["one", "two 2", "three"]
    assert list(lines_of("a.b", "Build 'a.b' errored after 1 second: no")) == []


def test_nothing_hostile_reaches_the_screen() -> None:
    found = board(
        started(HOSTILE),
        changed(at_work(HOSTILE)),
        said(HOSTILE, HOSTILE),
        changed(over(HOSTILE, BuildStatus.FAILED, HOSTILE)),
    )
    log = Log()
    log.say(HOSTILE)
    log.tell(f"{HOSTILE}\n{HOSTILE}")
    after = apply(found, ended(over(HOSTILE, BuildStatus.FAILED, HOSTILE)), START)
    lines = [*drawn(found), *shown(after), *(text.plain for text in log.take())]
    everything = "\n".join(lines)
    assert "[bold]" in everything
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(everything)


def test_only_the_newest_lines_are_remembered() -> None:
    found = board(started("a"), *(said("a", f"line {n}") for n in range(100)))
    assert found.rows["a"].lines == tuple(f"line {n}" for n in range(100 - KEPT_LINES, 100))


def test_a_log_that_nobody_takes_has_a_bound() -> None:
    log = Log()
    for number in range(12_000):
        log.say(f"line {number}")
    taken = log.take()
    assert taken[0].plain == "[2000 texts left out: the terminal stood still]"
    assert len(taken) == 10_001
    assert log.take() == []


def test_how_a_terminal_wraps() -> None:
    assert wrapped("", 5) == [""]
    assert wrapped("abcdefg", 3) == ["abc", "def", "g"]
    assert wrapped("a宽宽", 4) == ["a宽", "宽"]
    assert wrapped("宽宽", 3) == ["宽", "宽"]


def test_clocks() -> None:
    assert [clock(n) for n in (-1, 0.9, 61, 3723)] == ["0:00", "0:00", "1:01", "1:02:03"]


TOLD = [
    (events.Notice(level="info", text=""), (False, True, True)),
    (events.Notice(level="warning", text=""), (True, True, True)),
    (events.Output(at=START, kind="error", text="==> a: no"), (True, True, True)),
    (events.Output(at=START, kind="stderr", text=""), (True, True, True)),
    (events.Output(at=START, kind="say", text="Build 'a' finished"), (False, True, True)),
    (events.Output(at=START, kind="say", text="\n==> Builds finished."), (False, True, True)),
    (events.Output(at=START, kind="say", text="--> a: an artifact"), (False, True, True)),
    (events.Output(at=START, kind="say", text="==> a: step"), (False, False, True)),
    (events.Output(at=START, kind="message", text="    a: Build 'a'"), (False, False, True)),
    (events.Planned(template="t", workspace="default", builds=()), (False, True, True)),
    (events.Cancelling(signal="SIGINT", signals=1, kill_in=1), (True, True, True)),
    (ended(), (True, True, True)),
]


@pytest.mark.parametrize(("event", "expected"), TOLD)
def test_verbosity_selects_events(event: events.Event, expected: tuple[bool, ...]) -> None:
    assert tuple(is_shown(verbosity, event) for verbosity in Verbosity) == expected


def test_a_fault_of_the_view_ends_in_plain_lines() -> None:
    """An event that is none breaks it; all that comes, and came, is told plainly."""
    controller, terminal = pty.openpty()
    seen: list[events.Event] = []
    wrong = events.BuildChanged(build=None)  # type: ignore[arg-type]
    with (
        open(terminal, "w", encoding="utf-8") as stream,  # noqa: PTH123 (a descriptor)
        live_view(stream, seen.append, Verbosity.IMPORTANT, ["t"], color=True) as view,
    ):
        view(started("a"))
        view(ended(over("a", BuildStatus.COMPLETE)))
        view(wrong)
        view(started("b"))
    os.close(controller)
    notice, earlier, broken, after = seen
    assert isinstance(notice, events.Notice)
    assert "The live view has failed" in notice.text
    assert isinstance(earlier, events.RunEnded)
    assert broken is wrong
    assert isinstance(after, events.RunStarted)


def test_a_terminal_that_goes_away_ends_nothing() -> None:
    controller, terminal = pty.openpty()
    with (
        open(terminal, "w", encoding="utf-8") as stream,  # noqa: PTH123 (a descriptor)
        live_view(stream, lambda _: None, Verbosity.ALL, ["t"], color=True) as view,
    ):
        view(started("a"))
        os.close(controller)
        for number in range(50):
            view(said("a", f"line {number}"))
        view(ended(over("a", BuildStatus.COMPLETE)))


def test_progress_of_hashing_is_one_line_until_there_is_a_plan() -> None:
    hashing = events.Hashing(done=1_200_000_000, total=5_000_000_000, seconds=4)
    assert drawn(board(hashing)) == ["hashing inputs: 1.2 GB of 5 GB"]
    planned = events.Planned(template="t.pkr.hcl", workspace="default", builds=())
    assert board(hashing, planned).hashing is None


def test_plain_lines_tell_of_hashing_after_three_seconds_and_seldom() -> None:
    log = Log()
    view = PlainView(log)
    for second in range(1, 20):
        view(events.Hashing(done=second * 10**9, total=20 * 10**9, seconds=second))
    told = [line.plain for line in log.take()]
    assert told == [f"packer-fork: hashing inputs: {each} GB of 20 GB" for each in (3, 6, 12)]
