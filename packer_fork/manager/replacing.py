"""Putting other documents in the place of a state's own, by a new change, after a backup."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import Raw, Struct, structs

from packer_fork.changes import steps
from packer_fork.codec.builds import decode_once, encode_build
from packer_fork.errors import StateError
from packer_fork.events import Notice, Notify
from packer_fork.manager import differences, leftovers
from packer_fork.manager.changing import Command, changing
from packer_fork.manager.places import Place
from packer_fork.model import BuildStatus, Draft, State, possibly_left
from packer_fork.responses import Backup, Difference


class Replacement(Struct, frozen=True):
    """From the state `now` to the documents of `then`; ``difference`` is what that changes."""

    now: State
    then: State
    difference: Difference

    @property
    def is_nothing(self) -> bool:
        return self.now.builds == self.then.builds


def look(now: State, then: State) -> Replacement:
    """What it would change. No build comes back as under way."""
    wanted = structs.replace(then, builds=_settled(now, then))
    return Replacement(now, wanted, differences.between(now, wanted))


def _settled(now: State, then: State) -> dict[str, Raw]:
    """The builds of `then`; instances that may be left by now stay on record."""
    settled = {}
    for name, raw in then.builds.items():
        build = decode_once(raw)
        changed = build
        if not build.status.is_final:
            why = f"taken from the midst of run {build.run}"
            ended = build.ended or datetime.now(UTC)
            status = BuildStatus.INTERRUPTED
            changed = structs.replace(build, status=status, error=why, ended=ended)
        left = possibly_left(decode_once(now.builds[name])) if name in now.builds else ()
        more = tuple(each for each in left if each not in possibly_left(changed))
        changed = structs.replace(changed, leftovers=(*changed.leftovers, *more))
        settled[name] = raw if changed == build else encode_build(changed)
    return settled


def replace(
    place: Place,
    found: Replacement,
    notify: Notify,
    *,
    operation: str,
    why: str,
    environ: Mapping[str, str],
) -> Backup:
    """Back up, then commit what was looked at. Raises StateError if the state moved on."""
    command = Command(operation=operation, words=("state", operation, why), environ=environ)
    with changing(place, command, notify) as tenure:
        now = _unchanged(place, found.now)
        backup = tenure.backup(operation, keep=place.settings.keep_backups)
        _warn_of_forgotten(now, found.then, notify)
        tenure.commit(
            Draft(
                operation=operation,
                why=why,
                builds=steps(now.builds, found.then.builds),
                inputs=steps(now.inputs, found.then.inputs),
            )
        )
    return backup


def _unchanged(place: Place, looked_at: State) -> State:
    """The state, in which other documents than then do not stand.

    That a lock was taken over is a change as well, but none of what was looked at.
    """
    state = place.store.read()
    if state is None or (state.lineage, state.builds) != (looked_at.lineage, looked_at.builds):
        raise StateError(
            f"The state of {place.folder.label} has changed since it was looked at.",
            hint="Nothing was done; look again.",
        )
    return state


def _warn_of_forgotten(now: State, then: State, notify: Notify) -> None:
    for name in now.builds.keys() - then.builds.keys():
        for instance in possibly_left(decode_once(now.builds[name])):
            text = f"{name} may have left {leftovers.describe(instance)} behind; the state"
            notify(Notice(level="warning", text=f"{text} forgets it."))
