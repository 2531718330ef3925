"""state replay: late results from a file, brought in when somebody wants it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from packer_fork.events import Notify
from packer_fork.manager.build import outbox
from packer_fork.manager.changing import Command, changing
from packer_fork.manager.places import Place


def replay(place: Place, path: Path, notify: Notify, *, environ: Mapping[str, str]) -> None:
    """Bring late results into the history; what was built since is not replaced.

    Raises UsageError for a file that is not of this state, LockedError, or StoreError.
    """
    found = outbox.read(path)
    words = ("state", "replay", path.name)
    command = Command(operation="replay", words=words, environ=environ, recovers=False)
    with changing(place, command, notify) as tenure:
        draft = outbox.draft_of(place.store, found, path)
        outbox.bring_in(tenure, path, found, draft, notify)
