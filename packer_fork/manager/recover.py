"""Finishing a run whose wrapper died, from the log that its Packer left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from packer_fork import host
from packer_fork.codec.builds import decode_build
from packer_fork.errors import EXIT_DONE, LockedError, PackerForkError
from packer_fork.events import Notice, Notify, Recovered
from packer_fork.manager import acquire, artifacts, joint, outbox, runlog, unread
from packer_fork.manager.record import Recorder
from packer_fork.manager.runlog import LogFiles, RunLog
from packer_fork.manager.state_ref import StateRef as Place
from packer_fork.model import Draft, Recovery, Run, State
from packer_fork.packer.mask import Mask
from packer_fork.packer.outcome import Outcome
from packer_fork.packer.tail import Tail
from packer_fork.stores.base import Store, Tenure


def unfinished(state: State | None) -> tuple[Run, ...]:
    """The runs that are still marked running, the oldest first, a shared one after its parts."""
    found = state.running.values() if state else ()
    return tuple(sorted(found, key=lambda run: (run.number, run.shared, run.part)))


def recover(
    store: Store, tenure: Tenure, notify: Notify, *, reason: str, only_daemons: bool = False
) -> None:
    """Under `tenure`, finish every unfinished run from its log.

    Raises LockedError while anything of such a run still lives, unless `only_daemons`
    that it left behind hold its lock.
    """
    state = store.read()
    for run in unfinished(state):
        if store.is_alive(run.tenure) and not only_daemons:
            raise LockedError(
                f"Run {run.number} cannot be recovered: processes of its Packer still live.",
                hint="`packer-fork lock status` lists them; it is recovered once they have ended.",
            )
        if run.shared:
            _conclude(store, tenure, run, notify, reason)
        else:
            recover_run(store, tenure, run, notify, reason)


def _conclude(store: Store, tenure: Tenure, run: Run, notify: Notify, reason: str) -> None:
    """End a run that many machines shared, all of whose parts have ended."""
    by = tenure.participant.holder.by
    why = "none of its machines was left to end it"
    ended = joint.ended(run, run.builds, store.read(), datetime.now(UTC), why)
    recovery = Recovery(at=datetime.now(UTC), by=by, reason=reason)
    run = structs.replace(ended.run, recovered=recovery)
    tenure.commit(Draft(operation="recover", why=reason, last_run=run, builds=ended.changed))
    notify(Recovered(run=run, builds=ended.builds))


def recover_run(store: Store, tenure: Tenure, run: Run, notify: Notify, reason: str) -> None:
    """Finish one run, or one part of one, of which nobody lives any more."""
    state = store.read()
    known = state.builds if state else {}
    builds = {name: decode_build(known[name]) for name in run.builds if name in known}
    files = LogFiles(store.logs, run.key)
    _finish(Outcome(run, builds), files, tenure, notify, reason)
    files.forget_raw()


def recover_place(place: Place, notify: Notify, *, environ: Mapping[str, str]) -> int:
    """Take the lock if nobody lives, and recover what is unfinished; returns the exit code.

    What hinders it is told, so that other states can be gone on with.
    """
    try:
        left = outbox.waiting(place.outbox) if place.outbox else []
        if left or unfinished(place.store.read()) or runlog.with_raw(place.store.logs):
            _under_lock(place, notify, environ)
        else:
            text = f"{place.folder.label}: there is nothing to recover."
            notify(Notice(level="info", text=text))
    except PackerForkError as error:
        text = f"{place.folder.label}: {error.message}"
        notify(Notice(level="error", text=text, hint=error.hint))
        return error.exit_code
    return EXIT_DONE


def _under_lock(place: Place, notify: Notify, environ: Mapping[str, str]) -> None:
    asking = acquire.holder(
        "recover",
        template=place.folder.label,
        workspace=place.folder.workspace,
        command=("packer-fork", "state", "recover"),
        environ=environ,
    )
    timeout = place.settings.lock_timeout
    tenure, _ = acquire.acquire(place.store, asking, notify, timeout=timeout)
    try:
        unread.catch_up(place, tenure, notify)
        recover(place.store, tenure, notify, reason="state recover")
        tenure.compact()
    finally:
        tenure.close()


def _finish(before: Outcome, files: LogFiles, tenure: Tenure, notify: Notify, reason: str) -> None:
    secrets = files.kept_secrets()
    if secrets is None:
        text = _why_unread(before.run)
        notify(Notice(level="warning", text=text))
    log = RunLog(files.masked, notify)
    recorder = Recorder(before, tenure, Mask(secrets or ()), log, lambda _: None)
    try:
        if secrets is not None:
            _read(files.raw, recorder.feed)
            _read(files.stderr, recorder.feed_stderr)
        recorder.end("interrupted", None)
    finally:
        log.close()
    by = tenure.participant.holder.by
    recovery = Recovery(at=datetime.now(UTC), by=by, reason=reason, unread=secrets is None)
    finished = artifacts.hashed(recorder.outcome)
    run = structs.replace(finished.run, recovered=recovery)
    recorder.outcome = structs.replace(finished, run=run)
    recorder.commit("recover", why=reason)
    recorder.raise_unsaved()
    after = recorder.shown()
    notify(Recovered(run=after.run, builds=tuple(after.builds.values())))


def _why_unread(run: Run) -> str:
    if run.by.host != host.this_actor().host:
        return f"Run {run.key} ran on {run.by.host}, where its log is: it was not read."
    return f"What to mask in the log of run {run.key} is lost: it was not read."


def _read(path: Path, feed: Callable[[bytes], None]) -> None:
    with contextlib.suppress(FileNotFoundError), Tail(path, 0) as tail:
        while data := tail.read():
            feed(data)
