"""Taking the lock: who asks, how long, and what is said meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from packer_fork import host
from packer_fork.errors import LockedError
from packer_fork.events import LockTaken, Notice, Notify, Waiting
from packer_fork.locks import Holder, LockStatus, Status, Wait, advice, packer_lives, who
from packer_fork.manager.build import forecast
from packer_fork.manager.build.forecast import Progress
from packer_fork.model import PendingChange
from packer_fork.stores.base import TAKE_OVER, HeldLock, Store, Ticket

T = TypeVar("T", bound=HeldLock)

_LONG_LOOK = 10.0
"""Seconds after which a waiter behind many others looks around, even if nothing woke it."""

_REMIND = 60.0
"""Seconds after which a waiter says again for whom, even if nothing changed."""


def holder(
    operation: str,
    *,
    template: str,
    workspace: str,
    command: tuple[str, ...],
    environ: Mapping[str, str],
    only: tuple[str, ...] = (),
) -> Holder:
    """This process, asking for the lock. `command` must not hold values of variables.

    `only`: the builds that it was limited to, for telling others what it is about.
    """
    return Holder(
        operation=operation,
        by=host.this_actor(),
        process=host.this_process(),
        command=command or (Path(sys.argv[0]).name,),
        directory=str(Path.cwd()),
        template=template,
        workspace=workspace,
        ci=host.ci_job(environ),
        only=only,
    )


def acquire(
    store: Store,
    asking: Holder,
    notify: Notify,
    *,
    timeout: float,
    over: frozenset[Status] = TAKE_OVER,
    even_damaged: bool = False,
) -> tuple[HeldLock, Wait]:
    """A held lock and how it was acquired, after at most `timeout` seconds. Raises LockedError.

    `even_damaged`: to mend a state that no change can be made of; then nothing is recorded.
    """

    def attempt(ticket: Ticket | None) -> HeldLock | LockStatus:
        return store.try_acquire(asking, over=over, ticket=ticket, even_damaged=even_damaged)

    found, wait = attempted(store, asking, attempt, notify, timeout=timeout)
    if found.replaced is not None and not even_damaged:
        record_take_over(found, found.replaced, notify)
    return found, wait


def attempted(
    store: Store,
    asking: Holder,
    attempt: Callable[[Ticket | None], T | LockStatus],
    notify: Notify,
    *,
    timeout: float,
) -> tuple[T, Wait]:
    """What `attempt` comes to, first without a ticket of the queue. Raises LockedError."""
    found, wait = attempt(None), Wait()
    if isinstance(found, LockStatus) and timeout > 0:
        found, wait = _queue(store, asking, attempt, notify, timeout)
    if isinstance(found, LockStatus):
        raise LockedError(_locked(found), hint=_way_out(with_processes(store, found), asking))
    notify(LockTaken(token=found.record.token, lock_id=found.record.id, waited=wait.seconds))
    return found, structs.replace(wait, taken=time.monotonic())


def record_take_over(lock: HeldLock, replaced: LockStatus, notify: Notify) -> None:
    """Tell it, and put it on record before anything else is done."""
    text = f"The lock was abandoned by {who(replaced)}; taken over ({replaced.evidence[0]})."
    notify(Notice(level="warning", text=text))
    try:
        lock.commit(PendingChange(operation="take-over", why=text))
    except BaseException:
        lock.close()
        raise


def _queue(
    store: Store,
    asking: Holder,
    attempt: Callable[[Ticket | None], T | LockStatus],
    notify: Notify,
    timeout: float,
) -> tuple[T | LockStatus, Wait]:
    """Wait in the queue; the lock's status if time runs out."""
    start = time.monotonic()
    ticket = store.join_queue(asking)
    reminder = _Reminder(store, notify)
    try:
        while isinstance(found := attempt(ticket), LockStatus):
            left = timeout - (time.monotonic() - start)
            if left <= 0:
                break
            reminder.tell(found, ticket, left)
            ticket.wait(min(max(ticket.look, look_after(reminder.place)), left))
    finally:
        ticket.leave()
    seconds = max(0.0, round(time.monotonic() - start, 3))
    return found, Wait(seconds=seconds, ahead=ticket.ahead)


def look_after(place: int) -> float:
    """Seconds after which whoever has so many before it looks around: together not too often."""
    return min(place / 20, _LONG_LOOK)


class _Reminder:
    """Says for whom we wait: at once, when holder or place change, and once a minute."""

    def __init__(self, store: Store, notify: Notify) -> None:
        self._store = store
        self._notify = notify
        self._told: tuple[str, str, int | None] | None = None
        self._at = 0.0
        self.place = 0
        """How many were ahead when it told."""

    def tell(self, found: LockStatus, ticket: Ticket, left: float) -> None:
        """Asks for the whole place only when it tells: that looks at everybody who is ahead."""
        now = (found.status, found.id, ticket.before())
        if now == self._told and time.monotonic() - self._at < _REMIND:
            return
        self._told, self._at = now, time.monotonic()
        self.place = ticket.place()
        found = with_processes(self._store, found)
        is_stuck = found.status is Status.ORPHANED and not packer_lives(found)
        progress = Progress() if is_stuck else forecast.of_holder(self._store, found)
        self._notify(
            Waiting(
                status=found,
                seconds_left=left,
                place=self.place,
                phase=progress.phase,
                eta=progress.seconds,
            )
        )


def _locked(status: LockStatus) -> str:
    if status.status is Status.FREE:
        return "The lock is free, but others wait for it and come first."
    said = {
        Status.HELD: "is held by",
        Status.ORPHANED: "is orphaned (packer-fork is gone, its Packer lives); it was taken by",
        Status.ABANDONED: "was abandoned by",
        Status.UNKNOWN: "may be held, which cannot be known here, by",
    }
    reason = f" ({status.error or status.evidence[0]})" if status.status is Status.UNKNOWN else ""
    return f"The lock {said[status.status]} {who(status)}{reason}."


def with_processes(store: Store, found: LockStatus) -> LockStatus:
    """The status with the live processes of an orphan, which decide what helps."""
    if found.status is not Status.ORPHANED:
        return found
    now = store.status()
    return now if now.id == found.id else found


def _way_out(status: LockStatus, asking: Holder) -> str:
    if status.status in (Status.HELD, Status.FREE):
        builds = asking.operation == "build"
        wait = "--lock-timeout 30m" if builds else "PACKER_FORK_LOCK_TIMEOUT=30m in the environment"
        return (
            f"{_comparison(status, asking) if builds else ''}Wait for it with {wait}, "
            "or look closer with `packer-fork lock status`."
        )
    return advice(status)


def _comparison(status: LockStatus, asking: Holder) -> str:
    """Two that build different things of one template need two workspaces, not a queue."""
    theirs = status.record.first.holder.only if status.record else asking.only
    if theirs == asking.only:
        return ""
    its, yours = (", ".join(only) or "everything" for only in (theirs, asking.only))
    return (
        f"It builds {its}, you {yours}: if both may run side by side, "
        "give yours a --workspace of its own. "
    )
