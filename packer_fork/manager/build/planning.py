"""From a template on disk to its plan: for `build`, and for `plan`, which changes no state."""

from __future__ import annotations

import contextlib

from msgspec import Struct, structs

from packer_fork import config
from packer_fork.events import Action, Notice, Notify, Planned
from packer_fork.inputs.declared import Declared
from packer_fork.inputs.observation import Project
from packer_fork.locks import Wait
from packer_fork.manager import state_ref
from packer_fork.manager.build import acceptance, evaluation, layers, observed
from packer_fork.manager.build.acceptance import Question, Refused
from packer_fork.manager.build.plan import Plan, digest_cache, gather, plan
from packer_fork.manager.build.prepare import BuildRequest, PlanningContext, Prepared, only
from packer_fork.model import RunStatus, State
from packer_fork.packer.flags import PackerFlags

ALL_ARE_BUILT = "all are built: Packer cannot be told to build just these"
NAMES_UNKNOWN = "Packer alone knows the names of its builds: all are built each time"
NAMES_PARTLY_UNKNOWN = "all are built: Packer alone knows the names of its other builds"


class Foresight(Struct, frozen=True, kw_only=True):
    """What can be said of a build before it takes the lock. ``serial``: of the state that it
    rests on, 0 if there is none; ``plan``: None where everything is to be built anyway.
    ``refused``: some of the builds, never all. ``is_done``: nothing is to be built.
    """

    serial: int
    plan: Plan | None
    refused: Refused | None
    is_done: bool

    def is_current(self, state: State, wait: Wait) -> bool:
        """Whether that still holds under the lock: the state has not changed since.

        The first change of a state begins it, and says nothing of any build.
        """
        return not wait.seconds and state.serial == (self.serial or 1)


def make_plan(context: PlanningContext, prepared: Prepared) -> Plan:
    """What is found can be kept, so that the next command is faster; see ``Plan.remember``."""
    recalled, state = prepared.recalled, context.state
    if recalled is None or state is None or prepared.is_older_than(state):
        return _gathered(context, prepared)

    def keep() -> None:
        recalled.declared.cache.save()
        evaluation.keep_acceptances(context, prepared)

    made = _compared(context, prepared, recalled.declared)
    return structs.replace(made, untracked=recalled.untracked, remember=keep)


def _gathered(context: PlanningContext, prepared: Prepared) -> Plan:
    cache = digest_cache(context)
    found = gather(context, prepared, cache)
    declared = found.declared
    made = _compared(context, prepared, declared)
    names = [each.name for each in prepared.outlines]
    untracked: tuple[str, ...] = ()
    if any(declared.provenance[name].untracked for name in names):
        from packer_fork.manager.build import input_report
        from packer_fork.packer.mask import Mask
        from packer_fork.packer.sensitive import standing_plainly

        secrets = standing_plainly(prepared.template, context.flags, context.environ)
        mask = Mask(secrets).text
        untracked = input_report.untracked_names(context.template, names, declared, mask)

    def keep() -> None:
        cache.save()
        evaluation.keep(context, prepared, found, untracked)

    return structs.replace(made, untracked=untracked, remember=keep, values=found.values)


def _compared(context: PlanningContext, prepared: Prepared, declared: Declared) -> Plan:
    state, settings = context.state, context.settings
    project = observed.project_of(declared, state.key if state else "", context.place.folder.root)
    is_off = settings.observe == "off"
    comparison = observed.Comparison(state, project, is_off=is_off)
    made = plan(prepared, declared, settings, state, comparison)
    return _in_layers(made, state, None if is_off else project)


def _in_layers(made: Plan, state: State | None, project: Project | None) -> Plan:
    names = [build.name for build in made.builds]
    reads = layers.reads(names, made.declared, state, project)
    return structs.replace(made, builds=layers.ordered(made.builds, reads, made.declared.root))


def show(request: BuildRequest, notify: Notify) -> bool:
    """Tell what a build would do, without lock or change; whether there is anything to build."""
    template = state_ref.find_template(request.template)
    place = state_ref.resolve(template, request.settings, request.environ, notify)
    context = PlanningContext(
        template=template,
        flags=request.flags,
        place=place,
        environ=config.without_secrets(request.environ),
        state=place.store.read(),
        notify=notify,
    )
    _warn_of_unfinished(context)
    prepared = evaluation.evaluate(context)
    foreseen = foresee_build(context, prepared)
    made = foreseen.plan or make_plan(context, prepared)
    made.remember()
    names, note = chosen(made, prepared, request.flags)
    notify(planned(place, made, note))
    if foreseen.refused:
        raise foreseen.refused.error
    return names != ()


def _warn_of_unfinished(context: PlanningContext) -> None:
    """A plan knows of such a run what was committed last; `build` recovers it first."""
    run = context.state.last_run if context.state else None
    if run is not None and run.status is RunStatus.RUNNING:
        text = f"Run {run.number} is marked running: what it completes is not known yet."
        hint = "`packer-fork lock status` tells whether it lives; if not, `build` recovers it."
        context.notify(Notice(level="warning", text=text, hint=hint))


def foresee_build(
    context: PlanningContext, prepared: Prepared, *, rebuild: bool = False
) -> Foresight:
    """Ask Packer whether it accepts what is to be built, before anything is written.

    Raises TemplateError if it refuses all of that. Asks nothing if nothing is to be built.
    """
    with contextlib.closing(prepared.acceptances):
        return _foreseen(context, prepared, rebuild=rebuild)


def _foreseen(context: PlanningContext, prepared: Prepared, *, rebuild: bool) -> Foresight:
    made, names = None, tuple(each.name for each in prepared.outlines) or None
    if context.state is not None and names and not rebuild:
        made = make_plan(context, prepared)
        names, _ = chosen(made, prepared, context.flags)

    def folders_count() -> bool:
        return acceptance.is_settled(context.place, context.state)

    asked = Question(
        template=context.template,
        flags=context.flags,
        prepared=prepared,
        environ=context.environ,
        folders_count=folders_count,
    )
    refused = acceptance.refused(asked, names) if names != () else None
    if refused and names and not refused.is_whole:
        # An artifact that a later build reads need not be there yet.
        known = made or make_plan(context, prepared)
        first, *later = layers.stages(known.builds, names)
        refused = acceptance.refused(asked, first) if later else refused
    if refused and refused.is_whole:
        raise refused.error
    serial = context.state.serial if context.state else 0
    return Foresight(serial=serial, plan=made, refused=refused, is_done=names == ())


def planned(place: state_ref.StateRef, made: Plan, note: str) -> Planned:
    return Planned(
        template=place.folder.label,
        workspace=place.folder.workspace,
        builds=made.builds,
        note=note,
        untracked=made.untracked,
    )


def chosen(
    made: Plan, prepared: Prepared, flags: PackerFlags
) -> tuple[tuple[str, ...] | None, str]:
    """The builds to run, None for whatever Packer finds; and why it is more than need be."""
    todo = made.names(Action.BUILD)
    known = tuple(build.name for build in made.builds)
    if not prepared.is_complete:
        return None, NAMES_PARTLY_UNKNOWN if known else NAMES_UNKNOWN
    if todo == known:
        return known, ""
    if todo and only(prepared, flags, todo) is None:
        return known, ALL_ARE_BUILT
    return todo, ""
