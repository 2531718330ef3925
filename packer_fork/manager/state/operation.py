"""An operation on a state: under the lock, with the state's unfinished runs recovered first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from msgspec import Struct

from packer_fork.errors import StoreError
from packer_fork.events import Notify
from packer_fork.manager.lock import acquire
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import PendingChange, State
from packer_fork.stores.base import HeldLock


class Operation(Struct, frozen=True, kw_only=True):
    """For the lock's record: ``name`` in one word, ``words`` of its command line.

    ``recovers``: unfinished runs are recovered first, so that nothing of them is lost.
    ``mends``: the state may be damaged.
    """

    name: str
    words: tuple[str, ...]
    environ: Mapping[str, str]
    recovers: bool = True
    mends: bool = False


@contextlib.contextmanager
def under_lock(ref: StateRef, operation: Operation, notify: Notify) -> Iterator[HeldLock]:
    """Hold the lock of `ref` for the block. Raises LockedError, StoreError."""
    asking = acquire.holder(
        operation.name,
        template=ref.folder.label,
        workspace=ref.folder.workspace,
        command=("packer-fork", *operation.words),
        environ=operation.environ,
    )
    timeout = ref.settings.lock_timeout
    lock, _ = acquire.acquire(
        ref.store, asking, notify, timeout=timeout, even_damaged=operation.mends
    )
    try:
        from packer_fork.manager.build import recovery

        if operation.recovers and not operation.mends:
            reason = f"found by state {operation.name}"
            recovery.catch_up(ref, lock, notify)
            recovery.recover(ref.store, lock, notify, reason=reason)
        elif not operation.mends:
            recovery.clear_logs(ref, lock, notify)
        yield lock
        lock.compact()
    finally:
        lock.close()


def ensure_state(ref: StateRef, lock: HeldLock) -> State:
    """The state; an empty one is committed where there is none."""
    state = ref.store.read()
    if state is None:
        lock.commit(PendingChange(operation="create"))
        state = ref.store.read()
    if state is None:
        raise StoreError(
            f"the state in {ref.store.location} vanished while it was created",
            hint="check that nothing removes files there, then run the command again",
        )
    return state
