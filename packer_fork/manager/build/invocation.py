"""One `packer-fork build`: what is not up to date, under the lock, alone or with other machines."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from packer_fork import config, host
from packer_fork.errors import EXIT_DONE, PackerForkError, StoreError
from packer_fork.events import Action, MachineLine, Notice, Notify, RunEnded
from packer_fork.locks import Wait
from packer_fork.manager import state_ref
from packer_fork.manager.build import acceptance, evaluation, leftovers, log_files, planning
from packer_fork.manager.build.plan import Plan
from packer_fork.manager.build.planning import Foresight
from packer_fork.manager.build.prepare import BuildRequest, PlanningContext, Prepared, with_secrets
from packer_fork.manager.lock import acquire
from packer_fork.manager.state import maintenance
from packer_fork.manager.state.operation import ensure_state
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import Build, PendingChange, Run, Skip, State
from packer_fork.packer import lines, outline
from packer_fork.stores.base import TAKE_OVER, HeldLock
from packer_fork.template import reader

if TYPE_CHECKING:
    from packer_fork.manager.build.shared_run import Sharing
    from packer_fork.manager.build.work_item import Context


def build(request: BuildRequest, notify: Notify, sharing: Sharing | None = None) -> int:
    """Build; returns the exit code, with `sharing` the same for all that wait.

    Raises PackerForkError where nothing was started.
    """
    template = state_ref.find_template(request.template)
    place = state_ref.resolve(template, request.settings, request.environ, notify)
    request = structs.replace(request, environ=config.without_secrets(request.environ))
    return _Invocation(request, template, place, sharing, notify).carry_out()


class _LockEntry(NamedTuple):
    """The held lock. ``shared``: the same one, where others may share it; ``as_first``: this
    process is its first participant.
    """

    lock: HeldLock
    wait: Wait
    shared: HeldLock | None = None
    as_first: bool = True


class _Invocation:
    """The steps of a build, in the order of their methods."""

    def __init__(
        self,
        request: BuildRequest,
        template: state_ref.Template,
        place: StateRef,
        sharing: Sharing | None,
        notify: Notify,
    ) -> None:
        self._request = request
        self._template = template
        self._place = place
        self._sharing = sharing
        self._notify = notify

    def carry_out(self) -> int:
        state = self._place.store.read()
        self._prepared = evaluation.evaluate(self._context(state))
        foreseen = self._foresee(state)
        self._has_secrets = False
        if foreseen.plan is None and self._prepared.recalled is None:
            self._refuse_unreadable()
        elif not foreseen.is_done:
            self._find_secrets(foreseen.plan)
        self._warn()
        self._check_sharing()
        entry = self._enter()
        try:
            return self._under_lock(entry, foreseen)
        finally:
            with contextlib.suppress(StoreError):
                entry.lock.close()

    def _context(self, state: State | None) -> PlanningContext:
        return PlanningContext(
            template=self._template,
            flags=self._request.flags,
            place=self._place,
            environ=self._request.environ,
            state=state,
            notify=self._notify,
        )

    def _foresee(self, state: State | None) -> Foresight:
        """Raises TemplateError if Packer refuses all that is to be built; warns if part of it."""
        rebuild = self._request.rebuild
        foreseen = planning.foresee_build(self._context(state), self._prepared, rebuild=rebuild)
        if foreseen.refused:
            text = "Packer refuses some of the builds, and makes the others."
            self._notify(Notice(level="warning", text=text))
        return foreseen

    def _refuse_unreadable(self) -> None:
        """Raises TemplateError where the template cannot be searched for secrets."""
        from packer_fork.packer.sensitive import standing_plainly

        standing_plainly(self._prepared.template, self._request.flags, self._request.environ)

    def _find_secrets(self, plan: Plan | None) -> None:
        told = plan.values if plan else {}
        request = self._request
        self._prepared = with_secrets(self._prepared, request.flags, request.environ, told)
        self._has_secrets = True
        _warn_of_secrets(self._prepared, self._notify)

    def _warn(self) -> None:
        for name in outline.shared_names(self._prepared.outlines):
            text = f"Two builds are called {name!r}: Packer's output does not tell them apart."
            hint = "Give each build block a name; until then their results are kept as one."
            self._notify(Notice(level="warning", text=text, hint=hint))
        folder, settings = self._place.folder.folder, self._place.settings
        is_fresh = not (settings.state or folder.exists())
        if is_fresh and host.ci_job(self._request.environ):
            text = f"This state ends with the CI job: {folder} is new; cache the folder"
            text = f"{text} .packer-fork between jobs, or name a lasting one with --state."
            self._notify(Notice(level="warning", text=text))

    def _check_sharing(self) -> None:
        if self._sharing:
            from packer_fork.manager.build import shared_run

            shared_run.check(self._request.flags, self._prepared)

    def _enter(self) -> _LockEntry:
        """Take the lock, in turn. Raises LockedError."""
        place = self._place
        asking = acquire.holder(
            "build",
            template=place.folder.label,
            workspace=place.folder.workspace,
            command=self._request.on_record,
            environ=self._request.environ,
            only=self._request.flags.only,
        )
        if self._sharing:
            from packer_fork.manager.build import admission

            shared, wait, as_first = admission.enter(place, asking, self._plan, self._notify)
            return _LockEntry(shared, wait, shared, as_first)
        timeout = place.settings.lock_timeout
        over = TAKE_OVER if place.settings.abandoned == "take" else frozenset()
        lock, wait = acquire.acquire(place.store, asking, self._notify, timeout=timeout, over=over)
        return _LockEntry(lock, wait)

    def _plan(self, state: State | None) -> Plan:
        return planning.make_plan(self._context(state), self._prepared)

    def _under_lock(self, entry: _LockEntry, foreseen: Foresight) -> int:
        self._catch_up(entry)
        state = ensure_state(self._place, entry.lock)
        is_refreshed = self._refresh(entry, state)
        if entry.as_first:
            leftovers.sweep(self._place, self._notify)
        leftovers.warn(state, self._notify)
        is_current = not is_refreshed and foreseen.is_current(state, entry.wait)
        plan = foreseen.plan if is_current and foreseen.plan else self._plan(state)
        plan.remember()
        shown = _everything(plan) if self._request.rebuild else plan
        names, note = planning.chosen(shown, self._prepared, self._request.flags)
        self._require_accepted(entry, plan, names, is_current=is_current)
        self._notify(planning.planned(self._place, self._announced(entry, shown), note))
        _repeat_artifacts(shown, self._notify)
        if entry.as_first and names == ():
            _record_skip(self._place, entry, shown, state, self._notify)
            return EXIT_DONE
        if not self._has_secrets:
            self._find_secrets(plan)
        return self._run(entry, shown, state, names)

    def _catch_up(self, entry: _LockEntry) -> None:
        """Recover unfinished runs and unread logs; most builds find none."""
        place, state = self._place, self._place.store.read()
        is_running = state is not None and state.last_run and state.last_run.ended is None
        if place.outbox is None and not is_running and not log_files.with_raw(place.store.logs):
            return
        from packer_fork.manager.build import recovery

        recovery.catch_up(place, entry.lock, self._notify)
        if entry.as_first:
            reason = "found by the next build"
            recovery.recover(place.store, entry.lock, self._notify, reason=reason)

    def _refresh(self, entry: _LockEntry, state: State) -> bool:
        """Ask again what was asked before the wait for the lock, where it may have changed."""
        is_old = bool(entry.wait.seconds) or self._prepared.is_older_than(state)
        if not is_old and (not self._sharing or reader.is_current(self._prepared.template)):
            return False
        self._prepared = evaluation.evaluate(self._context(state), validates=False)
        self._has_secrets = False
        self._check_sharing()
        return True

    def _require_accepted(
        self, entry: _LockEntry, plan: Plan, names: tuple[str, ...] | None, *, is_current: bool
    ) -> None:
        """Raises TemplateError, or LockedError where others build other inputs."""
        if entry.shared and not entry.as_first:
            from packer_fork.manager.build import admission

            admission.check(entry.shared, plan)
        elif not is_current and (names != () or self._prepared.is_empty):
            asked = acceptance.Question(
                template=self._template,
                flags=self._request.flags,
                prepared=self._prepared,
                environ=self._request.environ,
            )
            refused = acceptance.refused(asked, names)
            if refused and refused.is_whole:
                raise refused.error

    def _announced(self, entry: _LockEntry, plan: Plan) -> Plan:
        """The plan as it is told: why others build what they are at, is told where they are."""
        if entry.shared is None or entry.as_first:
            return plan
        share, _ = entry.shared.look()
        reason = (f"run {share.run} is at it",)
        builds = (
            structs.replace(build, reasons=reason)
            if build.action is Action.BUILD and build.name in share.wanted
            else build
            for build in plan.builds
        )
        return structs.replace(plan, builds=tuple(builds))

    def _run(
        self, entry: _LockEntry, plan: Plan, state: State, names: tuple[str, ...] | None
    ) -> int:
        from packer_fork.manager.build.observing import Observers
        from packer_fork.manager.build.work_item import Context
        from packer_fork.packer.signals import SignalWatch

        with SignalWatch() as watch:
            context = Context(
                request=self._request,
                place=self._place,
                prepared=self._prepared,
                plan=plan,
                lock=entry.lock,
                wait=entry.wait,
                observers=Observers(self._notify),
                watch=watch,
                notify=self._notify,
            )
            run, builds, code = self._carried_out(context, entry, state, names)
        self._notify(RunEnded(run=run, builds=builds, exit_code=code))
        return code

    def _carried_out(
        self, context: Context, entry: _LockEntry, state: State, names: tuple[str, ...] | None
    ) -> tuple[Run, tuple[Build, ...], int]:
        from packer_fork.manager.build import conclusion

        if entry.shared is None or self._sharing is None:
            from packer_fork.manager.build import own_run

            return own_run.carry_out(context, conclusion.start(context, state, names), names)
        from packer_fork.manager.build import shared_run

        shared_run.warn_of_layers(context.plan, names or (), self._notify)
        if entry.as_first:
            run = conclusion.start(context, state, names)
            shared_run.open_to_others(entry.shared, run)
        else:
            run = shared_run.join(context, entry.shared, state, names or ())
        return shared_run.carry_out(context, entry.shared, run, self._sharing)


def _record_skip(
    place: StateRef, entry: _LockEntry, plan: Plan, state: State, notify: Notify
) -> None:
    """A build that finds nothing to do is no run. What cannot be put on record is told."""
    skip = Skip(
        after=state.last_run.number if state.last_run else 0,
        inputs=plan.fingerprint,
        builds=plan.names(Action.UP_TO_DATE),
        ci=entry.lock.participant.holder.ci,
        waited=entry.wait.seconds,
        held=max(0.0, round(time.monotonic() - entry.wait.taken, 3)),
    )
    try:
        entry.lock.commit(PendingChange(operation="skip", skip=skip))
    except PackerForkError as error:
        text = f"What was skipped could not be put on record: {error.message}"
        notify(Notice(level="warning", text=text, hint=error.hint))
    maintenance.after_skip(place, entry.lock, notify)


def _warn_of_secrets(prepared: Prepared, notify: Notify) -> None:
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


def _repeat_artifacts(plan: Plan, notify: Notify) -> None:
    """Who reads machine-readable lines finds those of what is up to date as well."""
    now = datetime.now(UTC)
    for build in plan.builds:
        if build.result is not None and build.action is Action.UP_TO_DATE:
            for line in lines.of_artifacts(build.name, build.result.artifacts, now):
                text = lines.encode(line).decode("utf-8", "replace").rstrip("\n")
                notify(MachineLine(line=text))


def _everything(plan: Plan) -> Plan:
    """As if nothing were up to date."""
    builds = (
        structs.replace(build, action=Action.BUILD, reasons=("--rebuild", *build.reasons))
        if build.action is Action.UP_TO_DATE
        else build
        for build in plan.builds
    )
    return structs.replace(plan, builds=tuple(builds))
