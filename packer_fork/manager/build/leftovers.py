"""Instances that a run may have left behind: on record until somebody strikes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import structs

from packer_fork import processes
from packer_fork.codec.builds import decode_build
from packer_fork.errors import UsageError
from packer_fork.events import Notice, Notify
from packer_fork.locks import PACKER_BUILD
from packer_fork.manager.build import log_files
from packer_fork.manager.state.operation import Operation, under_lock
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import Build, Instance, PendingChange, State, possibly_left
from packer_fork.stores.base import HeldLock


def of_state(state: State) -> Iterator[tuple[str, Instance]]:
    for name, raw in state.builds.items():
        for instance in possibly_left(decode_build(raw)):
            yield name, instance


def sweep(place: StateRef, notify: Notify) -> None:
    """Clear away raw files of the dead; those of a run that was closed alive are its own."""
    alive = place.store.left_alive()
    if not alive:
        log_files.sweep(place.store.logs)
        return
    numbers = ", ".join(map(str, alive))
    text = f"Something of lock {numbers}, which was unlocked while it lived, still runs."
    hint = "What it does is not kept apart from this build; `ps` and the cloud console tell."
    notify(Notice(level="warning", text=text, hint=hint))


def warn_of_processes(lock: HeldLock, notify: Notify) -> None:
    """Name the processes that a run's Packer leaked, once it has ended.

    While another Packer of the same lock runs, they cannot be told from its own.
    """
    number = lock.participant.number
    ours = next((each for each in lock.record.participants if each.number == number), None)
    found = {each.pid: each for each in processes.of_participant(ours)} if ours else {}
    found.pop(lock.participant.holder.process.pid, None)
    if any(process.command == PACKER_BUILD for process in found.values()):
        return
    for process in found.values():
        text = f"{process.command} ({process.pid}) outlives Packer, a leaked process: {process.how}"
        notify(Notice(level="warning", text=f"{text}.", hint=f"End it: kill {process.pid}"))


def warn(state: State, notify: Notify) -> None:
    for name, instance in of_state(state):
        text = f"An earlier run of {name} may have left {describe(instance)} behind."
        hint = f"Once it is gone: packer-fork state rm --instance {instance.id}"
        notify(Notice(level="warning", text=text, hint=hint))


def describe(instance: Instance) -> str:
    parts = (instance.provider, instance.region, instance.id, *instance.addresses)
    return " ".join(part for part in parts if part)


def strike(
    place: StateRef, instance_id: str, notify: Notify, *, environ: Mapping[str, str]
) -> None:
    """Take an instance off the record. Raises UsageError if it is not on it, or LockedError."""
    words = ("state", "rm", "--instance", instance_id)
    command = Operation(name="rm", words=words, environ=environ, recovers=False)
    with under_lock(place, command, notify) as lock:
        state = place.store.read()
        changed: dict[str, Build | None] = dict(_without(state, instance_id)) if state else {}
        if not changed:
            raise UsageError(f"No instance {instance_id} is on record here.")
        why = f"instance {instance_id} is gone"
        lock.commit(PendingChange(operation="rm", why=why, builds=changed))


def _without(state: State, instance_id: str) -> Iterator[tuple[str, Build]]:
    for name, raw in state.builds.items():
        build = decode_build(raw)
        kept = tuple(each for each in possibly_left(build) if each.id != instance_id)
        if kept != possibly_left(build):
            last = build.instance
            gone = last is not None and last.id == instance_id
            yield name, structs.replace(build, leftovers=kept, instance=None if gone else last)
