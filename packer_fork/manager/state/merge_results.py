"""Merging results that wait in files, spooled or printed by a build, into the state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from packer_fork.errors import EXIT_DONE, PackerForkError, UsageError
from packer_fork.events import Notice, Notify
from packer_fork.manager.build import outbox, recovery
from packer_fork.manager.state.operation import Operation, under_lock
from packer_fork.manager.state_ref import StateRef
from packer_fork.stores.base import HeldLock


def is_results_file(given: str) -> bool:
    """Whether a word of a command line names a file of results, and no tempoutbox."""
    if given.endswith(outbox.SUFFIX):
        return True
    try:
        outbox.read(Path(given))
    except UsageError:
        return False
    return True


def merge(ref: StateRef, path: Path, notify: Notify, *, environ: Mapping[str, str]) -> None:
    """Merge the results in the file `path`; results of later runs stay.

    Raises UsageError for a file of another state, LockedError, StoreError.
    """
    found = outbox.read(path)
    words = ("state", "recover", path.name)
    operation = Operation(name="recover", words=words, environ=environ, recovers=False)
    with under_lock(ref, operation, notify) as lock:
        draft = outbox.draft_of(ref.store, found, path)
        outbox.bring_in(lock, path, found, draft, notify)


def recover_all(ref: StateRef, notify: Notify, *, environ: Mapping[str, str]) -> int:
    """Recover unfinished runs and merge all waiting results; returns the exit code.

    An error is reported, so that the caller can go on with other states.
    """
    try:
        ref.store.read()
        waiting = outbox.waiting(ref.store.logs)
        if not waiting:
            return recovery.recover_place(ref, notify, environ=environ)
        operation = Operation(name="recover", words=("state", "recover"), environ=environ)
        with under_lock(ref, operation, notify) as lock:
            _merge_waiting(ref, waiting, lock, notify)
    except PackerForkError as error:
        text = f"{ref.folder.label}: {error.message}"
        notify(Notice(level="error", text=text, hint=error.hint))
        return error.exit_code
    return EXIT_DONE


def _merge_waiting(ref: StateRef, paths: Iterable[Path], lock: HeldLock, notify: Notify) -> None:
    """A file of a run that still lives waits for its end; a bad file stays, with a warning."""
    for path in paths:
        try:
            found = outbox.read(path)
            if ref.store.is_alive(found.run.token):
                text = f"run {found.item.key} is still running; its results are in {path}"
                notify(Notice(level="info", text=text))
                continue
            draft = outbox.draft_of(ref.store, found, path)
        except PackerForkError as error:
            notify(Notice(level="warning", text=error.message, hint=error.hint))
        else:
            outbox.bring_in(lock, path, found, draft, notify)
