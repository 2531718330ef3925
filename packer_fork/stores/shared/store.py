"""The shared store: joins journal, probe, queue and tenure into ``stores.base.Store``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec import Struct, structs

from packer_fork import sharing
from packer_fork.locks import Holder, LockRecord, LockStatus, Share, Verdict, Waiter
from packer_fork.model import Actor, Draft, State
from packer_fork.responses import Backup, Salvage, Verified
from packer_fork.stores import base
from packer_fork.stores.archive import making
from packer_fork.stores.base import TAKE_OVER, Tenure
from packer_fork.stores.shared import opening, probe, queue
from packer_fork.stores.shared.companion import Companion
from packer_fork.stores.shared.files import SharedFiles
from packer_fork.stores.shared.keys import Keys
from packer_fork.stores.shared.lease import Lease
from packer_fork.stores.shared.reader import SharedReader

T = TypeVar("T")


class Terms(Struct, frozen=True, kw_only=True):
    """``ttl``: seconds after which an abandoned lock goes by itself. ``surely``: a lease that
    could not be renewed for two thirds of that counts as lost.
    """

    ttl: float = 60.0
    surely: bool = False


class SharedStore:
    """State and lock under a prefix of etcd or Consul."""

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
        tenure.
        """
        self._keys = keys
        self._renewals = renewals
        self._companion = companion
        self._start = partial(making.first_state, template, workspace)
        self._terms = terms
        self._register = register
        self._reader = SharedReader(keys)
        self._files = SharedFiles(keys, self._reader)

    @property
    def location(self) -> str:
        return self._keys.location

    @property
    def logs(self) -> Path:
        return self._companion.layout.logs

    def read(self) -> State | None:
        file = self._reader.read()
        return file.state if file else None

    def history(self) -> Iterator[base.Stretch]:
        from packer_fork.stores.archive import stretches

        return stretches.stretches(self._files, self._reader)

    def segments(self, state: State) -> Iterator[tuple[str, bytes]]:
        from packer_fork.stores.archive import history

        for sealed in history.chain(self._files, state):
            yield sealed.segment, history.read_bytes(self._files, sealed)

    def backups(self) -> tuple[Backup, ...]:
        from packer_fork.stores.archive import backups

        return backups.found(self._files)

    def read_backup(self, path: str) -> bytes | None:
        from packer_fork.stores.archive import backups

        return backups.bytes_of(self._files, path)

    def verify(self) -> Verified:
        from packer_fork.stores.archive import verify

        return verify.verify(self._files, self._reader)

    def salvage(self) -> Salvage:
        from packer_fork.stores.archive import salvage

        return salvage.salvage(self._files, self._reader)

    def status(self) -> LockStatus:
        found = probe.judge(self._keys, probe.look(self._keys), self._companion)
        if found.record is not None and found.verdict is not Verdict.FREE:
            found = structs.replace(found, processes=self._companion.processes(found.record))
        return base.with_waiters(found, queue.waiters(self._keys))

    def left_alive(self) -> tuple[int, ...]:
        record = probe.look(self._keys).record
        return self._companion.left_alive(record.tenure if record else 0)

    def is_alive(self, tenure: int) -> bool:
        return self._companion.is_alive(tenure)

    def try_acquire(
        self,
        holder: Holder,
        *,
        over: frozenset[Verdict] = TAKE_OVER,
        lock_id: str = "",
        ticket: base.Ticket | None = None,
        even_damaged: bool = False,
    ) -> Tenure | LockStatus:
        ours = ticket if isinstance(ticket, queue.Ticket) else None

        def take(found: probe.Found, status: LockStatus) -> Tenure | None:
            taken = self._take(holder, found, ours, even_damaged=even_damaged, share=None)
            return self._open(*taken, status) if taken else None

        return self._try(over, lock_id, ours, take)

    def try_share(
        self,
        holder: Holder,
        *,
        over: frozenset[Verdict] = TAKE_OVER,
        ticket: base.Ticket | None = None,
    ) -> base.Membership | LockStatus:
        ours = ticket if isinstance(ticket, queue.Ticket) else None

        def take(found: probe.Found, status: LockStatus) -> base.Membership | None:
            share = sharing.begun(holder)
            taken = self._take(holder, found, ours, even_damaged=False, share=share)
            return self._member(*taken, status) if taken else None

        return self._try(over, "", ours, take)

    def join(self, holder: Holder, *, lock_id: str, inputs: str) -> base.Membership | None:
        from packer_fork.stores.shared import membership

        self._companion.make_sure()
        lease = self._leased()
        try:
            record = membership.join(
                self._keys, self._companion, holder, lease, lock_id=lock_id, inputs=inputs
            )
        except BaseException:
            lease.stop()
            raise
        if record is None:
            lease.close()
            return None
        return self._member(record, lease, None)

    def expel(self, lock_id: str, member: int, *, by: Actor, why: str) -> bool:
        from packer_fork.stores.shared import membership
        from packer_fork.stores.shared.journal import SharedJournal
        from packer_fork.stores.shared.tenure import Unfenced

        record = membership.expel(self._keys, lock_id, member, by)
        if record is not None:
            journal = SharedJournal(self._keys, self._start, self._reader, Unfenced())
            draft = Draft(operation="force-unlock", why=why)
            journal.commit(draft, tenure=record.tenure, by=by)
        return record is not None

    def _try(
        self,
        over: frozenset[Verdict],
        lock_id: str,
        ticket: queue.Ticket | None,
        take: Callable[[probe.Found, LockStatus], T | None],
    ) -> T | LockStatus:
        while True:
            found = probe.look(self._keys)
            status = probe.judge(self._keys, found, self._companion)
            if not base.may_take(status, over, lock_id, partial(self._is_next, ticket)):
                return status
            self._companion.make_sure()
            taken = take(found, status)
            if taken is not None:
                return taken

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
        holder: Holder,
        found: probe.Found,
        ticket: queue.Ticket | None,
        *,
        even_damaged: bool,
        share: Share | None,
    ) -> tuple[LockRecord, Lease] | None:
        """None if somebody was faster."""
        last = found.record.tenure if found.record else 0
        written = base.newest_tenure(self, even_damaged=even_damaged)
        if found.lock is None:
            self._register()
        lease = ticket.lease if ticket and ticket.lease else self._leased()
        record = LockRecord(
            id=str(uuid.uuid4()),
            tenure=1 + max(last, written, self._companion.newest()),
            holder=holder,
            created=datetime.now(UTC),
            lease=self._terms.ttl,
            share=share,
        )
        try:
            if not opening.opened(self._keys, record, found, lease, ticket):
                if ticket is None:
                    lease.close()
                return None
        except BaseException:
            if ticket is None:
                lease.stop()
            raise
        if ticket is not None:
            ticket.hand_over()
        return record, lease

    def _open(self, record: LockRecord, lease: Lease, found: LockStatus) -> Tenure:
        from packer_fork.stores.shared.tenure import Hold, SharedTenure

        hold = Hold(self._keys, record, lease)
        try:
            held = self._companion.open(record)
        except BaseException:
            hold.close()
            raise
        return SharedTenure(
            self._keys,
            hold,
            held,
            self._reader,
            self._start,
            replaced=None if found.verdict is Verdict.FREE else found,
            surely=self._terms.surely,
        )

    def _member(
        self, record: LockRecord, lease: Lease, found: LockStatus | None
    ) -> base.Membership:
        """Of the newest member that `record` names."""
        from packer_fork.stores.shared.membership import MemberHold, SharedMembership

        hold = MemberHold(self._keys, record, lease, self._companion)
        try:
            held = self._companion.open(record, hold.number)
        except BaseException:
            hold.close()
            raise
        return SharedMembership(
            self._keys,
            hold,
            held,
            self._reader,
            self._start,
            replaced=None if found is None or found.verdict is Verdict.FREE else found,
            surely=self._terms.surely,
        )
