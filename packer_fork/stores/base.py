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

    def note(self, *, run: int, packer: ProcessId | None = None) -> None:
        """Tell in the lock's record which run this tenure is for, and where Packer runs.

        Raises LockLostError if the tenure was closed meanwhile.
        """

    def compact(self) -> None:
        """Bring the stored form of the state into its form of rest. Never loses anything."""

    def close(self) -> None:
        """Release the lock, whatever still holds a copy of Packer's descriptor."""


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
    ) -> Tenure | LockStatus:
        """Open a tenure if the lock is free or its verdict is in `over`; else say who has it.

        With `lock_id`, only if the lock found is that one. The tenure found is closed
        in the same step, so that nobody can come between.
        """

    def is_alive(self, tenure: int) -> bool:
        """Whether the wrapper or anything of Packer's of that tenure may still live."""
