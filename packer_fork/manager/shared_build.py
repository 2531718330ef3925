"""A build that many machines share: whoever comes first begins a run, the others join it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from msgspec import Struct, structs

from packer_fork import config, host, sharing
from packer_fork.errors import EXIT_DONE, StoreError, UsageError
from packer_fork.events import Action, Notice, Notify, RunEnded
from packer_fork.locks import Wait
from packer_fork.manager import (
    ending,
    joining,
    joint,
    leftovers,
    locate,
    places,
    planning,
    recover,
    skipping,
    unread,
)
from packer_fork.manager.build.invocation import (
    asking,
    everything,
    foresee,
    repeat_artifacts,
    require,
    warn,
    warn_of_secrets,
)
from packer_fork.manager.build.supervisor import is_interactive
from packer_fork.manager.changing import made_sure_of
from packer_fork.manager.crew import Crew, Terms
from packer_fork.manager.job import Job, describe, next_number
from packer_fork.manager.observing import Observers
from packer_fork.manager.plan import Plan, kept_inputs
from packer_fork.manager.prepare import BuildRequest, Prepared, only, prepare, with_secrets
from packer_fork.model import Draft, Git, State
from packer_fork.packer.signals import SignalWatch
from packer_fork.template import reader


class Together(Struct, frozen=True, kw_only=True):
    """How to build with other machines. ``waits``: also for what they build; ``cancel_all``:
    whoever ends this one ends the run for all.
    """

    waits: bool = True
    cancel_all: bool = False


def build(request: BuildRequest, how: Together, notify: Notify) -> int:
    """Build together with others; returns the exit code, the same for all that wait.

    Raises PackerForkError where nothing was started here.
    """
    template = locate.template(request.template)
    place = places.of_template(template, request.settings, request.environ, notify)
    request = structs.replace(request, environ=config.without_secrets(request.environ))
    prepared = prepare(template, request.flags, place.settings, request.environ)
    foreseen = foresee(request, template, prepared, place, place.store.read(), notify)
    prepared = with_secrets(prepared, request.flags, request.environ)
    warn_of_secrets(prepared, notify)
    warn(request, place, prepared, notify)
    _check(request, prepared)

    def plan_of(state: State | None) -> Plan:
        return planning.make(
            template, request.flags, prepared, place, request.environ, state, notify
        )

    entry = joining.enter(place, asking(request, place), plan_of, notify)
    try:
        unread.catch_up(place, entry.tenure, notify)
        if entry.is_first:
            recover.recover(place.store, entry.tenure, notify, reason="found by the next build")
            leftovers.sweep(place, notify)
        if entry.wait.seconds or not reader.is_current(prepared.template):
            prepared = prepare(template, request.flags, place.settings, request.environ)
            prepared = with_secrets(prepared, request.flags, request.environ)
            _check(request, prepared)
        state = made_sure_of(place, entry.tenure)
        leftovers.warn(state, notify)
        plan = plan_of(state)
        shown = everything(plan) if request.rebuild else plan
        if not entry.is_first:
            joining.check(entry.tenure, plan)
        elif not foreseen.is_current(state, entry.wait):
            names, _ = planning.chosen(shown, prepared, request.flags)
            require(request, template, prepared, names)
        here = _Here(
            request=request,
            how=how,
            place=place,
            prepared=prepared,
            entry=entry,
            plan=shown,
            state=state,
            observers=Observers(notify),
            git=host.git_of(Path.cwd()),
            notify=notify,
        )
        return here.go()
    finally:
        with contextlib.suppress(StoreError):
            entry.tenure.close()


def _check(request: BuildRequest, prepared: Prepared) -> None:
    """Raises UsageError where sources cannot be built one by one, each by another machine."""
    if is_interactive(request.flags):
        raise UsageError("A Packer that asks (-debug, -on-error=ask) cannot be shared.")
    names = tuple(each.name for each in prepared.outlines)
    if not prepared.is_complete:
        raise UsageError(
            "Packer alone knows the names of all sources, so they cannot be shared.",
            hint="Name those to share with -only, or leave out --share.",
        )
    if len(names) > sharing.MOST_SOURCES:
        raise UsageError(
            f"This template has {len(names)} sources: no more than {sharing.MOST_SOURCES} can be "
            "shared.",
            hint="Limit it with -only, or split the template.",
        )
    for name in names:
        if only(prepared, request.flags, (name,)) is None:
            raise UsageError(
                f"Packer cannot be told to build {name!r} alone, so it cannot be shared.",
                hint="Give each source a name of its own, without a comma.",
            )


class _Here(Struct, frozen=True, kw_only=True):
    """This machine's build, once it is a member."""

    request: BuildRequest
    how: Together
    place: places.Place
    prepared: Prepared
    entry: joining.Entry
    plan: Plan
    state: State
    observers: Observers
    git: Git | None
    notify: Notify

    def go(self) -> int:
        chosen, _ = planning.chosen(self.plan, self.prepared, self.request.flags)
        names = chosen or ()
        self.notify(planning.planned(self.place, self._shown(), ""))
        self._warn_of_layers(names)
        repeat_artifacts(self.plan, self.notify)
        if self.entry.is_first and not names:
            skipping.record(
                self.place,
                self.entry.tenure,
                self.entry.wait,
                self.plan,
                self.state,
                self.notify,
            )
            return EXIT_DONE
        number = self._begin(names) if self.entry.is_first else self._join(names)
        terms = Terms(
            names=tuple(build.name for build in self.plan.builds),
            cancel_all=self.how.cancel_all,
            waits=self.how.waits,
        )

        def job(source: str, part: int, reasons: set[str]) -> Job:
            return self._job(number, source, part, reasons)

        crew = Crew(self.place, self.entry.tenure, number, job, terms, self.notify)
        with SignalWatch() as watch:
            result = self._carried_out(crew, number, watch)
        if result is None:
            return crew.off_record
        code = ending.exit_code(result, crew.codes, watch.signals)
        self.notify(RunEnded(run=result.run, builds=result.builds, log="", exit_code=code))
        return code

    def _warn_of_layers(self, names: tuple[str, ...]) -> None:
        """Sources are claimed in any order, whatever reads what."""
        for build in self.plan.builds:
            makers = [each for each in build.after if each in names]
            if build.name in names and makers:
                text = f"--share may build {build.name} before {makers[0]}, whose artifact it reads"
                hint = "Build again, to be sure, or leave out --share."
                self.notify(Notice(level="warning", text=f"{text}.", hint=hint))

    def _carried_out(self, crew: Crew, number: int, watch: SignalWatch) -> ending.Result | None:
        """None if something that was built here is not on record.

        Sources that others add when all was done already are built, or waited for, as well.
        """
        while True:
            crew.work(watch)
            if crew.off_record:
                return None
            result = ending.conclude(self.place, self.entry.tenure, number, watch, self.notify)
            if result.run.exit_code is not None or not crew.goes_on(watch):
                return result

    def _shown(self) -> Plan:
        """The plan as it is told: why others build what they are at, is told where they are."""
        if self.entry.is_first:
            return self.plan
        share, _ = self.entry.tenure.look()
        reason = (f"run {share.run} is at it",)
        builds = (
            structs.replace(build, reasons=reason)
            if build.action is Action.BUILD and build.name in share.wanted
            else build
            for build in self.plan.builds
        )
        return structs.replace(self.plan, builds=tuple(builds))

    def _begin(self, names: tuple[str, ...]) -> int:
        """A run is on record before others may join it."""
        number = next_number(self.place.store, self.state)
        tenure, wait, command = self.entry.tenure, self.entry.wait, self.request.on_record
        described = describe(number, tenure, wait, self.plan, self.prepared, command, self.git)
        fine = self.plan.names(Action.UP_TO_DATE)
        run = structs.replace(described, builds=names, up_to_date=fine, shared=True)
        builds = joint.pending(run, names, self.prepared.outlines, self.state)
        inputs = kept_inputs(self.state, self.plan)
        self.entry.tenure.commit(
            Draft(operation="start", last_run=run, builds=builds, inputs=inputs)
        )
        self.entry.tenure.update(
            lambda share, _: sharing.opened(share, inputs=run.inputs, run=run.number, wanted=names)
        )
        return run.number

    def _join(self, names: tuple[str, ...]) -> int:
        """What nobody wanted yet is added to the run."""
        share, _ = self.entry.tenure.look()
        text = f"Joined run {share.run}, shared by {len(share.members)} machines."
        self.notify(Notice(level="info", text=text))
        run = joint.run_of(self.state, share.run)
        more = tuple(name for name in names if name not in share.wanted)
        if more and run is not None:
            builds = joint.pending(run, more, self.prepared.outlines, self.state)
            wider = structs.replace(run, builds=(*run.builds, *more))
            if self.entry.tenure.update(lambda share, _: sharing.wanting(share, more)):
                self.entry.tenure.commit(Draft(operation="widen", last_run=wider, builds=builds))
        return share.run

    def _job(self, number: int, source: str, part: int, reasons: set[str]) -> Job:
        flags = only(self.prepared, self.request.flags, (source,))
        return Job(
            template=self.request.template,
            flags=flags or self.request.flags,
            command=self.request.on_record,
            environ=self.request.environ,
            place=self.place,
            prepared=self.prepared,
            tenure=self.entry.tenure,
            wait=Wait(taken=time.monotonic()),
            plan=self.plan,
            names=(source,),
            reasons=reasons,
            observers=self.observers,
            git=self.git,
            number=number,
            part=part,
        )
