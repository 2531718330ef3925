"""Taking the lock: who asks, how long, and what is said meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from packer_fork import host
from packer_fork.errors import LockedError
from packer_fork.events import LockTaken, Notice, Notify, Waiting
from packer_fork.locks import Holder, LockStatus, Verdict, Wait, who
from packer_fork.stores.base import TAKE_OVER, Store, Tenure

_LOOK = 1.0
"""Seconds after which a waiter looks around, even if nothing woke it."""


def holder(
    operation: str,
    *,
    template: str,
    workspace: str,
    command: tuple[str, ...],
    environ: Mapping[str, str],
) -> Holder:
    """This process, asking for the lock. `command` must not hold values of variables."""
    return Holder(
        operation=operation,
        by=host.this_actor(),
        process=host.this_process(),
        command=command or (Path(sys.argv[0]).name,),
        directory=str(Path.cwd()),
        template=template,
        workspace=workspace,
        ci=host.ci_job(environ),
    )


def acquire(
    store: Store,
    asking: Holder,
    notify: Notify,
    *,
    timeout: float,
    over: frozenset[Verdict] = TAKE_OVER,
) -> tuple[Tenure, Wait]:
    """A tenure and how it was come by, after at most `timeout` seconds. Raises LockedError."""
    found = store.try_acquire(asking, over=over)
    wait = Wait()
    if isinstance(found, LockStatus) and timeout > 0:
        found, wait = _queue(store, asking, notify, timeout, over)
    if isinstance(found, LockStatus):
        raise LockedError(_locked(found), hint=_way_out(found))
    if found.replaced is not None:
        notify(Notice(level="warning", text=_taken_over(found.replaced)))
    notify(LockTaken(tenure=found.record.tenure, lock_id=found.record.id, waited=wait.seconds))
    return found, wait


def _queue(
    store: Store, asking: Holder, notify: Notify, timeout: float, over: frozenset[Verdict]
) -> tuple[Tenure | LockStatus, Wait]:
    """Wait in the queue; the lock's status if time runs out."""
    start = time.monotonic()
    told: tuple[str, str, int] | None = None
    ticket = store.join_queue(asking)
    try:
        while isinstance(found := store.try_acquire(asking, over=over, ticket=ticket), LockStatus):
            left = timeout - (time.monotonic() - start)
            if left <= 0:
                break
            place = ticket.place()
            if told != (told := (found.verdict, found.id, place)):
                notify(Waiting(status=found, seconds_left=left, place=place))
            ticket.wait(min(_LOOK, left))
    finally:
        ticket.leave()
    seconds = round(time.monotonic() - start, 3)
    return found, Wait(seconds=seconds, ahead=ticket.ahead)


def _locked(status: LockStatus) -> str:
    said = {
        Verdict.HELD: "is held by",
        Verdict.ORPHANED: "is orphaned: packer-fork is gone, its Packer still runs; taken by",
        Verdict.ABANDONED: "was abandoned by",
        Verdict.UNKNOWN: "may be held, which cannot be known here, by",
        Verdict.FREE: "was just released by",
    }
    reason = f" ({status.error or status.proof[0]})" if status.verdict is Verdict.UNKNOWN else ""
    return f"The lock {said[status.verdict]} {who(status)}{reason}."


def _way_out(status: LockStatus) -> str:
    if status.verdict in (Verdict.HELD, Verdict.ORPHANED):
        return (
            "Wait for it with --lock-timeout 30m, use another --workspace, "
            "or look closer with `packer-fork lock status`."
        )
    return f"If you know that nobody uses it: packer-fork force-unlock {status.id}"


def _taken_over(status: LockStatus) -> str:
    return f"The lock was abandoned by {who(status)}; taken over ({status.proof[0]})."
