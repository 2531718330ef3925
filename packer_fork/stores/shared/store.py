"""The shared store: joins journal, lock and queue into ``stores.base.Store``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from msgspec import Struct, structs

from packer_fork import lock_steps
from packer_fork.errors import StoreError
from packer_fork.locks import Holder, LockRecord, LockStatus, Status, Waiter
from packer_fork.model import Actor, PendingChange, Project
from packer_fork.stores import base
from packer_fork.stores.archive import next_change
from packer_fork.stores.archive.archive import Archive
from packer_fork.stores.base import TAKE_OVER, HeldLock
from packer_fork.stores.shared import lock_status, names, queue
from packer_fork.stores.shared.companion import Companion
from packer_fork.stores.shared.files import SharedFiles
from packer_fork.stores.shared.high_water import HighWaterMark
from packer_fork.stores.shared.keys import Keys
from packer_fork.stores.shared.lease import Lease
from packer_fork.stores.shared.reader import SharedReader

_ATTEMPTS = 200
"""How often a step is tried again on a lock that others have changed."""


class Terms(Struct, frozen=True, kw_only=True):
    """``ttl``: seconds after which an abandoned lock goes by itself. ``surely``: a lease that
    could not be renewed for two thirds of that counts as lost. ``project`` uses the state; None
    asks for no project.
    """

    ttl: float = 60.0
    surely: bool = False
    project: Project | None = None


class SharedStore(Archive):
    """State and lock under a prefix of etcd, Consul or a bucket."""

    def __init__(
        self,
        keys: Keys,
        renewals: Keys,
        companion: Companion,
        *,
        template: str,
        workspace: str,
        terms: Terms,
        register: Callable[[], None],
    ) -> None:
        """`renewals` asks the same servers, at once and once only, to renew leases.

        `register` lets others know that there is this state; it is called before the first
        acquisition.
        """
        self._keys = keys
        self._renewals = renewals
        self._companion = companion
        self._start = partial(next_change.first_state, template, workspace, terms.project)
        self._terms = terms
        self._register = register
        self._project = terms.project
        self._state_reader = SharedReader(keys, HighWaterMark(companion.layout.acked))
        self._state_files = SharedFiles(keys, self._state_reader)

    @property
    def _files(self) -> SharedFiles:
        return self._state_files

    @property
    def _reader(self) -> SharedReader:
        return self._state_reader

    @property
    def location(self) -> str:
        return self._keys.location

    @property
    def logs(self) -> Path:
        return self._companion.layout.logs

    def status(self) -> LockStatus:
        found = lock_status.judge(self._keys, lock_status.read(self._keys), self._companion)
        if found.record is not None:
            found = structs.replace(found, processes=self._companion.processes(found.record))
        return base.with_waiters(found, queue.waiters(self._keys))

    def left_alive(self) -> tuple[int, ...]:
        record = lock_status.read(self._keys).record
        return self._companion.left_alive(record.token if record else 0)

    def is_alive(self, token: int) -> bool:
        return self._companion.is_alive(token)

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
        while True:
            found = lock_status.read(self._keys)
            status = lock_status.judge(self._keys, found, self._companion)
            if not base.may_take(status, over, lock_id, partial(self._is_next, ours)):
                return status
            self._companion.make_sure()
            last = found.record.token if found.record else 0
            written = base.newest_token(self, even_damaged=even_damaged)
            record = lock_steps.acquire(
                holder,
                token=1 + max(last, written, self._companion.newest()),
                max_participants=max_participants,
                lease=self._terms.ttl,
            )
            replaced = None if status.status is Status.FREE else status
            if taken := self._take(found, record, replaced, ours):
                return taken

    def join(self, holder: Holder, *, lock_id: str, inputs: str) -> HeldLock | None:
        from packer_fork.stores.shared import held_lock

        self._companion.make_sure()
        lease = self._leased()
        try:
            for _ in range(_ATTEMPTS):
                found = lock_status.read(self._keys)
                joined = self._joined(found, holder, lock_id, inputs)
                if joined is None:
                    lease.close()
                    return None
                revision = held_lock.enter(self._keys, found, joined, lease)
                if revision:
                    return self._held(joined, revision, lease, replaced=None)
        except BaseException:
            lease.stop()
            raise
        lease.close()
        raise self._unsettled()

    def _joined(
        self, found: lock_status.Found, holder: Holder, lock_id: str, inputs: str
    ) -> LockRecord | None:
        if found.record is None or found.id != lock_id:
            return None
        evidence = lock_status.evidence(self._keys, found, self._companion, closely=False)
        return lock_steps.join(found.record, holder, inputs, lock_steps.dead(evidence))

    def expel(self, lock_id: str, participant: int, *, by: Actor, why: str) -> bool:
        from packer_fork.stores.shared import held_lock
        from packer_fork.stores.shared.journal import SharedJournal

        for _ in range(_ATTEMPTS):
            found = lock_status.read(self._keys)
            record = found.record
            if record is None or record.id != lock_id or not record.lists(participant):
                return False
            after = lock_steps.leave(record, participant, by)
            if held_lock.expel(self._keys, found, after, participant):
                unfenced = held_lock.Unfenced()
                journal = SharedJournal(self._keys, self._start, self._reader, unfenced)
                draft = PendingChange(operation="force-unlock", why=why)
                journal.commit(draft, token=record.token, by=by)
                return True
        raise self._unsettled()

    def _unsettled(self) -> StoreError:
        return StoreError(f"{self.location}/{names.LOCK} never stands still for a change.")

    def join_queue(self, holder: Holder) -> base.Ticket:
        queue.sweep(self._keys)
        waiter = Waiter(holder=holder, since=datetime.now(UTC))
        lease = self._leased()
        try:
            return queue.Ticket(self._keys, waiter, lease)
        except BaseException:
            lease.close()  # all would wait for a ticket that is in the queue and renewed
            raise

    def _leased(self) -> Lease:
        return Lease(self._keys, self._renewals, self._terms.ttl)

    def _is_next(self, ticket: queue.Ticket | None) -> bool:
        return not queue.tickets(self._keys) if ticket is None else ticket.before() is None

    def _take(
        self,
        found: lock_status.Found,
        record: LockRecord,
        replaced: LockStatus | None,
        ticket: queue.Ticket | None,
    ) -> HeldLock | None:
        """Put `record` in the place of what was found; None if another process was faster."""
        from packer_fork.stores.shared import held_lock

        if found.lock is None:
            self._register()
        lease = ticket.lease if ticket and ticket.lease else self._leased()
        gone = [item.key for item in found.leased.values()]
        gone += [ticket.key] if ticket is not None else []
        try:
            revision = held_lock.enter(self._keys, found, record, lease, gone)
        except BaseException:
            if ticket is None:
                lease.stop()
            raise
        if not revision:
            if ticket is None:
                lease.close()
            return None
        if ticket is not None:
            ticket.hand_over()
        return self._held(record, revision, lease, replaced)

    def _held(
        self, record: LockRecord, revision: int, lease: Lease, replaced: LockStatus | None
    ) -> HeldLock:
        from packer_fork.stores.shared.held_lock import ParticipantKey, SharedLock

        key = ParticipantKey(self._keys, record, revision, lease, self._companion)
        try:
            kernel_locks = self._companion.open(record)
        except BaseException:
            key.close()
            raise
        return SharedLock(
            key,
            kernel_locks,
            self._reader,
            self._start,
            replaced=replaced,
            surely=self._terms.surely,
        )
