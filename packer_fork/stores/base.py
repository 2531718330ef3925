"""What every store promises. The contract is here; tests run it over each store.

Safe for threads and processes alike: any number of readers and writers may work on
one store at once, through one object or many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from msgspec import Struct, structs

from packer_fork.errors import DamagedError
from packer_fork.lock_steps import Step
from packer_fork.locks import (
    Holder,
    LockRecord,
    LockStatus,
    Participant,
    ProcessId,
    Status,
    Waiter,
)
from packer_fork.model import Actor, Change, PendingChange, SegmentRef, State, Summary, Template
from packer_fork.responses import Backup, RecoverableState, Verified
from packer_fork.stores.archive.ownership import ForeignStateError

MANUAL = "manual"
"""Why a backup was made that somebody asked for; such ones are never removed by themselves."""

TAKE_OVER = frozenset({Status.ABANDONED})
"""Verdicts over which a lock is taken without asking: there is proof that nobody lives."""


def may_take(
    status: LockStatus, over: frozenset[Status], lock_id: str, is_next: Callable[[], bool]
) -> bool:
    """Whether ``Store.try_acquire`` may take that lock; without its ID one must be the next."""
    if lock_id:
        return status.id == lock_id and status.status in over
    if status.status is not Status.FREE and status.status not in over:
        return False
    return is_next()


def with_waiters(status: LockStatus, waiters: tuple[Waiter, ...]) -> LockStatus:
    """Who waits has the lock's files open as well, and is none of the run's processes."""
    watching = {waiter.holder.process.pid for waiter in waiters if waiter.holder}
    processes = tuple(each for each in status.processes if each.pid not in watching)
    return structs.replace(status, waiters=waiters, processes=processes)


class SegmentContents(Struct, frozen=True):
    """A state, and the changes that follow it, each with the digest of its line."""

    state: State
    changes: tuple[tuple[Change, str], ...]


class SegmentRange(Struct, frozen=True):
    """A piece of the history: serials above `first` up to `last`.

    ``segment`` names it, "" for what is not sealed. ``summary`` says what is in it, None
    where that is known only by reading it. ``read`` raises DamagedError; it finds no changes
    where the stretch was pruned meanwhile.
    """

    first: int
    last: int
    segment: str
    summary: Summary | None
    read: Callable[[], SegmentContents]


class Committed(Struct, frozen=True):
    """A change that is durable."""

    serial: int


class HeldLock(Protocol):
    """A lock that this process holds as one participant; ends with `close`, or by others.

    A method that changes the state raises LockLostError once the lock record no longer lists
    the participant.
    """

    @property
    def record(self) -> LockRecord:
        """The lock record as this process read or wrote it last."""

    @property
    def participant(self) -> Participant:
        """This process in the record, as it was when the lock was acquired or joined."""

    @property
    def replaced(self) -> LockStatus | None:
        """The abandoned or unreadable lock that was taken over; None normally."""

    @property
    def packer_lock(self) -> int:
        """Descriptor of the lock that Packer inherits and holds as long as any of it lives."""

    def commit(self, draft: PendingChange) -> Committed:
        """Make one change durable; what that costs does not grow with the state.

        When this returns the change survives anything. Raises LockLostError if the
        lock was lost meanwhile (nothing was changed), StoreError if it could not
        be made durable (it may or may not be there; doing it again is safe, since a
        change holds whole documents), DamagedError if the state is damaged.
        """

    def is_open(self) -> bool:
        """Whether the lock is still ours, as far as that is known here."""

    def update(self, step: Step) -> LockRecord | None:
        """Carry out one step of the lock record, one process at a time; None if there is none.

        A participant that the step removes is fenced with it. Raises LockLostError, StoreError.
        """

    def look(self) -> tuple[LockRecord, frozenset[int]]:
        """The record as it stands, and the numbers of its dead participants.

        Raises LockLostError, StoreError.
        """

    def reserve(self) -> bool:
        """Reserve disk space for the changes of a run until `close`; False if the disk is full."""

    def note(self, *, run: int, packer: ProcessId | None = None) -> None:
        """Write into the lock record which run this lock is for, and where Packer runs.

        Raises LockLostError, StoreError.
        """

    def compact(self, *, fully: bool = False) -> None:
        """Bring the stored form of the state into its form of rest. Never loses anything.

        `fully`: also where the state is so large that it pays to leave it as it is, so that
        the sealed segments have all of the history.
        """

    def backup(self, reason: str, *, keep: int) -> Backup:
        """Copy the state as it is, read the copy back, and drop the oldest beyond `keep`.

        Those whose reason is MANUAL are never dropped, nor counted.
        """

    def put(self, state: State) -> State:
        """Put `state` in the place of none, or of a damaged one, which is kept beside.

        Returns it as it is stored: its serial is beyond every one that was acknowledged,
        and its gaps lead around segments that are not there.
        """

    def put_segment(self, data: bytes) -> SegmentRef:
        """Add a sealed segment, proven by its name, so that a state may name it."""

    def repair(self) -> Committed:
        """Make the state what `salvage` finds; all that was damaged is kept beside.

        Raises StateError if it finds nothing.
        """

    def discard_unused(self) -> tuple[str, ...]:
        """Remove segments that neither the state nor a backup names; their names."""

    def hand_over(self) -> None:
        """Leave the lock to the Packer that still runs; it is orphaned until that ends."""

    def close(self) -> None:
        """Leave the lock, whatever still holds a copy of Packer's descriptor.

        The last participant releases it.
        """


class Ticket(Protocol):
    """A place in the queue of the lock; it ends with `leave`, with the lock, or with its owner."""

    @property
    def ahead(self) -> int:
        """How many waited already on arrival."""

    @property
    def look(self) -> float:
        """Seconds after which `wait` may be interrupted to look at the lock, at the least."""

    def place(self) -> int:
        """How many live waiters are before this one now; costs a look at each."""

    def before(self) -> int | None:
        """The number of the nearest live waiter before this one; it alone is looked at."""

    def wait(self, timeout: float) -> None:
        """Sleep until it may be our turn, at most `timeout` seconds."""

    def leave(self) -> None:
        """Give the place up; does nothing where it is given up already."""


class Store(Protocol):
    """State and lock of one template in one workspace."""

    @property
    def location(self) -> str:
        """For messages: the folder, or the URL without credentials."""

    @property
    def logs(self) -> Path:
        """The local folder of the logs; made with mode 0700 by the first acquisition."""

    def read(self) -> State | None:
        """The last acknowledged state or a later one, without waiting; None if there is none.

        Raises DamagedError, NewerFormatError, or ForeignStateError where another project
        uses the state; never returns a half-written state.
        """

    def claimed(self, template: Template) -> Template:
        """`template` as the state records it once the store's project uses it."""

    def history(self) -> Iterator[SegmentRange]:
        """All that is kept of the history, the newest first; the state itself is the first.

        Raises DamagedError where it cannot go on. Whoever is reading is not disturbed by
        commits: every change that was there at the beginning comes once.
        """

    def segments(self, state: State) -> Iterator[tuple[str, bytes]]:
        """The sealed segments of the history of `state`, name and bytes, the newest first.

        Raises DamagedError, also where a newer state has replaced one of them.
        """

    def backups(self) -> tuple[Backup, ...]:
        """The backups that the store keeps, the oldest first."""

    def read_backup(self, path: str) -> bytes | None:
        """The one of `backups` that has this path; None if there is none."""

    def verify(self) -> Verified:
        """Read all that is stored, and tell of any damage. Raises NewerFormatError."""

    def recoverable(self) -> RecoverableState:
        """What could be repaired of a damaged state. Changes nothing. Raises NewerFormatError."""

    def status(self) -> LockStatus:
        """Who holds the lock, and the proof. Changes nothing and delays nobody."""

    def try_acquire(
        self,
        holder: Holder,
        *,
        over: frozenset[Status] = TAKE_OVER,
        lock_id: str = "",
        ticket: Ticket | None = None,
        max_participants: int = 1,
        even_damaged: bool = False,
    ) -> HeldLock | LockStatus:
        """Acquire the lock if it is free or its status is in `over`; else say who has it.

        With more than one as `max_participants` others may join, once a step has admitted them.

        Raises DamagedError where the state is damaged, unless it is to be mended: `even_damaged`.

        The status leaves out the live processes and the queue: `status` has them.

        Nobody passes those who wait: without a `ticket` the queue must be empty, with
        one it must be the first. An operator with a `lock_id` stands outside of the
        queue, and gets only the lock of that ID. The lock found is released in the
        same step, so that nobody can come between.
        """

    def join(self, holder: Holder, *, lock_id: str, inputs: str) -> HeldLock | None:
        """Become a participant of a lock for builds of those inputs (their fingerprint).

        None where it does not admit that. The queue is bypassed: the run that is under
        way only ends the sooner.
        """

    def expel(self, lock_id: str, participant: int, *, by: Actor, why: str) -> bool:
        """Remove a participant, dead or alive; its claims are free. Put on record, unfenced.

        False if the lock record does not list it any more.
        """

    def join_queue(self, holder: Holder) -> Ticket:
        """A place behind all who wait already. Leave it, or get the lock with it."""

    def left_alive(self) -> tuple[int, ...]:
        """Earlier tokens under which something still lives: they were force-unlocked alive."""

    def is_alive(self, token: int) -> bool:
        """Whether a packer-fork or Packer process may still live under that token."""


def newest_token(store: Store, *, even_damaged: bool) -> int:
    """The highest token that the state itself knows of; 0 if it knows none.

    Raises DamagedError, unless what can be salvaged shall do.
    """
    try:
        state = store.read()
    except (DamagedError, ForeignStateError):
        if not even_damaged:
            raise
        state = store.recoverable().state
    return state.token if state else 0
