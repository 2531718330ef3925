"""From a template on disk to its plan: for `build`, and for `plan`, which changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packer_fork.events import Action, Notify, Planned
from packer_fork.manager import locate, places
from packer_fork.manager.plan import Plan, gather, plan
from packer_fork.manager.prepare import Prepared, prepare
from packer_fork.model import State
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
    cache = place.folder.folder / "hashes" if remember else None
    inputs = gather(template, flags, prepared, place.settings, environ, state, cache)
    return plan(prepared, inputs, place.settings, state)


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
    prepared = prepare(template, flags, place.settings, environ)
    state = place.store.read()
    made = make(template, flags, prepared, place, environ, state, remember=False)
    notify(
        Planned(template=place.folder.label, workspace=place.folder.workspace, builds=made.builds)
    )
    return not made.builds or bool(made.names(Action.BUILD))
