"""The runs of one build: what is not up to date, again if it failed and is to be retried."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from packer_fork import config, host
from packer_fork.errors import EXIT_DONE, EXIT_PACKER_FAILED, CancelledError
from packer_fork.events import Action, Notice, Notify
from packer_fork.locks import Wait
from packer_fork.manager import evaluation, layers, locate, places, planning, upkeep
from packer_fork.manager.build.supervisor import is_interactive
from packer_fork.manager.job import Ended, Job
from packer_fork.manager.observing import Observers
from packer_fork.manager.plan import Plan
from packer_fork.manager.prepare import BuildRequest, Prepared, only
from packer_fork.manager.run import run
from packer_fork.packer.signals import SignalWatch
from packer_fork.stores.base import Tenure

_TICK = 0.05
T = TypeVar("T")

_LONGEST_PAUSE = 300.0
"""Seconds between two attempts at the most."""


class Executor:
    """What to build, as often as it is worth it."""

    def __init__(
        self,
        request: BuildRequest,
        place: places.Place,
        prepared: Prepared,
        tenure: Tenure,
        wait: Wait,
        plan: Plan,
        notify: Notify,
    ) -> None:
        self._request = request
        self._place = place
        self._prepared = prepared
        self._tenure = tenure
        self._wait = wait
        self._plan = plan
        self._notify = notify
        self._observers = Observers(notify)
        self._git = host.git_of(Path.cwd())

    def go(self, names: tuple[str, ...] | None) -> int:
        try:
            return self._in_stages(names)
        finally:
            upkeep.after_run(self._place, self._tenure, self._notify)

    def _in_stages(self, names: tuple[str, ...] | None) -> int:
        """Artifacts that others read come first: what reads them is planned when they are there."""
        code, failed = EXIT_DONE, set[str]()
        stages = self._stages(names)
        for number, stage in enumerate(stages):
            left = self._without_followers(stage, failed) if stage else stage
            if left == ():
                continue
            if number:
                self._plan_again()
            ended = self._run_and_retry(left)
            code = code or ended.exit_code
            if ended.exit_code != EXIT_DONE:
                failed |= set(ended.failed)
            goes_on = ended.exit_code in (EXIT_DONE, EXIT_PACKER_FAILED) and not ended.cancelled
            if not goes_on or (failed and self._place.settings.fail_fast):
                self._tell_of_left(stages[number + 1 :])
                break
        return code

    def _tell_of_left(self, stages: Sequence[tuple[str, ...] | None]) -> None:
        if names := [name for stage in stages for name in stage or ()]:
            text = f"Not built, as the run before did not complete: {', '.join(names)}."
            self._notify(Notice(level="warning", text=text))

    def _stages(self, names: tuple[str, ...] | None) -> Sequence[tuple[str, ...] | None]:
        """One Packer after the other, as far as each can be told what to build."""
        stages = layers.stages(self._plan.builds, names) if names else []
        flags = self._request.flags
        can = all(only(self._prepared, flags, stage) is not None for stage in stages)
        return stages if can and len(stages) > 1 else [names]

    def _without_followers(self, stage: tuple[str, ...], failed: set[str]) -> tuple[str, ...]:
        """`stage` without what reads an artifact of a build that failed; that is added to these."""
        after = {build.name: build.after for build in self._plan.builds}
        for name in stage:
            if makers := [each for each in after[name] if each in failed]:
                failed.add(name)
                text = f"{name} is not built: it reads the artifact of {makers[0]}, which failed."
                self._notify(Notice(level="warning", text=text))
        return tuple(name for name in stage if name not in failed)

    def _plan_again(self) -> None:
        template, flags = locate.template(self._request.template), self._request.flags
        place, environ, state = self._place, self._request.environ, self._place.store.read()
        prepared = evaluation.prepared(template, flags, place, environ, state, self._notify)
        self._prepared = structs.replace(prepared, sensitive=self._prepared.sensitive)
        self._plan = planning.make(
            template, flags, self._prepared, place, environ, state, self._notify
        )
        self._plan.remember()

    def _run_and_retry(self, names: tuple[str, ...] | None) -> Ended:
        ended = self._run(names)
        for attempt in range(1, self._place.settings.retries + 1):
            if ended.exit_code == EXIT_DONE or ended.cancelled or not ended.failed:
                break
            self._pause(attempt, ended.failed)
            ended = self._run(ended.failed)
        return ended

    def _run(self, names: tuple[str, ...] | None) -> Ended:
        """One Packer for all of `names`, or with ``isolate`` one for each."""
        alone = self._place.settings.isolate and names
        jobs = [(name,) for name in names] if alone and names else [names]
        reasons: set[str] = set()
        with SignalWatch() as watch:
            runs = [run(self._job(each, reasons), watch, self._notify) for each in jobs]
            most = self._request.flags.parallel_builds or len(runs)
            most = 1 if is_interactive(self._request.flags) else most
            ended = list(side_by_side(runs, watch, most))
            return _together(ended, watch)

    def _job(self, names: tuple[str, ...] | None, reasons: set[str]) -> Job:
        known = tuple(build.name for build in self._plan.builds)
        fine = self._plan.names(Action.UP_TO_DATE)
        some = names is not None and names != known
        flags = only(self._prepared, self._request.flags, names) if some and names else None
        return Job(
            template=self._request.template,
            flags=flags or self._request.flags,
            command=self._request.on_record,
            environ=self._request.environ,
            place=self._place,
            prepared=self._prepared,
            tenure=self._tenure,
            wait=self._wait,
            plan=self._plan,
            names=names if flags else None,
            up_to_date=tuple(name for name in fine if names and name not in names),
            reasons=reasons,
            observers=self._observers,
            git=self._git,
            fail_fast=self._place.settings.fail_fast,
        )

    def _pause(self, attempt: int, failed: tuple[str, ...]) -> None:
        time.sleep(pause_before(attempt, failed, self._place.settings, self._notify))


def pause_before(
    attempt: int, failed: tuple[str, ...], settings: config.Settings, notify: Notify
) -> float:
    """Seconds of a back-off with jitter, told: whatever failed may be a neighbour's load."""
    longest = min(_LONGEST_PAUSE, settings.retry_pause * 2 ** (attempt - 1))
    seconds = random.uniform(longest / 2, longest)  # noqa: S311 (spreads load, no secret)
    text = f"Attempt {attempt} of {settings.retries} to build again: {', '.join(failed)}"
    notify(Notice(level="info", text=f"{text}; in {seconds:.0f} s."))
    return seconds


def _together(ended: Sequence[Ended], watch: SignalWatch) -> Ended:
    """The worst of several; none at all if a signal came before the first."""
    if watch.signals and not ended:
        raise CancelledError(watch.signals[0])
    code = next((each.exit_code for each in ended if each.exit_code != EXIT_DONE), EXIT_DONE)
    failed = tuple(name for each in ended for name in each.failed)
    return Ended(code, failed, cancelled=bool(watch.signals))


def side_by_side(
    waiting: Iterable[Generator[None, None, T]], watch: SignalWatch, most: int
) -> Iterator[T]:
    """Run at most `most` at a time; what each came to, as they end. A signal starts no more."""
    queue, under_way = deque(waiting), list[Generator[None, None, T]]()
    while queue or under_way:
        while queue and len(under_way) < most and not watch.signals:
            under_way.append(queue.popleft())
        for life in tuple(under_way):
            try:
                next(life)
            except StopIteration as end:
                under_way.remove(life)
                yield end.value
        if not under_way and watch.signals:
            return
        if under_way:
            watch.wait(_TICK)
