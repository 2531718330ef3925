"""From a template on disk to its plan: for `build`, and for `plan`, which changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packer_fork import config
from packer_fork.events import Action, Notify, Planned
from packer_fork.inputs.cache import DigestCache
from packer_fork.manager import input_report, locate, observed, places
from packer_fork.manager.plan import Plan, gather, plan
from packer_fork.manager.prepare import Prepared, prepare
from packer_fork.model import State
from packer_fork.packer import outline, selection
from packer_fork.packer.flags import PackerFlags


def make(
    template: locate.Template,
    flags: PackerFlags,
    prepared: Prepared,
    place: places.Place,
    environ: Mapping[str, str],
    state: State | None,
    *,
    remember: bool,
) -> Plan:
    """`remember`: write down which files were hashed, so that the next time is faster."""
    cache = DigestCache(place.folder.folder / "hashes")
    declared = gather(template, flags, prepared, place.settings, environ, state, cache)
    project = observed.project_of(declared, state.key if state else "", place.folder.root)
    is_off = place.settings.observe == "off"
    comparison = observed.Comparison(state, project, is_off=is_off)
    made = plan(prepared, declared, place.settings, state, comparison)
    if remember:
        cache.save()
    return made


def show(
    given: str,
    flags: PackerFlags,
    settings: Mapping[str, Any],
    environ: Mapping[str, str],
    notify: Notify,
) -> bool:
    """Tell what a build would do, without lock or change; whether there is anything to build."""
    template = locate.template(given)
    place = places.of_template(template, settings, environ, notify)
    environ = config.without_secrets(environ)
    prepared = prepare(template, flags, place.settings, environ)
    state = place.store.read()
    made = make(template, flags, prepared, place, environ, state, remember=False)
    _, note = chosen(made, prepared, flags)
    notify(planned(template, prepared, place, made, note))
    return not made.builds or bool(made.names(Action.BUILD))


def planned(
    template: locate.Template, prepared: Prepared, place: places.Place, made: Plan, note: str
) -> Planned:
    return Planned(
        template=place.folder.label,
        workspace=place.folder.workspace,
        builds=made.builds,
        note=note,
        untracked=input_report.untracked_names(template, prepared, made.declared),
    )


def chosen(
    made: Plan, prepared: Prepared, flags: PackerFlags
) -> tuple[tuple[str, ...] | None, str]:
    """The builds to run, None for whatever Packer finds; and why it is more than need be."""
    todo = made.names(Action.BUILD)
    known = tuple(build.name for build in made.builds)
    if not known or todo == known:
        return known or None, ""
    if todo and only(prepared, flags, todo) is None:
        return known, "all are built: Packer cannot be told to build just these"
    return todo, ""


def only(prepared: Prepared, flags: PackerFlags, names: tuple[str, ...]) -> PackerFlags | None:
    """The user's flags with an ``-only`` for exactly `names`; None if there is none."""
    patterns = selection.naming(names, hcl=prepared.hcl)
    known = [each.name for each in prepared.outlines]
    found = selection.select(known, patterns, flags.except_, hcl=prepared.hcl) if patterns else ()
    if found != names or outline.shared_names(prepared.outlines):
        return None
    return flags.with_only(patterns)
