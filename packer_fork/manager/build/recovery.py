"""Finishing what packer-fork could not: from the logs that Packer left.

An item whose packer-fork died is recovered from its raw log, and its run concluded. A machine
that died, was frozen or cut off may have finished its item after another one had to end it
without its log; so may an item that was unlocked while it lived. Once nothing of it lives, what
its log tells comes into the history as a late result, which replaces nothing built since. Raw
logs hold secrets: they go with the first command that takes the lock on that machine from then on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct, structs

from packer_fork import host
from packer_fork.codec.builds import decode_once
from packer_fork.errors import EXIT_DONE, DamagedError, LockedError, PackerForkError
from packer_fork.events import Event, Notice, Notify, Recovered
from packer_fork.manager.build import artifacts, log_files, outbox, run_document
from packer_fork.manager.build.log_files import ItemLog, LogFiles
from packer_fork.manager.build.recorder import Transcript
from packer_fork.manager.lock import acquire
from packer_fork.manager.state import history
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import (
    REMOVED,
    Build,
    BuildStatus,
    Change,
    Late,
    PendingChange,
    Recovery,
    Run,
    RunStatus,
    State,
    WorkItem,
)
from packer_fork.packer.mask import Mask
from packer_fork.packer.outcome import Outcome
from packer_fork.packer.tail import Tail
from packer_fork.stores.base import HeldLock, Store


def recover_place(place: StateRef, notify: Notify, *, environ: Mapping[str, str]) -> int:
    """Take the lock if nobody lives, and recover what is unfinished; returns the exit code.

    An error is reported, so that the caller goes on with other states.
    """
    try:
        if is_needed(place, place.store.read()):
            _under_lock(place, notify, environ)
        else:
            text = f"{place.folder.label}: there is nothing to recover."
            notify(Notice(level="info", text=text))
    except PackerForkError as error:
        text = f"{place.folder.label}: {error.message}"
        notify(Notice(level="error", text=text, hint=error.hint))
        return error.exit_code
    return EXIT_DONE


def _under_lock(place: StateRef, notify: Notify, environ: Mapping[str, str]) -> None:
    asking = acquire.holder(
        "recover",
        template=place.folder.label,
        workspace=place.folder.workspace,
        command=("packer-fork", "state", "recover"),
        environ=environ,
    )
    lock, _ = acquire.acquire(place.store, asking, notify, timeout=0)
    try:
        catch_up(place, lock, notify)
        recover(place.store, lock, notify, reason="state recover")
        lock.compact()
    finally:
        lock.close()


def is_needed(place: StateRef, state: State | None) -> bool:
    """Whether a run is unfinished, or results are here that the state does not have."""
    if run_document.unfinished_run(state):
        return True
    waiting = outbox.waiting(place.outbox) if place.outbox else []
    return bool(waiting or log_files.with_raw(place.store.logs))


def recover(
    store: Store, lock: HeldLock, notify: Notify, *, reason: str, only_daemons: bool = False
) -> None:
    """Under `lock`, finish the unfinished items of the run under way, and then the run.

    Raises LockedError while anything of it still lives, unless `only_daemons` that it left
    behind hold its lock.
    """
    state = store.read()
    run = run_document.unfinished_run(state)
    if run is None:
        return
    if store.is_alive(run.token) and not only_daemons:
        raise LockedError(
            f"Run {run.number} cannot be recovered: processes of its Packer still live.",
            hint="`packer-fork lock status` lists them; it is recovered once they have ended.",
        )
    for item in run_document.unfinished_items(state):
        recover_item(store, lock, item, notify, reason)
    _conclude(store, lock, run, notify, reason)


def _conclude(store: Store, lock: HeldLock, run: Run, notify: Notify, reason: str) -> None:
    """End a run, all of whose items have ended."""
    state = store.read()
    builds = run_document.builds_of(state, run.number, run.builds)
    items = state.items.values() if state else ()
    now, left = datetime.now(UTC), BuildStatus.INTERRUPTED
    ends = [build.ended or now for build in builds.values()]
    at = max(ends, default=now)
    ended = run_document.concluded(run, items, builds.values(), at, left=left)
    unread = any(item.recovered and item.recovered.unread for item in items)
    recovery = Recovery(at=now, by=lock.participant.holder.by, reason=reason, unread=unread)
    run = structs.replace(ended.run, recovered=recovery)
    lock.commit(PendingChange(operation="recover", why=reason, last_run=run, builds=ended.changed))
    notify(Recovered(run=run, builds=ended.builds))


def recover_item(
    store: Store, lock: HeldLock, item: WorkItem, notify: Notify, reason: str
) -> Outcome:
    """Finish one item of which nobody lives any more. Raises StoreError, LockLostError."""
    builds = run_document.builds_of(store.read(), item.run, item.sources)
    own = {name: build for name, build in builds.items() if build.item == item.number}
    files = LogFiles(store.logs, item.key)
    secrets = files.kept_secrets()
    if secrets is None:
        notify(Notice(level="warning", text=_why_unread(item)))
    after = _read(Outcome(item, own), files, secrets, notify)
    recovery = Recovery(
        at=datetime.now(UTC), by=lock.participant.holder.by, reason=reason, unread=secrets is None
    )
    gone = dict.fromkeys(own.keys() - after.builds.keys())
    lock.commit(
        PendingChange(
            operation="recover",
            why=reason,
            items=(structs.replace(after.item, recovered=recovery),),
            builds={**after.builds, **gone},
        )
    )
    files.forget_raw()
    return after


def _read(
    before: Outcome, files: LogFiles, secrets: tuple[str, ...] | None, notify: Notify
) -> Outcome:
    """What an item came to by all that its Packer wrote, masked; nothing is known if `secrets`
    are not.
    """
    log = ItemLog(files.masked, notify)
    transcript = Transcript(before, Mask(secrets or ()), log, _ignore)
    try:
        if secrets is not None:
            _feed(files.raw, transcript.feed)
            _feed(files.stderr, transcript.feed_stderr)
        transcript.end("interrupted", None)
    finally:
        log.close()
    transcript.outcome = artifacts.hashed(transcript.outcome)
    return transcript.shown()


def _feed(path: Path, feed: Callable[[bytes], None]) -> None:
    with contextlib.suppress(FileNotFoundError), Tail(path, 0) as tail:
        while data := tail.read():
            feed(data)


def _ignore(_: Event) -> None:
    """What Packer said while packer-fork was dead is not shown."""


def _why_unread(item: WorkItem) -> str:
    what = f"item {item.number} of run {item.run}"
    if item.by.host != host.this_actor().host:
        return f"{what.capitalize()} ran on {item.by.host}, where its log is: it was not read."
    return f"What to mask in the log of {what} is lost: it was not read."


def interrupted(state: State, run: Run, why: str) -> PendingChange:
    """The change that ends `run`, which is under way, without its logs."""
    now, left = datetime.now(UTC), BuildStatus.INTERRUPTED
    items = tuple(
        structs.replace(item, status=RunStatus.INTERRUPTED, ended=now, error=why)
        for item in run_document.unfinished_items(state)
    )
    builds = run_document.builds_of(state, run.number, run.builds).values()
    ended = [
        build
        if build.status.is_final
        else structs.replace(build, status=left, ended=now, error=why)
        for build in builds
    ]
    every = [*(item for item in state.items.values() if item.ended), *items]
    return PendingChange(
        operation="force-unlock",
        why=why,
        last_run=run_document.concluded(run, every, ended, now, why, left).run,
        items=items,
        builds={build.name: build for build in ended},
    )


class _Begun(Struct, frozen=True):
    """How an item began, and the run that it is of."""

    run: Run
    builds: dict[str, Build]


class _EndedItem(Struct, frozen=True):
    """What the history tells of an item: how it was ended, and how it began.

    The latter is None where the log was read, or its results came in another way.
    """

    item: WorkItem
    begun: _Begun | None = None


def catch_up(place: StateRef, lock: HeldLock, notify: Notify) -> None:
    """Bring in what is here and the state does not have: from the outbox, and from unread logs.

    Under a lock that is held already. Raises StoreError, LockLostError.
    """
    outbox.replay_waiting(place, lock, notify)
    clear_logs(place, lock, notify)


def clear_logs(place: StateRef, lock: HeldLock, notify: Notify) -> None:
    """Bring in what unread logs tell, and remove the raw logs of all items that have ended.

    Under a lock that is held already. Raises StoreError, LockLostError.
    """
    state = place.store.read()
    under_way = {item.key for item in run_document.unfinished_items(state)}
    for files in log_files.with_raw(place.store.logs) if state else ():
        if state is None or files.key in under_way:
            continue
        try:
            ended = _find_ended(place.store, files.key)
        except DamagedError:
            return  # which is told where it matters
        if ended is None or place.store.is_alive(ended.item.token):
            continue
        if ended.begun is not None:
            _bring_in(place, lock, ended, ended.begun, notify)
        files.forget_raw()


def _find_ended(store: Store, key: str) -> _EndedItem | None:
    """None where nothing is known of the item."""
    ended: WorkItem | None = None
    begun: dict[str, Build] | None = None
    for change in history.changes(store):
        if change.late is not None and change.late.item.key == key:
            return _EndedItem(change.late.item)
        if ended is not None and begun is not None and change.last_run is not None:
            return _EndedItem(ended, _Begun(change.last_run, begun))
        item = change.items.get(key)
        if item is None:
            continue
        if ended is None and not _was_unread(change, item):
            return _EndedItem(item)
        ended = ended or item
        if change.operation == "begin":
            known = {n: decode_once(raw) for n, raw in change.builds.items() if raw != REMOVED}
            begun = known
    return None


def _was_unread(change: Change, item: WorkItem) -> bool:
    """Whether `change`, the last of `item`, ended it without its log: an operator's does so."""
    return item.recovered.unread if item.recovered else change.operation == "force-unlock"


def _bring_in(
    place: StateRef, lock: HeldLock, ended: _EndedItem, begun: _Begun, notify: Notify
) -> None:
    item, state = ended.item, place.store.read()
    files = LogFiles(place.store.logs, item.key)
    secrets = files.kept_secrets()
    if secrets is None or state is None:
        return
    start = structs.replace(_unended(item), sources=tuple(begun.builds))
    found = _read(Outcome(start, begun.builds), files, secrets, notify)
    late = Late(lineage=state.lineage, run=begun.run, item=found.item, builds=found.builds)
    draft = outbox.draft_of(place.store, late, files.raw)
    if draft is not None:
        lock.commit(draft)
        said = ", ".join(f"{build.name} {build.status}" for build in found.builds.values())
        what = f"Item {item.number} of run {item.run}, which was ended without its log"
        notify(Notice(level="info", text=f"{what}, is read now: {said}."))


def _unended(item: WorkItem) -> WorkItem:
    """The item as if nobody had ended it yet."""
    return structs.replace(
        item,
        status=RunStatus.RUNNING,
        ended=None,
        exit_code=None,
        error="",
        cancelled=False,
        closed=False,
        log_offset=0,
        recovered=None,
    )
