"""force-unlock: an operator's way out when a holder hangs or died.

By default only a lock whose holder is proven dead, or one without a readable record, is
released. ``kill`` ends the processes of the run first; ``allow_live`` takes the lock from
a holder that lives, whose results are then unmerged, not lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from packer_fork import host
from packer_fork.errors import LockedError, UsageError
from packer_fork.events import Notice, Notify
from packer_fork.locks import LiveProcess, LockStatus, ParticipantStatus, Status, who
from packer_fork.manager.build import recovery, run_document
from packer_fork.manager.lock import acquire, end
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import PendingChange
from packer_fork.stores.base import TAKE_OVER, HeldLock

_DEAD = frozenset({Status.ABANDONED, Status.UNKNOWN})
_ANY = frozenset(set(Status) - {Status.FREE})


class Found(Struct, frozen=True):
    """The lock that an ID names; or one of its participants, if others hold it as well."""

    place: StateRef
    lock: LockStatus
    participant: ParticipantStatus | None = None

    @property
    def id(self) -> str:
        return self.participant.participant.id if self.participant else self.lock.id

    @property
    def status(self) -> Status:
        return self.participant.status if self.participant else self.lock.status

    @property
    def who(self) -> str:
        return who(self.lock, self.participant.participant if self.participant else None)

    @property
    def processes(self) -> tuple[LiveProcess, ...]:
        if self.participant is None:
            return self.lock.processes
        number = self.participant.participant.number
        return tuple(each for each in self.lock.processes if each.participant == number)


class How(Struct, frozen=True, kw_only=True):
    """How far the operator lets us go. ``if_abandoned``: only with proof that nobody lives."""

    kill: bool = False
    allow_live: bool = False
    if_abandoned: bool = False


def find(lock_id: str, places: Iterable[StateRef], *, if_abandoned: bool) -> Found | None:
    """The lock, or None if it is held no more.

    Raises UsageError if no lock of that ID is known; with `if_abandoned` LockedError, and only
    while another lock is held: scripts run twice.
    """
    held = []
    for place in places:
        status = place.store.status()
        if found := _named(lock_id, place, status):
            return found
        if _was_held(lock_id, status):
            return None
        if status.status is not Status.FREE:
            held.append(f"{status.id} ({place.folder.label})")
    text = f"There is no lock {lock_id} here."
    if not if_abandoned:
        hint = f"Locks found: {', '.join(held)}" if held else "All locks found are free."
        raise UsageError(text, hint=hint)
    if held:
        hint = "Name one of these, or look closer with `packer-fork lock status`."
        raise LockedError(f"{text} Others are held: {', '.join(held)}.", hint=hint)
    return None


def _named(lock_id: str, place: StateRef, status: LockStatus) -> Found | None:
    """What is held under that ID; a lock is named by its only participant as well."""
    if status.status is Status.FREE:
        return None
    for each in status.participants:
        if each.participant.id == lock_id:
            return Found(place, status, each if len(status.participants) > 1 else None)
    return Found(place, status) if status.id == lock_id else None


def _was_held(lock_id: str, status: LockStatus) -> bool:
    """Whether the record knows that ID: of the lock, or of a participant that has left."""
    record = status.record
    if record is None:
        return False
    numbers = range(1, record.participants_ever + 1)
    return lock_id in (record.id, *(f"{record.id}-{number}" for number in numbers))


def refuse_free(lock_id: str, *, if_abandoned: bool) -> None:
    """Raises UsageError unless the caller is content with a lock that is free already."""
    if not if_abandoned:
        raise UsageError(
            f"Lock {lock_id} is free already; nothing was done.",
            hint="in scripts, accept a free lock with --if-abandoned",
        )


def check(found: Found, how: How) -> None:
    """Raises LockedError if this lock is not to be unlocked in this way."""
    if how.if_abandoned and found.status is not Status.ABANDONED:
        raise LockedError(
            _refusal(found),
            hint="its holder is not proven dead; leave out --if-abandoned to unlock it anyway",
        )
    if found.status not in _DEAD and not (how.kill or how.allow_live):
        raise LockedError(_refusal(found), hint=_alive(found.processes))


def force_unlock(
    found: Found, how: How, notify: Notify, *, environ: Mapping[str, str]
) -> LockStatus:
    """Release the lock, record who did it, recover its run; returns the lock as it is then.

    Raises LockedError if its holder, or anything of its Packer, lives and may not be passed.
    """
    check(found, how)
    place = found.place
    only_daemons = how.kill and _end(found, notify)
    status = place.store.status()
    now = _named(found.id, place, status)
    if how.kill and now is None:
        return status  # the holder ended in order, once it was told to
    if now is not None and now.participant is not None:
        return _expel(now, now.participant.participant.number, how)
    over = _ANY if how.allow_live or only_daemons else _DEAD
    over = TAKE_OVER if how.if_abandoned else over
    lock = _take(found, over, environ)
    try:
        why = f"unlocked {found.id}, {found.status}: {found.who}"
        _settle(place, lock, why, notify, only_daemons=only_daemons)
        lock.compact()
    finally:
        lock.close()
    return place.store.status()


def _end(found: Found, notify: Notify) -> bool:
    """End the processes of each participant; whether only daemons still hold the lock."""
    evidence = (found.participant,) if found.participant else found.lock.participants
    grace = found.place.settings.grace
    daemons = [end.end(each.participant, found.processes, notify, grace=grace) for each in evidence]
    return any(daemons)


def _expel(now: Found, number: int, how: How) -> LockStatus:
    """The others go on; what the participant had claimed is free."""
    if now.status not in _DEAD and not how.allow_live:
        raise LockedError(_refusal(now), hint=_alive(now.processes))
    store, record = now.place.store, now.lock.record
    why = f"unlocked participant {now.id}, {now.status}: {now.who}"
    if record is not None:
        store.expel(record.id, number, by=host.this_actor(), why=why)
    return store.status()


def _take(found: Found, over: frozenset[Status], environ: Mapping[str, str]) -> HeldLock:
    place, lock_id = found.place, found.lock.id
    asking = acquire.holder(
        "force-unlock",
        template=place.folder.label,
        workspace=place.folder.workspace,
        command=("packer-fork", "force-unlock", lock_id),
        environ=environ,
    )
    lock = place.store.try_acquire(asking, over=over, lock_id=lock_id)
    if isinstance(lock, LockStatus):
        now = place.store.status()
        raise LockedError(_refusal(Found(place, lock)), hint=_alive(now.processes))
    return lock


def _settle(
    place: StateRef, lock: HeldLock, why: str, notify: Notify, *, only_daemons: bool
) -> None:
    """Put on record who unlocked what, and what became of the run that held the lock."""
    state = place.store.read()
    run = run_document.unfinished_run(state)
    if state and run and place.store.is_alive(run.token) and not only_daemons:
        lock.commit(recovery.interrupted(state, run, why))
        text = f"Run {run.number} still lives: its results will be late, and not lost."
        notify(Notice(level="warning", text=text))
    else:
        lock.commit(PendingChange(operation="force-unlock", why=why))
        recovery.recover(place.store, lock, notify, reason=why, only_daemons=only_daemons)


def _refusal(found: Found) -> str:
    if found.status is Status.FREE:
        return "The lock is free: another process released it."
    return f"lock {found.id} is {found.status} (holder: {found.who}); it is not unlocked"


def _alive(processes: Sequence[LiveProcess]) -> str:
    alive = ", ".join(f"{process.command} ({process.pid})" for process in processes)
    ways = "end the run with --kill, or release the lock under it with --allow-live"
    return f"still alive: {alive}; {ways}" if alive else ways
