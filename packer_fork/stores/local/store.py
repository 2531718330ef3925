"""The local store: joins journal, probe and tenure into ``stores.base.Store``."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from msgspec import structs

from packer_fork import durable, sharing
from packer_fork.locks import Closing, Holder, LockRecord, LockStatus, Share, Verdict, Waiter
from packer_fork.model import Actor, Draft, State
from packer_fork.stores import base
from packer_fork.stores.base import TAKE_OVER, Tenure
from packer_fork.stores.local import mutex, probe, queue
from packer_fork.stores.local.folder import Folder
from packer_fork.stores.local.layout import Layout

if TYPE_CHECKING:
    from packer_fork.responses import Backup, Salvage, Verified
    from packer_fork.stores.local.journal import Journal
    from packer_fork.stores.local.reader import Reader
    from packer_fork.stores.local.tenure import KernelLocks


T = TypeVar("T")


class _Taken(NamedTuple):
    """What a tenure is made of."""

    parts: tuple[Layout, Journal, LockRecord, KernelLocks]
    replaced: LockStatus | None


class LocalStore:
    """State and lock in a folder; safe for any number of threads and processes."""

    def __init__(
        self,
        folder: Path,
        *,
        root: Path,
        template: str,
        workspace: str,
        complain: mutex.Complain,
    ) -> None:
        """`root` is the folder of all states that `folder` lies in; git is told to ignore it.

        `complain` is told, in one sentence, when the mutex is held unusually long.
        """
        self._layout = Layout(folder)
        self._folder = Folder(self._layout, root=root, complain=complain)
        self._template = template
        self._workspace = workspace
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

    def read(self) -> State | None:
        with self._folder.readable():
            file = self._reader.read()
        return file.state if file else None

    def history(self) -> Iterator[base.Stretch]:
        from packer_fork.stores.archive import stretches

        with self._folder.readable():
            yield from stretches.stretches(self._layout, self._reader)

    def segments(self, state: State) -> Iterator[tuple[str, bytes]]:
        from packer_fork.stores.archive import history

        with self._folder.readable():
            for sealed in history.chain(self._layout, state):
                yield sealed.segment, history.read_bytes(self._layout, sealed)

    def backups(self) -> tuple[Backup, ...]:
        from packer_fork.stores.archive import backups

        with self._folder.readable():
            return backups.found(self._layout)

    def read_backup(self, path: str) -> bytes | None:
        from packer_fork.stores.archive import backups

        with self._folder.readable():
            return backups.bytes_of(self._layout, path)

    def verify(self) -> Verified:
        from packer_fork.stores.archive import verify

        with self._folder.readable():
            return verify.verify(self._layout, self._reader)

    def salvage(self) -> Salvage:
        from packer_fork.stores.archive import salvage

        with self._folder.readable():
            return salvage.salvage(self._layout, self._reader)

    def status(self) -> LockStatus:
        with self._folder.readable():
            found = probe.status(self._layout)
            return base.with_waiters(found, queue.waiters(self._layout))

    def left_alive(self) -> tuple[int, ...]:
        record = probe.read_record(self._layout).record
        newest = record.tenure if record else 0
        known = self._layout.known_tenures()
        return tuple(n for n in known if n < newest and probe.is_alive(self._layout, n))

    def is_alive(self, tenure: int) -> bool:
        return probe.is_alive(self._layout, tenure)

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

        def take(found: LockStatus) -> Tenure:
            from packer_fork.stores.local.tenure import LocalTenure

            taken = self._take(holder, found, ours, even_damaged=even_damaged, share=None)
            return LocalTenure(*taken.parts, replaced=taken.replaced, complain=self._complain)

        return self._try(over, lock_id, ours, take)

    def try_share(
        self,
        holder: Holder,
        *,
        over: frozenset[Verdict] = TAKE_OVER,
        ticket: base.Ticket | None = None,
    ) -> base.Membership | LockStatus:
        ours = ticket if isinstance(ticket, queue.Ticket) else None

        def take(found: LockStatus) -> base.Membership:
            share = sharing.begun(holder)
            taken = self._take(holder, found, ours, even_damaged=False, share=share)
            return self._member(taken)

        return self._try(over, "", ours, take)

    def join(self, holder: Holder, *, lock_id: str, inputs: str) -> base.Membership | None:
        from packer_fork.stores.local import membership

        with self._folder.exclusively():
            found = membership.join(self._layout, holder, lock_id, inputs)
        if found is None:
            return None
        record, locks = found
        return self._member(_Taken((self._layout, self._journal(), record, locks), None))

    def expel(self, lock_id: str, member: int, *, by: Actor, why: str) -> bool:
        from packer_fork.stores.local import membership

        with self._folder.exclusively():
            record = membership.expel(self._layout, lock_id, member, by)
            if record is not None:
                draft = Draft(operation="force-unlock", why=why)
                with contextlib.closing(self._journal()) as journal:
                    journal.commit(draft, tenure=record.tenure, by=by)
        return record is not None

    def _member(self, taken: _Taken) -> base.Membership:
        from packer_fork.stores.local.membership import LocalMembership

        return LocalMembership(*taken.parts, replaced=taken.replaced, complain=self._complain)

    def _try(
        self,
        over: frozenset[Verdict],
        lock_id: str,
        ticket: queue.Ticket | None,
        take: Callable[[LockStatus], T],
    ) -> T | LockStatus:
        is_next = partial(self._is_next, ticket)
        found = probe.judge(self._layout)
        if base.may_take(found, over, lock_id, is_next):
            with self._folder.exclusively():
                found = probe.judge_once(self._layout)
                if base.may_take(found, over, lock_id, is_next):
                    if not lock_id:
                        queue.sweep(self._layout, before=ticket.number if ticket else None)
                    return take(found)
        return found

    def join_queue(self, holder: Holder) -> base.Ticket:
        with self._folder.exclusively():
            record = probe.read_record(self._layout).record
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
        *,
        even_damaged: bool,
        share: Share | None,
    ) -> _Taken:
        from packer_fork.stores.local import tenure

        written = base.newest_tenure(self, even_damaged=even_damaged)
        replaced = None if found.verdict is Verdict.FREE else found
        if replaced is not None:
            self._close_found(found, holder)
        last, old = found.record, self._layout.known_tenures()
        record = LockRecord(
            id=str(uuid.uuid4()),
            tenure=1 + max(*old, last.tenure if last else 0, written, 0),
            holder=holder,
            created=datetime.now(UTC),
            served=max(last.served if last else 0, ticket.number if ticket else 0),
            share=share,
        )
        locks = tenure.open_tenure(self._layout, record, 1 if share else 0)
        if ticket is not None:
            ticket.leave()
        for earlier in old:
            tenure.forget(self._layout, earlier)
        return _Taken((self._layout, self._journal(), record, locks), replaced)

    def _close_found(self, found: LockStatus, holder: Holder) -> None:
        """Close the tenure found, durably: what it may still try to commit is refused."""
        if found.record is not None:
            why = f"{found.verdict}, taken over to {holder.operation}"
            closing = Closing(at=datetime.now(UTC), by=holder.by, why=why)
            closed = structs.replace(found.record, closed=closing)
            durable.replace(self._layout.lock, probe.encode_record(closed))

    def _journal(self) -> Journal:
        from packer_fork.stores.local.journal import Journal

        return Journal(self._layout, self._empty, self._reader)

    def _empty(self) -> State:
        from packer_fork.stores.archive import making

        return making.first_state(self._template, self._workspace)
