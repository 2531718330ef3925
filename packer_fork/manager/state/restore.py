"""Restoring an earlier state: a point of the history, or a backup.

Where the state is sound, its builds are replaced by a new change, after a backup; the
history stays. Where it is missing or damaged, a whole state is put in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Raw, Struct, structs

from packer_fork.changes import steps
from packer_fork.codec.builds import decode_once, encode_build
from packer_fork.errors import DamagedError, StateError, UsageError
from packer_fork.events import Notice, Notify
from packer_fork.manager.build import leftovers
from packer_fork.manager.state import backup, diff, history
from packer_fork.manager.state.operation import Operation, under_lock
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import BuildStatus, PendingChange, State, possibly_left
from packer_fork.responses import Backup, Difference


class Replacement(Struct, frozen=True):
    """From the state `now` to the documents of `then`; ``difference`` is what that changes."""

    now: State
    then: State
    difference: Difference

    @property
    def is_empty(self) -> bool:
        return self.now.builds == self.then.builds


def find(ref: StateRef, source: str) -> Replacement | State:
    """What restoring would replace, or the state to put where there is no sound one.

    `source`: a serial, ``run:7``, a path, or the URL of a backup that servers keep. Raises
    UsageError if there is no such point or backup, StateError for one of another lineage.
    """
    if history.is_point(source):
        now = ref.store.read()
        if now is None:
            raise UsageError(
                f"{ref.folder.label} has no state yet, so there is nothing to restore",
                hint="start with `packer-fork build TEMPLATE`",
            )
        return compare(now, history.point(ref.store, source))
    return _find_backup(ref, source)


def _find_backup(ref: StateRef, file: str) -> Replacement | State:
    if file.endswith((".pkr.hcl", ".pkr.json")):
        raise UsageError(
            f"{file} is a template, not a backup",
            hint=f"name a serial, a run or a backup as well: state restore {file} run:7",
        )
    then = backup.read_named(ref, file).state
    now = sound_state(ref)
    known = now or ref.store.recoverable().state
    if known is not None and known.lineage != then.lineage:
        raise StateError(
            f"{file} is a backup of another state (lineage {then.lineage}, not {known.lineage})",
            hint="name the template and workspace that it was made of",
        )
    return then if now is None else compare(now, then)


def sound_state(ref: StateRef) -> State | None:
    """The state, None where it is missing or damaged. Raises NewerFormatError."""
    try:
        return ref.store.read()
    except DamagedError:
        return None


def compare(now: State, then: State) -> Replacement:
    """What replacing `now` by `then` would change. No build is restored as running."""
    wanted = structs.replace(then, builds=_settled(now, then))
    return Replacement(now, wanted, diff.between(now, wanted))


def _settled(now: State, then: State) -> dict[str, Raw]:
    """The builds of `then`; instances that `now` records as possibly leaked stay recorded."""
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


def restore(
    ref: StateRef,
    source: str,
    found: Replacement | State,
    notify: Notify,
    *,
    environ: Mapping[str, str],
) -> Backup | None:
    """Restore what `find` found; returns the backup of what was replaced, if that was sound.

    Raises StateError if the state changed meanwhile.
    """
    if isinstance(found, Replacement):
        is_point = history.is_point(source)
        named = f"{Path(source).name}, " if not is_point else ""
        why = f"{named}serial {found.then.serial}"
        return replace(ref, found, notify, operation="restore", why=why, environ=environ)
    segments = backup.segments(Path(source))
    put(ref, found, segments, notify, operation="restore", environ=environ)
    return None


def replace(
    ref: StateRef,
    found: Replacement,
    notify: Notify,
    *,
    operation: str,
    why: str,
    environ: Mapping[str, str],
) -> Backup:
    """Back up, then commit `found`. Raises StateError if the state changed meanwhile."""
    words = ("state", operation, why)
    with under_lock(ref, Operation(name=operation, words=words, environ=environ), notify) as lock:
        now = _unchanged(ref, found.now)
        copy = lock.backup(operation, keep=ref.settings.keep_backups)
        _warn_of_forgotten(now, found.then, notify)
        lock.commit(
            PendingChange(
                operation=operation,
                why=why,
                builds=steps(now.builds, found.then.builds),
                inputs=steps(now.inputs, found.then.inputs),
            )
        )
    return copy


def _unchanged(ref: StateRef, before: State) -> State:
    """The state now, whose builds are those of `before`; other changes do not matter."""
    state = ref.store.read()
    if state is None or (state.lineage, state.builds) != (before.lineage, before.builds):
        raise StateError(
            f"the state of {ref.folder.label} changed while you were asked; nothing was done",
            hint="run the command again",
        )
    return state


def _warn_of_forgotten(now: State, then: State, notify: Notify) -> None:
    for name in now.builds.keys() - then.builds.keys():
        for instance in possibly_left(decode_once(now.builds[name])):
            text = f"{name} may have leaked {leftovers.describe(instance)}; the state forgets it"
            notify(Notice(level="warning", text=text))


def put(
    ref: StateRef,
    state: State,
    segments: Iterator[bytes],
    notify: Notify,
    *,
    operation: str,
    environ: Mapping[str, str],
) -> None:
    """Put a whole state, and the segments of its history, where there is no sound state."""
    words = ("state", operation)
    mending = Operation(name=operation, words=words, environ=environ, mends=True)
    with under_lock(ref, mending, notify) as lock:
        if sound_state(ref) is not None:
            raise StateError(
                f"{ref.folder.label} has a sound state by now; nothing was done",
                hint="run the command again",
            )
        for data in segments:
            lock.put_segment(data)
        lock.put(state)
    # The restored state may know a newer token than this lock has: another lock records it.
    recording = Operation(name=operation, words=words, environ=environ, recovers=False)
    with under_lock(ref, recording, notify) as lock:
        lock.commit(
            PendingChange(operation=operation, why=f"serial {state.serial} was put in place")
        )
