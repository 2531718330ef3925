"""A run on record: its first document before Packer starts, and its last one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from packer_fork import host
from packer_fork.errors import StoreError
from packer_fork.events import Action, RunStarted
from packer_fork.manager.build import forecast, log_files, run_document
from packer_fork.manager.build.plan import kept_inputs
from packer_fork.manager.build.run_document import Concluded
from packer_fork.manager.build.work_item import Context, ItemResult
from packer_fork.model import Build, PendingChange, Run, State, WorkItem


def start(context: Context, state: State, names: tuple[str, ...] | None) -> Run:
    """Commit that a run of `names` starts, None for all that Packer finds. Raises StoreError."""
    holder, fine = context.lock.participant.holder, context.plan.names(Action.UP_TO_DATE)
    run = Run(
        number=_next_number(context, state),
        token=context.lock.record.token,
        started=datetime.now(UTC),
        by=holder.by,
        directory=str(Path.cwd()),
        command=context.request.on_record,
        inputs=context.plan.fingerprint,
        packer_version=context.prepared.program.version_text,
        git=host.git_of(Path.cwd()),
        ci=holder.ci,
        up_to_date=tuple(name for name in fine if names and name not in names),
        waited=context.wait.seconds,
        ahead=context.wait.ahead,
    )
    outlines = [o for o in context.prepared.outlines if names is None or o.name in names]
    builds = run_document.pending_builds(run, outlines, state)
    run = structs.replace(run, builds=tuple(builds))
    inputs = kept_inputs(state, context.plan)
    context.lock.commit(
        PendingChange(operation="start", last_run=run, builds=builds, inputs=inputs)
    )
    tell_of_start(context, run, builds)
    return run


def tell_of_start(context: Context, run: Run, builds: Mapping[str, Build]) -> None:
    """Tell views of the run, and how long its builds take, as far as they ever came to an end."""
    known = {name: forecast.usual(build) for name, build in builds.items()}
    context.notify(
        RunStarted(
            run=run,
            template=context.place.folder.label,
            workspace=context.place.folder.workspace,
            usual={name: seconds for name, seconds in known.items() if seconds is not None},
        )
    )


def _next_number(context: Context, state: State) -> int:
    """Of a run that begins: a damaged or restored state may not know of all any more."""
    known = state.last_run.number if state.last_run else 0
    return 1 + max(known, log_files.newest(context.place.store.logs))


def judged(
    context: Context,
    run: Run,
    names: Iterable[str],
    results: Sequence[ItemResult],
    why: str = "",
) -> Concluded:
    """What `run` came to, by what is on record of it and by `results`. `names`: of its builds."""
    items, builds = _on_record(context, run, names)
    for result in results:
        items[result.outcome.item.key] = result.outcome.item
        for build in result.outcome.builds.values():
            run_document.add_newer(builds, build)
    held = time.monotonic() - context.wait.taken
    measured = structs.replace(
        run,
        held=max(0.0, round(held, 3)),
        commits=sum(result.commits for result in results) + 1,
        committing=round(sum(result.committing for result in results), 6),
    )
    at = datetime.now(UTC)
    return run_document.concluded(measured, items.values(), builds.values(), at, why)


def _on_record(
    context: Context, run: Run, names: Iterable[str]
) -> tuple[dict[str, WorkItem], dict[str, Build]]:
    try:
        state = context.place.store.read()
    except StoreError:
        return {}, {}
    items = {key: i for key, i in state.items.items() if i.run == run.number} if state else {}
    return items, run_document.builds_of(state, run.number, names)


def put_on_record(context: Context, ended: Concluded) -> None:
    """Commit the end of a run. Raises StoreError, LockLostError."""
    draft = PendingChange(operation="finish", last_run=ended.run, builds=ended.changed)
    context.lock.commit(draft)
    with contextlib.suppress(StoreError):
        context.lock.compact()
