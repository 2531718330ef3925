"""Merging the results in a file, which a build spooled or printed, into the state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from packer_fork.errors import UsageError
from packer_fork.events import Notify
from packer_fork.manager import late, outbox
from packer_fork.manager.state.operation import Operation, under_lock
from packer_fork.manager.state_ref import StateRef


def is_results_file(given: str) -> bool:
    """Whether a word of a command line names a file of results, and no template."""
    if given.endswith(outbox.SUFFIX):
        return True
    try:
        late.read(Path(given))
    except UsageError:
        return False
    return True


def merge(ref: StateRef, path: Path, notify: Notify, *, environ: Mapping[str, str]) -> None:
    """Merge the results in the file `path`; results of later runs stay.

    Raises UsageError for a file of another state, LockedError, StoreError.
    """
    found = late.read(path)
    words = ("state", "recover", path.name)
    operation = Operation(name="recover", words=words, environ=environ, recovers=False)
    with under_lock(ref, operation, notify) as lock:
        draft = late.draft_of(ref.store, found, path)
        late.bring_in(lock, path, found, draft, notify)
