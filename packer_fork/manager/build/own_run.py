"""A run that nobody else takes part in: stage after stage, then its conclusion."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from packer_fork.errors import EXIT_DONE, EXIT_PACKER_FAILED, LockLostError, StoreError
from packer_fork.events import Notice
from packer_fork.manager import state_ref
from packer_fork.manager.build import conclusion, evaluation, layers, planning
from packer_fork.manager.build.executor import Executor, OwnSources
from packer_fork.manager.build.prepare import PlanningContext, only
from packer_fork.manager.build.run_document import Concluded
from packer_fork.manager.build.supervisor import is_interactive
from packer_fork.manager.build.work_item import Context
from packer_fork.manager.state import maintenance
from packer_fork.model import Build, Run

Stage = tuple[str, ...] | None
"""Builds that may be made at the same time; None for all that Packer finds."""


def carry_out(context: Context, run: Run, names: Stage) -> tuple[Run, tuple[Build, ...], int]:
    """Build `names`; the run as it ended, its builds, and the exit code."""
    try:
        executor = Executor(context, run, sources := OwnSources())
        _build_stages(executor, sources, names)
        ended = conclusion.judged(context, run, run.builds, executor.results)
        if not executor.is_off_record:
            _put_on_record(context, ended)
        return ended.run, ended.builds, executor.exit_code(ended.run)
    finally:
        maintenance.after_run(context.place, context.lock, context.notify)


def _put_on_record(context: Context, ended: Concluded) -> None:
    """Whoever takes the lock next does it, where that is not possible now."""
    try:
        conclusion.put_on_record(context, ended)
    except (StoreError, LockLostError) as error:
        text = f"The end of run {ended.run.number} is not on record: {error.message}"
        hint = error.hint or "The next build puts it on record."
        context.notify(Notice(level="warning", text=text, hint=hint))


def _build_stages(executor: Executor, sources: OwnSources, names: Stage) -> None:
    """Artifacts that others read come first: what reads them is planned when they are there."""
    stages, failed = _stages(executor.context, names), set[str]()
    for number, stage in enumerate(stages):
        left = _without_followers(executor.context, stage, failed) if stage else stage
        if left == ():
            continue
        if number:
            executor.context = _plan_again(executor.context)
        groups = _groups(executor.context, left)
        sources.add(groups, room=_room(executor.context, groups))
        executor.work()
        failed |= executor.failed
        codes = {result.exit_code for result in executor.results}
        if not executor.goes_on or codes - {EXIT_DONE, EXIT_PACKER_FAILED}:
            _tell_of_left(executor.context, stages[number + 1 :])
            return


def _stages(context: Context, names: Stage) -> Sequence[Stage]:
    """One Packer after the other, as far as each can be told what to build."""
    stages = layers.stages(context.plan.builds, names) if names else []
    flags = context.request.flags
    can = all(only(context.prepared, flags, stage) is not None for stage in stages)
    return stages if can and len(stages) > 1 else [names]


def _groups(context: Context, stage: Stage) -> list[Stage]:
    """The sources of each Packer: all together or, with ``isolate``, one by one."""
    if context.place.settings.isolate and stage:
        return [(name,) for name in stage]
    return [stage]


def _room(context: Context, groups: Sequence[Stage]) -> int:
    """How many Packers run at a time; a terminal is for one."""
    flags = context.request.flags
    return 1 if is_interactive(flags) else flags.parallel_builds or len(groups)


def _without_followers(
    context: Context, stage: tuple[str, ...], failed: set[str]
) -> tuple[str, ...]:
    """`stage` without what reads an artifact of a build that failed; that is added to these."""
    after = {build.name: build.after for build in context.plan.builds}
    for name in stage:
        if makers := [each for each in after[name] if each in failed]:
            failed.add(name)
            text = f"{name} is not built: it reads the artifact of {makers[0]}, which failed."
            context.notify(Notice(level="warning", text=text))
    return tuple(name for name in stage if name not in failed)


def _plan_again(context: Context) -> Context:
    request, place = context.request, context.place
    planning_context = PlanningContext(
        template=state_ref.find_template(request.template),
        flags=request.flags,
        place=place,
        environ=request.environ,
        state=place.store.read(),
        notify=context.notify,
    )
    prepared = evaluation.evaluate(planning_context, validates=False)
    prepared = structs.replace(prepared, sensitive=context.prepared.sensitive)
    plan = planning.make_plan(planning_context, prepared)
    plan.remember()
    return structs.replace(context, prepared=prepared, plan=plan)


def _tell_of_left(context: Context, stages: Sequence[Stage]) -> None:
    if names := [name for stage in stages for name in stage or ()]:
        text = f"Not built, as the run before did not complete: {', '.join(names)}."
        context.notify(Notice(level="warning", text=text))
