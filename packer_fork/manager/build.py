"""One build: under the lock, what is not up to date, again if it failed and is to be retried."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from packer_fork import config, host
from packer_fork.errors import EXIT_DONE, EXIT_PACKER_FAILED, CancelledError, StoreError
from packer_fork.events import Action, MachineLine, Notice, Notify
from packer_fork.locks import Holder, Wait
from packer_fork.manager import (
    acceptance,
    acquire,
    layers,
    leftovers,
    locate,
    places,
    planning,
    recover,
    skipping,
    unread,
    upkeep,
)
from packer_fork.manager.changing import made_sure_of
from packer_fork.manager.follow import side_by_side
from packer_fork.manager.job import Ended, Job
from packer_fork.manager.observing import Observers
from packer_fork.manager.plan import Plan
from packer_fork.manager.prepare import Prepared, only, prepare, with_secrets
from packer_fork.manager.run import run, sweep
from packer_fork.packer import lines, outline
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.signals import SignalWatch
from packer_fork.stores.base import TAKE_OVER, Tenure

_LONGEST_PAUSE = 300.0
"""Seconds between two attempts at the most."""


class BuildRequest(Struct, frozen=True, kw_only=True):
    """What the user asked for. ``settings`` are the flags that set one, None if not given."""

    template: str
    flags: PackerFlags
    settings: Mapping[str, Any]
    environ: Mapping[str, str]
    rebuild: bool = False


def build(request: BuildRequest, notify: Notify) -> int:
    """Build; returns the exit code. Raises PackerForkError where nothing was started."""
    template = locate.template(request.template)
    place = places.of_template(template, request.settings, request.environ, notify)
    request = structs.replace(request, environ=config.without_secrets(request.environ))
    prepared = prepare(template, request.flags, place.settings, request.environ)
    foreseen = foresee(request, template, prepared, place, notify)
    prepared = with_secrets(prepared, request.flags, request.environ)
    warn(request, place, prepared, notify)
    tenure, wait = _lock(request, place, notify)
    try:
        unread.catch_up(place, tenure, notify)
        recover.recover(place.store, tenure, notify, reason="found by the next build")
        if wait.seconds:
            prepared = prepare(template, request.flags, place.settings, request.environ)
            prepared = with_secrets(prepared, request.flags, request.environ)
        state = made_sure_of(place, tenure)
        sweep(place, notify)
        leftovers.warn(state, notify)
        is_current = foreseen.is_current(state, wait)
        plan = foreseen.plan if is_current else None
        if plan is None:
            plan = planning.make(
                template, request.flags, prepared, place, request.environ, state, notify
            )
        shown = everything(plan) if request.rebuild else plan
        names, note = planning.chosen(shown, prepared, request.flags)
        if not is_current:
            require(request, template, prepared, names)
        notify(planning.planned(place, shown, note))
        repeat_artifacts(shown, notify)
        if names == ():
            skipping.record(place, tenure, wait, shown, state, notify)
            return EXIT_DONE
        return _Building(request, place, prepared, tenure, wait, plan, notify).go(names)
    finally:
        with contextlib.suppress(StoreError):
            tenure.close()


def foresee(
    request: BuildRequest,
    template: locate.Template,
    prepared: Prepared,
    place: places.Place,
    notify: Notify,
) -> planning.Foresight:
    """Raises TemplateError if Packer refuses all that is to be built; warns if part of it."""
    foreseen = planning.foresee(
        template,
        request.flags,
        prepared,
        place,
        request.environ,
        place.store.read(),
        notify,
        rebuild=request.rebuild,
    )
    if foreseen.refused:
        text = "Packer refuses some of the builds, and makes the others."
        notify(Notice(level="warning", text=text))
    return foreseen


def require(
    request: BuildRequest,
    template: locate.Template,
    prepared: Prepared,
    names: tuple[str, ...] | None,
) -> None:
    """Ask again what was asked before the wait for the lock. Raises TemplateError."""
    if names == () and not prepared.is_empty:
        return
    asked = acceptance.Question(
        template=template, flags=request.flags, prepared=prepared, environ=request.environ
    )
    refused = acceptance.refused(asked, names)
    if refused and refused.is_whole:
        raise refused.error


def _lock(request: BuildRequest, place: places.Place, notify: Notify) -> tuple[Tenure, Wait]:
    over = TAKE_OVER if place.settings.abandoned == "take" else frozenset()
    timeout = place.settings.lock_timeout
    who = asking(request, place)
    return acquire.acquire(place.store, who, notify, timeout=timeout, over=over)


def asking(request: BuildRequest, place: places.Place) -> Holder:
    """This build, as others see it that want the same lock."""
    return acquire.holder(
        "build",
        template=place.folder.label,
        workspace=place.folder.workspace,
        command=command_on_record(request),
        environ=request.environ,
        only=request.flags.only,
    )


def command_on_record(request: BuildRequest) -> tuple[str, ...]:
    return ("packer-fork", "build", *request.flags.without_values(), request.template)


def warn(request: BuildRequest, place: places.Place, prepared: Prepared, notify: Notify) -> None:
    sensitive = prepared.sensitive
    texts = [
        *(f"The value of the sensitive {name!r} could not be learnt" for name in sensitive.unknown),
        *(
            f"The sensitive value of {name!r} is shorter than 4 characters"
            for name in sensitive.too_short
        ),
    ]
    for text in texts:
        notify(Notice(level="warning", text=f"{text}: it is not masked."))
    for name in outline.shared_names(prepared.outlines):
        text = f"Two builds are called {name!r}: Packer's output does not tell them apart."
        hint = "Give each build block a name; until then their results are kept as one."
        notify(Notice(level="warning", text=text, hint=hint))
    fresh = not (place.settings.state or place.folder.folder.exists())
    if fresh and host.ci_job(request.environ):
        text = f"This state ends with the CI job: {place.folder.folder} is new; cache the folder"
        text = f"{text} .packer-fork between jobs, or name a lasting one with --state."
        notify(Notice(level="warning", text=text))


class _Building:
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
                self._plan = self._planned_again()
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

    def _planned_again(self) -> Plan:
        template, flags = locate.template(self._request.template), self._request.flags
        place, environ, state = self._place, self._request.environ, self._place.store.read()
        prepared, notify = self._prepared, self._notify
        return planning.make(template, flags, prepared, place, environ, state, notify)

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
            command=command_on_record(self._request),
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


def repeat_artifacts(plan: Plan, notify: Notify) -> None:
    """Who reads machine-readable lines finds those of what is up to date as well."""
    now = datetime.now(UTC)
    for build in plan.builds:
        if build.result is not None and build.action is Action.UP_TO_DATE:
            for line in lines.of_artifacts(build.name, build.result.artifacts, now):
                text = lines.encode(line).decode("utf-8", "replace").rstrip("\n")
                notify(MachineLine(line=text))


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


def everything(plan: Plan) -> Plan:
    """As if nothing were up to date."""
    builds = (
        structs.replace(build, action=Action.BUILD, reasons=("--rebuild", *build.reasons))
        if build.action is Action.UP_TO_DATE
        else build
        for build in plan.builds
    )
    return structs.replace(plan, builds=tuple(builds))
