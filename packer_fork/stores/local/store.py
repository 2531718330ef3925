"""The local store: joins journal, lock and queue into ``stores.base.Store``."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from packer_fork import durable, lock_steps
from packer_fork.locks import Holder, LockRecord, LockStatus, Status, Waiter
from packer_fork.model import Actor, PendingChange, Project, State
from packer_fork.stores import base, lock_record
from packer_fork.stores.archive.archive import Archive
from packer_fork.stores.base import TAKE_OVER, HeldLock
from packer_fork.stores.local import lock_status, mutex, queue
from packer_fork.stores.local.folder import Folder
from packer_fork.stores.local.layout import Layout

if TYPE_CHECKING:
    from packer_fork.stores.local.journal import Journal
    from packer_fork.stores.local.kernel_locks import KernelLocks
    from packer_fork.stores.local.reader import Reader


class LocalStore(Archive):
    """State and lock in a folder; safe for any number of threads and processes."""

    def __init__(
        self,
        folder: Path,
        *,
        root: Path,
        template: str,
        workspace: str,
        complain: mutex.Complain,
        project: Project | None = None,
        group: str = "",
    ) -> None:
        """`root` is the folder of all states that `folder` lies in; git is told to ignore it.

        `complain` is told, in one sentence, when the mutex is held unusually long. `project`
        uses the state; None asks for no project. `group` shares new folders.
        """
        self._layout = Layout(folder)
        self._folder = Folder(self._layout, root=root, complain=complain, group=group)
        self._template = template
        self._workspace = workspace
        self._project = project
        self._complain = complain

    @cached_property
    def _reader(self) -> Reader:
        """Made when the state is read: who asks for the lock alone need not import it."""
        from packer_fork.stores.local.reader import Reader

        return Reader(self._layout)

    @property
    def location(self) -> str:
        return str(self._layout.folder)

    @property
    def logs(self) -> Path:
        return self._layout.logs

    @property
    def _files(self) -> Layout:
        return self._layout

    def _readable(self) -> contextlib.AbstractContextManager[None]:
        return self._folder.readable()

    def status(self) -> LockStatus:
        with self._folder.readable():
            found = lock_status.status(self._layout)
            return base.with_waiters(found, queue.waiters(self._layout))

    def left_alive(self) -> tuple[int, ...]:
        record = lock_status.read_record(self._layout).record
        newest = record.token if record else 0
        known = self._layout.known_tokens()
        return tuple(n for n in known if n < newest and lock_status.is_alive(self._layout, n))

    def is_alive(self, token: int) -> bool:
        with self._folder.readable():
            return lock_status.is_alive(self._layout, token)

    def try_acquire(
        self,
        holder: Holder,
        *,
        over: frozenset[Status] = TAKE_OVER,
        lock_id: str = "",
        ticket: base.Ticket | None = None,
        max_participants: int = 1,
        even_damaged: bool = False,
    ) -> HeldLock | LockStatus:
        ours = ticket if isinstance(ticket, queue.Ticket) else None
        is_next = partial(self._is_next, ours)
        with self._folder.readable():
            found = lock_status.judge(self._layout)
        if base.may_take(found, over, lock_id, is_next):
            with self._folder.exclusively():
                found = lock_status.judge_once(self._layout)
                if base.may_take(found, over, lock_id, is_next):
                    if not lock_id:
                        queue.sweep(self._layout, before=ours.number if ours else None)
                    written = base.newest_token(self, even_damaged=even_damaged)
                    return self._take(holder, found, ours, written, max_participants)
        return found

    def join(self, holder: Holder, *, lock_id: str, inputs: str) -> HeldLock | None:
        from packer_fork.stores.local import kernel_locks

        with self._folder.exclusively():
            record = lock_status.read_record(self._layout).record
            if record is None or record.id != lock_id:
                return None
            dead = lock_steps.dead(lock_status.evidence(self._layout, record))
            joined = lock_steps.join(record, holder, inputs, dead)
            if joined is None:
                return None
            locks = kernel_locks.lock_newest(self._layout, joined, is_durable=True)
        return self._held(joined, locks, replaced=None)

    def expel(self, lock_id: str, participant: int, *, by: Actor, why: str) -> bool:
        with self._folder.exclusively():
            record = lock_status.read_record(self._layout).record
            if record is None or record.id != lock_id or not record.lists(participant):
                return False
            after = lock_steps.leave(record, participant, by)
            durable.replace(self._layout.lock, lock_record.encode(after))
            with contextlib.closing(self._journal()) as journal:
                draft = PendingChange(operation="force-unlock", why=why)
                journal.commit(draft, token=record.token, by=by)
        return True

    def join_queue(self, holder: Holder) -> base.Ticket:
        with self._folder.exclusively():
            record = lock_status.read_record(self._layout).record
            waiter = Waiter(holder=holder, since=datetime.now(UTC))
            ticket = queue.Ticket(self._layout, waiter, record.served if record else 0)
        ticket.arrive()
        return ticket

    def _is_next(self, ticket: queue.Ticket | None) -> bool:
        return queue.is_empty(self._layout) if ticket is None else ticket.before() is None

    def _take(
        self,
        holder: Holder,
        found: LockStatus,
        ticket: queue.Ticket | None,
        written: int,
        max_participants: int,
    ) -> HeldLock:
        """`written`: the newest token that the state knows of."""
        from packer_fork.stores.local import kernel_locks

        replaced = None if found.status is Status.FREE else found
        if replaced is not None:
            self._release_found(found, holder)
        last, old = found.record, self._layout.known_tokens()
        record = lock_steps.acquire(
            holder,
            max_participants=max_participants,
            token=1 + max(*old, last.token if last else 0, written, 0),
            served=max(last.served if last else 0, ticket.number if ticket else 0),
        )
        locks = kernel_locks.lock_newest(self._layout, record, is_durable=False)
        if ticket is not None:
            ticket.leave()
        for earlier in old:
            kernel_locks.forget(self._layout, earlier)
        return self._held(record, locks, replaced)

    def _held(
        self, record: LockRecord, locks: KernelLocks, replaced: LockStatus | None
    ) -> HeldLock:
        from packer_fork.stores.local.held_lock import LocalLock

        return LocalLock(
            self._layout,
            self._journal(),
            record,
            locks,
            replaced=replaced,
            complain=self._complain,
        )

    def _release_found(self, found: LockStatus, holder: Holder) -> None:
        """Release the lock found, durably: what its holder may still commit is refused."""
        if found.record is not None:
            why = f"{found.status}, taken over to {holder.operation}"
            released = lock_steps.release(found.record, holder.by, why)
            durable.replace(self._layout.lock, lock_record.encode(released))

    def _journal(self) -> Journal:
        from packer_fork.stores.local.journal import Journal

        return Journal(self._layout, self._empty, self._reader)

    def _empty(self) -> State:
        from packer_fork.stores.archive import next_change

        return next_change.first_state(self._template, self._workspace, self._project)
