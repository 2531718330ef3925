"""Statistics out of a history: which runs count, and what skips of them saved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import Struct, structs

from packer_fork.manager.build import results
from packer_fork.manager.reports import statistics
from packer_fork.manager.reports.collector import Window
from packer_fork.model import (
    Artifact,
    Build,
    BuildStatus,
    PendingChange,
    Run,
    RunStatus,
    Skip,
    Step,
    StepStatus,
)
from packer_fork.statistics import Figures
from tests.support.hammer import BY
from tests.support.local_states import lock_of, open_store

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Told(Struct, frozen=True):
    """A run that builds ``built`` in so many seconds each, negative ones if they fail."""

    built: dict[str, float]
    left: tuple[str, ...] = ()
    inputs: str = "i"
    is_over: bool = True


class Past:
    """A history in the making: a run an hour."""

    def __init__(self, folder: Path) -> None:
        self._store = open_store(folder)
        self._builds: dict[str, Build] = {}
        self._number = 0

    def token(self, *runs: Told, waited: float = 0.0) -> None:
        with lock_of(self._store) as lock:
            for told in runs:
                begun = self._begun(told, lock.record.token, waited)
                lock.commit(PendingChange(operation="start", last_run=begun))
                if told.is_over:
                    builds = {n: self._build(n, s, begun) for n, s in told.built.items()}
                    lock.commit(
                        PendingChange(operation="finish", last_run=_over(begun), builds=builds)
                    )
                    self._builds |= builds

    def nothing_to_do(self, *builds: str, inputs: str = "i", waited: float = 0.0) -> None:
        """That was found by a build after all runs so far."""
        skip = Skip(after=self._number, inputs=inputs, builds=builds, waited=waited)
        with lock_of(self._store) as lock:
            lock.commit(PendingChange(operation="skip", skip=skip))

    def revoke(self, name: str) -> None:
        build = self._builds[name]
        revoked = structs.replace(build, revoked={str(build.run): "a hole"})
        with lock_of(self._store) as lock:
            lock.commit(PendingChange(operation="revoke", builds={name: revoked}))

    def __call__(self, *, last: int = 0, since: float | None = None) -> Figures:
        moment = None if since is None else BEGIN + timedelta(hours=since)
        return statistics.figures(self._store, Window(last=last, since=moment))

    def _begun(self, told: Told, token: int, waited: float) -> Run:
        self._number += 1
        return Run(
            number=self._number,
            token=token,
            started=BEGIN + timedelta(hours=self._number),
            by=BY,
            inputs=told.inputs,
            builds=tuple(told.built),
            up_to_date=told.left,
            waited=waited,
        )

    def _build(self, name: str, seconds: float, run: Run) -> Build:
        before, failed = self._builds.get(name), seconds < 0
        ended = run.started + timedelta(seconds=abs(seconds))
        status = StepStatus.FAILED if failed else StepStatus.COMPLETE
        return Build(
            name=name,
            status=BuildStatus.FAILED if failed else BuildStatus.COMPLETE,
            run=run.number,
            inputs=run.inputs,
            started=run.started,
            ended=ended,
            provisioners=(Step(type="shell", status=status, started=run.started, ended=ended),),
            artifacts=(Artifact(id=f"{name}-{run.number}"),),
            results=results.complete(before) if before else (),
        )


def _over(run: Run) -> Run:
    ended = run.started + timedelta(minutes=1)
    return structs.replace(run, status=RunStatus.COMPLETE, ended=ended)


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path / "t.pkr.hcl" / "default")


def numbers(found: Figures) -> list[int]:
    return [each.run for each in found.runs]


def test_nothing_is_counted_where_nothing_is(past: Past) -> None:
    found = past()
    assert (found.runs, found.sources, found.ends, found.success) == ((), (), {}, None)
    assert (found.built, found.saved, found.locks, found.waits) == (0, 0, 0, None)


def test_all_is_counted(past: Past) -> None:
    past.token(Told({"b": 10.0, "a": 4.0}))
    past.token(Told({"b": -3.0}, left=("a",)), Told({"b": 20.0}, left=("a",)), waited=7.0)
    past.token(Told({"b": 1.0}, is_over=False), waited=0.5)
    found = past()
    assert numbers(found) == [1, 2, 3], "what goes on has not ended"
    assert not found.earlier
    assert [each.waited for each in found.runs] == [0, 7, 0], "a lock is waited for once"
    assert found.locks == 3
    assert found.waits is not None
    assert (found.waits.count, found.waits.total) == (2, 7.5)
    assert (found.ends, found.success, found.built) == ({"complete": 3}, 1, 37)
    b, a = found.sources
    assert (b.name, a.name) == ("b", "a"), "as the state has them"
    assert (b.ends, b.success) == ({"complete": 2, "failed": 1}, 2 / 3)
    assert [(each.run, each.status, each.seconds) for each in b.builds] == [
        *((1, "complete", 10), (2, "failed", 3), (3, "complete", 20))
    ]
    assert b.took is not None
    assert (b.took.median, b.took.longest) == (15, 20), "of complete builds"
    (step,) = b.steps
    assert (step.kind, step.place, step.type, step.failed) == ("provisioner", 1, "shell", 1)
    assert step.took is not None
    assert step.took.total == 30
    assert (a.skips, a.saved, b.skips) == (1, 4, 0), "two runs of one lock skip once"
    assert (found.skips, found.saved) == (1, 4)


def every_other_is_skipped(past: Past, count: int) -> None:
    """Source a takes as many seconds as is the number of its run; b fails, and so is run again."""
    for number in range(1, 2 * count, 2):
        inputs = f"i{number}"
        past.token(Told({"a": float(number), "b": -1.0}, inputs=inputs))
        past.token(Told({"b": -1.0}, left=("a",), inputs=inputs))


WINDOWS: list[tuple[Callable[[Past], Figures], list[int], list[int]]] = [
    (lambda past: past(last=3), [4, 5, 6], [3, 5]),
    (lambda past: past(last=4), [3, 4, 5, 6], [3, 5]),
    (lambda past: past(last=6), [1, 2, 3, 4, 5, 6], [1, 3, 5]),
    (lambda past: past(since=4), [4, 5, 6], [3, 5]),
    (lambda past: past(since=4.5, last=9), [5, 6], [5]),
    (lambda past: past(since=0, last=1), [6], [5]),
    (lambda past: past(since=9), [], []),
]


@pytest.mark.parametrize(("ask", "expected", "saved"), WINDOWS)
def test_only_runs_of_the_window_count(
    past: Past, ask: Callable[[Past], Figures], expected: list[int], saved: list[int]
) -> None:
    """A skip is worth what its build took, also where that was before the window."""
    every_other_is_skipped(past, 3)
    found = ask(past)
    assert numbers(found) == expected
    assert found.earlier == (len(expected) < 6)
    assert (found.skips, found.saved) == (len(saved), sum(saved))
    assert found.locks == len(expected)
    assert sum(len(each.builds) for each in found.sources) == sum(1 + n % 2 for n in expected)


def test_a_skip_is_worth_what_the_state_has_forgotten(past: Past) -> None:
    """Builds remember so many results; the window has more, and those from before it."""
    count = results.KEPT + 5
    every_other_is_skipped(past, count)
    found = past(last=2 * count - 1)
    assert found.saved == sum(range(1, 2 * count, 2))


def test_a_lock_that_is_not_all_within_tells_no_skip(past: Past) -> None:
    """Which source its runs left out together is not known from some of them."""
    past.token(Told({"a": 5.0}, left=("b",)), Told({"b": 6.0}, left=("a",)), waited=3.0)
    found = past(last=1)
    assert (numbers(found), found.skips, found.locks, found.earlier) == ([2], 0, 0, True)
    assert found.waits is None
    assert past().skips == 0


def test_a_build_with_nothing_to_do_skips_all_and_is_no_run(past: Past) -> None:
    past.token(Told({"a": 5.0, "b": 6.0}))
    past.nothing_to_do("a", "b", waited=2.0)
    past.token(Told({"a": 50.0}, left=("b",)))
    past.nothing_to_do("a", "b")
    past.nothing_to_do("c")
    found = past()
    assert (numbers(found), found.ends, found.locks) == ([1, 2], {"complete": 2}, 5)
    assert found.waits is not None
    assert (found.waits.count, found.waits.total) == (1, 2)
    assert [(each.name, each.skips, each.saved) for each in found.sources] == [
        ("a", 2, 55),
        ("b", 3, 18),
    ]


@pytest.mark.parametrize(
    ("ask", "saved"),
    [
        (lambda past: past(last=1), [50]),
        (lambda past: past(last=2), [5, 50]),
        (lambda past: past(since=2), [5, 50]),
        (lambda past: past(since=1e6), []),
    ],
)
def test_it_counts_if_the_run_before_it_does_or_it_is_recent(
    past: Past, ask: Callable[[Past], Figures], saved: list[int]
) -> None:
    past.token(Told({"a": 5.0}))
    past.nothing_to_do("a")
    past.token(Told({"a": 50.0}))
    past.nothing_to_do("a")
    found = ask(past)
    assert (found.skips, found.saved) == (len(saved), sum(saved))


def test_artifacts_are_of_the_newest_complete_run(past: Past) -> None:
    past.token(Told({"a": 5.0, "b": 6.0}))
    past.token(Told({"a": 5.0, "b": -6.0}))
    past.revoke("a")
    a, b = past(last=1).artifacts
    assert (a.build, a.run, a.artifacts, a.revoked) == ("a", 2, ("a-2",), "a hole")
    assert (b.build, b.run, b.artifacts, b.revoked) == ("b", 1, ("b-1",), None)
