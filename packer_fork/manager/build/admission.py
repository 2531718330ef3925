"""Admission to a shared run: as the first, who opens it, or as one more participant."""

from __future__ import annotations

import time
from collections.abc import Callable

from packer_fork import lock_steps
from packer_fork.errors import LockedError
from packer_fork.events import Notice, Notify
from packer_fork.inputs.record import TemplateInputs, difference_of
from packer_fork.lock_steps import MOST_PARTICIPANTS
from packer_fork.locks import Holder, LockRecord, LockStatus, Status, Wait, who
from packer_fork.manager.build.plan import Plan, StoredInputs
from packer_fork.manager.lock import acquire
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import State
from packer_fork.stores.base import TAKE_OVER, HeldLock, Ticket

_MOMENT = 60.0
_LOOK = 0.1

PlanOf = Callable[[State | None], Plan]


def enter(
    place: StateRef, asking: Holder, plan_of: PlanOf, notify: Notify
) -> tuple[HeldLock, Wait, bool]:
    """Join the run under way if it is of the same inputs, else begin one, in turn.

    The last tells whether this is the first participant, which has to begin a run. Raises
    LockedError: the lock is not to be had, or others build other inputs.
    """
    admission = _Admission(place, asking, plan_of, notify)
    settings = place.settings
    lock, wait = acquire.attempted(
        place.store, asking, admission.attempt, notify, timeout=settings.lock_timeout
    )
    if lock.replaced is not None:
        acquire.record_take_over(lock, lock.replaced, notify)
    return lock, wait, not admission.joined


def check(lock: HeldLock, plan: Plan) -> None:
    """Raises LockedError if what is built here has changed while the run was joined."""
    share, _ = lock.look()
    if plan.fingerprint != share.inputs:
        raise LockedError(
            f"The inputs have changed here while run {share.run} was joined.",
            hint="Run it again: what it is of then is told.",
        )


def _is_in_passing(found: LockStatus) -> bool:
    """Whether somebody is just about to open a run for others, or to end one.

    Who has just got the lock holds it for a moment before a record tells of that.
    """
    if found.record is None:
        return found.status is Status.HELD and not found.error
    if found.status is not Status.HELD or found.record.max_participants == 1:
        return False
    return found.record.concluded or not (found.record.inputs or found.record.stop)


class _Admission:
    """Tries again and again while one waits."""

    def __init__(self, place: StateRef, asking: Holder, plan_of: PlanOf, notify: Notify) -> None:
        self.joined = False
        self._place = place
        self._asking = asking
        self._plan_of = plan_of
        self._notify = notify
        self._over = TAKE_OVER if place.settings.abandoned == "take" else frozenset[Status]()
        self._refused = ""

    def attempt(self, ticket: Ticket | None) -> HeldLock | LockStatus:
        """Waits, with or without a ticket, for what only takes a moment."""
        deadline = time.monotonic() + _MOMENT
        while isinstance(found := self._attempt(ticket), LockStatus):
            if not _is_in_passing(found) or time.monotonic() > deadline:
                break
            time.sleep(_LOOK)
        return found

    def _attempt(self, ticket: Ticket | None) -> HeldLock | LockStatus:
        store = self._place.store
        found = store.try_acquire(
            self._asking, over=self._over, ticket=ticket, max_participants=MOST_PARTICIPANTS
        )
        if not isinstance(found, LockStatus):
            return found
        share = found.record
        if share is None or not lock_steps.admits(share) or found.id == self._refused:
            return found
        state = store.read()
        plan = self._plan_of(state)
        if plan.fingerprint != share.inputs:
            self._refuse(found, share, state, plan)
            return found
        joined = store.join(self._asking, lock_id=found.id, inputs=plan.fingerprint)
        self.joined = joined is not None
        return joined or found

    def _refuse(
        self, found: LockStatus, share: LockRecord, state: State | None, plan: Plan
    ) -> None:
        """Told at once; whoever has time to wait gets a run of its own."""
        self._refused = found.id
        theirs = StoredInputs(state).document(share.inputs)
        what = "; ".join(_differences(theirs, plan.inputs)) if theirs else "they are not known"
        text = f"Run {share.run}, shared by {who(found)}, is of other inputs than here: {what}."
        if not self._place.settings.lock_timeout:
            raise LockedError(
                text,
                hint="Wait for its end with --lock-timeout 30m, or build the same; "
                "what may run side by side needs a --workspace of its own.",
            )
        self._notify(Notice(level="warning", text=text, hint="It is waited for."))


def _differences(theirs: TemplateInputs, ours: TemplateInputs) -> list[str]:
    """What differs, once, whichever build it is of."""
    seen = set[str]()
    for build in theirs.builds.keys() | ours.builds.keys():
        found = difference_of(build, theirs, ours)
        seen |= set(found if found is not None else (f"{build} is not in both",))
    return sorted(seen)
