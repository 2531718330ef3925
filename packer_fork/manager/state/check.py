"""Checking a state for damage, and repairing it."""

from __future__ import annotations

from collections.abc import Mapping

from packer_fork.events import Notify
from packer_fork.manager.state.operation import Operation, under_lock
from packer_fork.manager.state_ref import StateRef
from packer_fork.responses import RecoverableState


def find_damage(ref: StateRef) -> RecoverableState | None:
    """What a repair would save and what it would lose; None if nothing is damaged."""
    return ref.store.recoverable() if ref.store.verify().problems else None


def repair(ref: StateRef, notify: Notify, *, environ: Mapping[str, str]) -> int:
    """Save what is recoverable; returns the new serial. Raises StateError if nothing is."""
    words = ("state", "check", "--repair")
    operation = Operation(name="repair", words=words, environ=environ, mends=True)
    with under_lock(ref, operation, notify) as lock:
        return lock.repair().serial
