"""Changing a state by an operator's command: under the lock, and nothing is left half done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from msgspec import Struct

from packer_fork.errors import StoreError
from packer_fork.events import Notify
from packer_fork.manager import acquire
from packer_fork.manager.places import Place
from packer_fork.model import Draft, State
from packer_fork.stores.base import Tenure


class Command(Struct, frozen=True, kw_only=True):
    """What is done, for the lock's record: ``operation`` in a word, ``words`` as they were typed.

    ``recovers``: runs that were left unfinished are finished first, so that nothing of
    them is lost; ``mends``: the state may be damaged.
    """

    operation: str
    words: tuple[str, ...]
    environ: Mapping[str, str]
    recovers: bool = True
    mends: bool = False


def made_sure_of(place: Place, tenure: Tenure) -> State:
    """The state; an empty one is begun where there is none."""
    state = place.store.read()
    if state is None:
        tenure.commit(Draft(operation="create"))
        state = place.store.read()
    if state is None:
        raise StoreError(f"The state in {place.store.location} has vanished.")
    return state


@contextlib.contextmanager
def changing(place: Place, command: Command, notify: Notify) -> Iterator[Tenure]:
    """The lock of `place`, given back in the end. Raises LockedError, StoreError."""
    asking = acquire.holder(
        command.operation,
        template=place.folder.label,
        workspace=place.folder.workspace,
        command=("packer-fork", *command.words),
        environ=command.environ,
    )
    timeout = place.settings.lock_timeout
    tenure, _ = acquire.acquire(
        place.store, asking, notify, timeout=timeout, even_damaged=command.mends
    )
    try:
        from packer_fork.manager.build import recovery

        if command.recovers and not command.mends:
            reason = f"found by state {command.operation}"
            recovery.catch_up(place, tenure, notify)
            recovery.recover(place.store, tenure, notify, reason=reason)
        elif not command.mends:
            recovery.clear_logs(place, tenure, notify)
        yield tenure
        tenure.compact()
    finally:
        tenure.close()
