"""One build: under the lock, what is not up to date, again if it failed and is to be retried."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from msgspec import structs

from packer_fork import config, host
from packer_fork.errors import EXIT_DONE, StoreError
from packer_fork.events import Action, MachineLine, Notice, Notify
from packer_fork.locks import Holder, Wait
from packer_fork.manager import (
    acceptance,
    acquire,
    evaluation,
    leftovers,
    locate,
    places,
    planning,
    runlog,
    skipping,
)
from packer_fork.manager.changing import made_sure_of
from packer_fork.manager.plan import Plan
from packer_fork.manager.prepare import BuildRequest, Prepared, with_secrets
from packer_fork.model import State
from packer_fork.packer import lines, outline
from packer_fork.stores.base import TAKE_OVER, Tenure


def build(request: BuildRequest, notify: Notify) -> int:
    """Build; returns the exit code. Raises PackerForkError where nothing was started."""
    template = locate.template(request.template)
    place = places.of_template(template, request.settings, request.environ, notify)
    request = structs.replace(request, environ=config.without_secrets(request.environ))
    state = place.store.read()
    prepared = evaluation.prepared(template, request.flags, place, request.environ, state, notify)
    foreseen = foresee(request, template, prepared, place, state, notify)

    def masking(prepared: Prepared, plan: Plan | None) -> Prepared:
        told = plan.values if plan else {}
        found = with_secrets(prepared, request.flags, request.environ, told)
        warn_of_secrets(found, notify)
        return found

    is_evaluated_later = foreseen.plan is None and prepared.recalled is None
    has_secrets = not foreseen.is_done and not is_evaluated_later
    if has_secrets:
        prepared = masking(prepared, foreseen.plan)
    elif is_evaluated_later:
        from packer_fork.packer.sensitive import standing_plainly

        standing_plainly(prepared.template, request.flags, request.environ)  # may refuse it
    warn(request, place, prepared, notify)
    tenure, wait = _lock(request, place, notify)
    try:
        _catch_up(place, tenure, notify)
        state = made_sure_of(place, tenure)
        if wait.seconds or prepared.is_older_than(state):
            prepared = evaluation.prepared(
                template, request.flags, place, request.environ, state, notify
            )
            has_secrets = False
        leftovers.sweep(place, notify)
        leftovers.warn(state, notify)
        is_current = foreseen.is_current(state, wait)
        plan = foreseen.plan if is_current else None
        if plan is None:
            plan = planning.make(
                template, request.flags, prepared, place, request.environ, state, notify
            )
        plan.remember()
        shown = everything(plan) if request.rebuild else plan
        names, note = planning.chosen(shown, prepared, request.flags)
        if not is_current:
            require(request, template, prepared, names)
        notify(planning.planned(place, shown, note))
        repeat_artifacts(shown, notify)
        if names == ():
            skipping.record(place, tenure, wait, shown, state, notify)
            return EXIT_DONE
        prepared = prepared if has_secrets else masking(prepared, plan)
        from packer_fork.manager.executor import Executor

        return Executor(request, place, prepared, tenure, wait, plan, notify).go(names)
    finally:
        with contextlib.suppress(StoreError):
            tenure.close()


def _catch_up(place: places.Place, tenure: Tenure, notify: Notify) -> None:
    """Recover unfinished runs and unread logs; most builds find none."""
    state = place.store.read()
    running = state.running if state else {}
    if place.outbox is None and not running and not runlog.with_raw(place.store.logs):
        return
    from packer_fork.manager import recover, unread

    unread.catch_up(place, tenure, notify)
    recover.recover(place.store, tenure, notify, reason="found by the next build")


def foresee(
    request: BuildRequest,
    template: locate.Template,
    prepared: Prepared,
    place: places.Place,
    state: State | None,
    notify: Notify,
) -> planning.Foresight:
    """Raises TemplateError if Packer refuses all that is to be built; warns if part of it."""
    foreseen = planning.foresee(
        template,
        request.flags,
        prepared,
        place,
        request.environ,
        state,
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
        command=request.on_record,
        environ=request.environ,
        only=request.flags.only,
    )


def warn_of_secrets(prepared: Prepared, notify: Notify) -> None:
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


def warn(request: BuildRequest, place: places.Place, prepared: Prepared, notify: Notify) -> None:
    for name in outline.shared_names(prepared.outlines):
        text = f"Two builds are called {name!r}: Packer's output does not tell them apart."
        hint = "Give each build block a name; until then their results are kept as one."
        notify(Notice(level="warning", text=text, hint=hint))
    fresh = not (place.settings.state or place.folder.folder.exists())
    if fresh and host.ci_job(request.environ):
        text = f"This state ends with the CI job: {place.folder.folder} is new; cache the folder"
        text = f"{text} .packer-fork between jobs, or name a lasting one with --state."
        notify(Notice(level="warning", text=text))


def repeat_artifacts(plan: Plan, notify: Notify) -> None:
    """Who reads machine-readable lines finds those of what is up to date as well."""
    now = datetime.now(UTC)
    for build in plan.builds:
        if build.result is not None and build.action is Action.UP_TO_DATE:
            for line in lines.of_artifacts(build.name, build.result.artifacts, now):
                text = lines.encode(line).decode("utf-8", "replace").rstrip("\n")
                notify(MachineLine(line=text))


def everything(plan: Plan) -> Plan:
    """As if nothing were up to date."""
    builds = (
        structs.replace(build, action=Action.BUILD, reasons=("--rebuild", *build.reasons))
        if build.action is Action.UP_TO_DATE
        else build
        for build in plan.builds
    )
    return structs.replace(plan, builds=tuple(builds))
