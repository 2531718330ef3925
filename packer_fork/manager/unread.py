"""Logs that are here, of runs that another machine, or an operator, had to end without them.

A machine that died, was frozen or cut off may have finished what it built. So may a run that
was unlocked while it lived. Once nothing of it lives, what its logs tell comes into the history
as a late result, which replaces nothing built since. Raw logs hold secrets: they go with the
first command that takes the lock on that machine from then on.
"""

from __future__ import annotations

from msgspec import Struct, structs

from packer_fork.codec.builds import decode_once
from packer_fork.errors import DamagedError
from packer_fork.events import Notice, Notify
from packer_fork.manager import artifacts, fold, late, runlog
from packer_fork.manager.runlog import LogFiles
from packer_fork.manager.state import history
from packer_fork.manager.state_ref import StateRef as Place
from packer_fork.model import REMOVED, Build, Change, Late, Run, State
from packer_fork.packer.mask import Mask
from packer_fork.packer.outcome import Outcome
from packer_fork.stores.base import Store, Tenure


class _Told(Struct, frozen=True):
    """What the history tells of a run: how it was ended, and its builds as it began.

    There are no builds where the log was read, or its results came in another way.
    """

    run: Run
    builds: dict[str, Build] | None = None


def catch_up(place: Place, tenure: Tenure, notify: Notify) -> None:
    """Bring in what is here and the state does not have: from the outbox, and from unread logs.

    Under a tenure that is held already. Raises StoreError, LockLostError.
    """
    late.replay_waiting(place, tenure, notify)
    clear_logs(place, tenure, notify)


def clear_logs(place: Place, tenure: Tenure, notify: Notify) -> None:
    """Bring in what unread logs tell, and remove the raw logs of all runs that have ended.

    Under a tenure that is held already. Raises StoreError, LockLostError.
    """
    state = place.store.read()
    for files in runlog.with_raw(place.store.logs) if state else ():
        if state is None or files.run in state.running:
            continue
        try:
            told = _told_of(place.store, files.run)
        except DamagedError:
            return  # which is told where it matters
        if told is None or place.store.is_alive(told.run.tenure):
            continue
        if told.builds is not None:
            _bring_in(place, tenure, files, told.run, told.builds, state, notify)
        files.forget_raw()


def _told_of(store: Store, key: str) -> _Told | None:
    """None where nothing is known of the run."""
    ended: Run | None = None
    for change in history.changes(store):
        if change.late is not None and change.late.run.key == key:
            return _Told(change.late.run)
        run = change.last_run
        if run is None or run.key != key:
            continue
        if ended is None and not _was_unread(change, run):
            return _Told(run)
        ended = ended or run
        if change.operation in ("start", "begin"):
            known = {n: decode_once(raw) for n, raw in change.builds.items() if raw != REMOVED}
            return _Told(ended, known)
    return None


def _was_unread(change: Change, run: Run) -> bool:
    """Whether `change`, the last of `run`, ended it without its log: an operator's does so."""
    return run.recovered.unread if run.recovered else change.operation == "force-unlock"


def _bring_in(
    place: Place,
    tenure: Tenure,
    files: LogFiles,
    ended: Run,
    builds_before: dict[str, Build],
    state: State,
    notify: Notify,
) -> None:
    secrets = files.kept_secrets()
    if secrets is None:
        return
    begun = structs.replace(fold.unended(ended), builds=tuple(builds_before))
    found = artifacts.hashed(fold.of_log(Outcome(begun, builds_before), files))
    mask = Mask(secrets)
    builds = {name: mask.document(build) for name, build in found.builds.items()}
    result = Late(lineage=state.lineage, run=mask.document(found.run), builds=builds)
    draft = late.draft_of(place.store, result, files.raw)
    if draft is not None:
        tenure.commit(draft)
        said = ", ".join(f"{build.name} {build.status}" for build in builds.values())
        text = f"Run {files.run}, which was ended without its log, is read now: {said}."
        notify(Notice(level="info", text=text))
