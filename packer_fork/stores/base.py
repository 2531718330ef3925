"""What every store promises. The contract is here; tests run it over each store.

Safe for threads and processes alike: any number of readers and writers may work on
one store at once, through one object or many.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from packer_fork.locks import Holder, LockRecord, LockStatus, ProcessId, Verdict
from packer_fork.model import Draft, State

TAKE_OVER = frozenset({Verdict.ABANDONED})
"""Verdicts over which a lock is taken without asking: there is proof that nobody lives."""


class Tenure(Protocol):
    """One holding of the lock; ends with `close`, or when somebody else closes it."""

    @property
    def record(self) -> LockRecord: ...

    @property
    def replaced(self) -> LockStatus | None:
        """What was found and taken over: an abandoned or unreadable lock; None normally."""

    @property
    def packer_lock(self) -> int:
        """Descriptor of the lock that Packer inherits and holds as long as any of it lives."""

    def commit(self, draft: Draft) -> State:
        """Make one change durable, then return the state after it.

        When this returns the change survives anything. Raises LockLostError if the
        tenure was closed meanwhile (nothing was changed), StoreError if it could not
        be made durable (it may or may not be there; doing it again is safe, since a
        change holds whole documents), DamagedError if the state is damaged.
        """

    def is_open(self) -> bool:
        """Whether nobody closed the tenure yet."""

    def note(self, *, run: int, packer: ProcessId | None = None) -> None:
        """Tell in the lock's record which run this tenure is for, and where Packer runs.

        Raises LockLostError if the tenure was closed meanwhile.
        """

    def compact(self) -> None:
        """Bring the stored form of the state into its form of rest. Never loses anything."""

    def hand_over(self) -> None:
        """Leave the lock to the Packer that still runs; it is orphaned until that ends."""

    def close(self) -> None:
        """Release the lock, whatever still holds a copy of Packer's descriptor."""


class Ticket(Protocol):
    """A place in the queue of the lock; it ends with `leave`, with a tenure, or with its owner."""

    @property
    def ahead(self) -> int:
        """How many waited already on arrival."""

    def place(self) -> int:
        """How many live waiters are before this one now."""

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
        """The local folder of the logs; made with mode 0700 by the first tenure."""

    def read(self) -> State | None:
        """The last acknowledged state or a later one, without waiting; None if there is none.

        Raises DamagedError or NewerFormatError; never returns a half-written state.
        """

    def status(self) -> LockStatus:
        """Who holds the lock, and the proof. Changes nothing and delays nobody."""

    def try_acquire(
        self,
        holder: Holder,
        *,
        over: frozenset[Verdict] = TAKE_OVER,
        lock_id: str = "",
        ticket: Ticket | None = None,
    ) -> Tenure | LockStatus:
        """Open a tenure if the lock is free or its verdict is in `over`; else say who has it.

        What is said then leaves out the live processes and the queue: `status` tells them.

        Nobody passes those who wait: without a `ticket` the queue must be empty, with
        one it must be the first. An operator with a `lock_id` stands outside of the
        queue, and gets only the lock of that ID. The tenure found is closed in the
        same step, so that nobody can come between.
        """

    def join_queue(self, holder: Holder) -> Ticket:
        """A place behind all who wait already. Leave it, or get the lock with it."""

    def left_alive(self) -> tuple[int, ...]:
        """Earlier tenures that were closed while they lived, and of which something still lives."""

    def is_alive(self, tenure: int) -> bool:
        """Whether the wrapper or anything of Packer's of that tenure may still live."""
