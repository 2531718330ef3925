"""force-unlock: an operator's way out of whatever hangs or died.

Without more, only a lock whose holder is proven dead is unlocked (or one that
nobody can read). ``kill`` ends the run's own processes first; ``allow_live`` closes
the tenure under a holder that lives, whose results are then late, not lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from packer_fork import host, sharing
from packer_fork.errors import LockedError, UsageError
from packer_fork.events import Notice, Notify
from packer_fork.locks import LockStatus, Verdict, who
from packer_fork.manager import acquire, end
from packer_fork.manager.build import recovery, run_document
from packer_fork.manager.places import Place
from packer_fork.model import Draft
from packer_fork.stores.base import Tenure

_DEAD = frozenset({Verdict.ABANDONED, Verdict.UNKNOWN})
_ANY = frozenset(set(Verdict) - {Verdict.FREE})


class Found(Struct, frozen=True):
    """The lock that an ID names; or one member of a lock that many hold, as if it held it alone.

    ``shared`` is the whole lock then.
    """

    place: Place
    status: LockStatus
    shared: LockStatus | None = None


class How(Struct, frozen=True, kw_only=True):
    """How far the operator lets us go. ``if_abandoned``: only with proof that nobody lives."""

    kill: bool = False
    allow_live: bool = False
    if_abandoned: bool = False


def find(lock_id: str, places: Iterable[Place], *, if_abandoned: bool) -> Found | None:
    """The lock, or None if it is held no more. Raises UsageError if none of that ID is known.

    With `if_abandoned` an unknown lock is one that is held no more: scripts run twice.
    """
    known = []
    for place in places:
        status = place.store.status()
        if status.id == lock_id:
            return None if status.verdict is Verdict.FREE else Found(place, status)
        for member in _members(status):
            if member.id == lock_id:
                return Found(place, member, shared=status)
        if status.verdict is not Verdict.FREE:
            known.append(f"{status.id} ({place.folder.label})")
    if if_abandoned:
        return None
    raise UsageError(
        f"There is no lock {lock_id} here.",
        hint=f"Locks found: {', '.join(known)}" if known else "All locks found are free.",
    )


def _members(status: LockStatus) -> Iterator[LockStatus]:
    """Each member of a lock that many hold, as if it held it alone."""
    for each in status.members:
        if status.record is not None:
            yield LockStatus(
                verdict=each.verdict,
                id=each.member.id,
                record=sharing.alone(status.record, each.member),
                proof=(each.proof,),
                processes=status.processes,
            )


def refuse_free(lock_id: str, *, if_abandoned: bool) -> None:
    """Raises UsageError unless the caller is content with a lock that is free already."""
    if not if_abandoned:
        raise UsageError(
            f"Lock {lock_id} is free already; nothing was done.",
            hint="With --if-abandoned that is fine.",
        )


def check(found: Found, how: How) -> None:
    """Raises LockedError if this lock is not to be unlocked in this way."""
    verdict = found.status.verdict
    if how.if_abandoned and verdict is not Verdict.ABANDONED:
        raise LockedError(_refusal(found.status), hint="There is no proof that nobody lives.")
    if verdict not in _DEAD and not (how.kill or how.allow_live):
        raise LockedError(_refusal(found.status), hint=_alive(found.status))


def force_unlock(
    found: Found, how: How, notify: Notify, *, environ: Mapping[str, str]
) -> LockStatus:
    """Close the tenure, record who did it, recover its run; returns the lock as it is then.

    Raises LockedError if its holder, or anything of its Packer, lives and may not be passed.
    """
    check(found, how)
    status, place = found.status, found.place
    only_daemons = how.kill and _end(found, notify)
    if how.kill and _is_gone(now := place.store.status(), status):
        return now  # the holder ended in order, once it was told to
    if found.shared is not None:
        return _expel(found, found.shared, how)
    over = _ANY if how.allow_live or only_daemons else _DEAD
    tenure = _take(found, over, environ)
    try:
        why = f"unlocked {status.id}, {status.verdict}: {who(status)}"
        _settle(place, tenure, why, notify, only_daemons=only_daemons)
        tenure.compact()
    finally:
        tenure.close()
    return place.store.status()


def _is_gone(now: LockStatus, before: LockStatus) -> bool:
    """Whether that lock was let go; somebody who waited may have the next one already."""
    members = (each.member.id for each in now.members)
    return now.verdict is Verdict.FREE or before.id not in (now.id, *members)


def _end(found: Found, notify: Notify) -> bool:
    """End the processes of the holder, or of all; whether only daemons still hold the lock."""
    each = tuple(_members(found.status)) or (found.status,)
    grace = found.place.settings.grace
    daemons = [end.end(status, notify, grace=grace) for status in each]
    return any(daemons)


def _expel(found: Found, shared: LockStatus, how: How) -> LockStatus:
    """The others go on; what the member had is free, and comes from it late."""
    store, record = found.place.store, shared.record
    numbers = {each.member.id: each.member.number for each in shared.members}
    now = next((s for s in _members(store.status()) if s.id == found.status.id), None)
    if record is None or now is None:
        return store.status()
    if now.verdict not in _DEAD and not how.allow_live:
        raise LockedError(_refusal(now), hint=_alive(now))
    why = f"unlocked member {now.id}, {now.verdict}: {who(now)}"
    store.expel(record.id, numbers[now.id], by=host.this_actor(), why=why)
    return store.status()


def _take(found: Found, over: frozenset[Verdict], environ: Mapping[str, str]) -> Tenure:
    place, lock_id = found.place, found.status.id
    asking = acquire.holder(
        "force-unlock",
        template=place.folder.label,
        workspace=place.folder.workspace,
        command=("packer-fork", "force-unlock", lock_id),
        environ=environ,
    )
    tenure = place.store.try_acquire(asking, over=over, lock_id=lock_id)
    if isinstance(tenure, LockStatus):
        raise LockedError(_refusal(tenure), hint=_alive(place.store.status()))
    return tenure


def _settle(place: Place, tenure: Tenure, why: str, notify: Notify, *, only_daemons: bool) -> None:
    """Put on record who unlocked what, and what became of the run that held the lock."""
    state = place.store.read()
    run = run_document.unfinished_run(state)
    if state and run and place.store.is_alive(run.tenure) and not only_daemons:
        tenure.commit(recovery.interrupted(state, run, why))
        text = f"Run {run.number} still lives: its results will be late, and not lost."
        notify(Notice(level="warning", text=text))
    else:
        tenure.commit(Draft(operation="force-unlock", why=why))
        recovery.recover(place.store, tenure, notify, reason=why, only_daemons=only_daemons)


def _refusal(status: LockStatus) -> str:
    if status.verdict is Verdict.FREE:
        return "The lock is free: somebody was faster."
    return f"Lock {status.id} is {status.verdict} by {who(status)}; it is not unlocked."


def _alive(status: LockStatus) -> str:
    alive = ", ".join(f"{process.command} ({process.pid})" for process in status.processes)
    ways = "End them with --kill, or close the lock under them with --allow-live."
    return f"Still alive: {alive}. {ways}" if alive else ways
