"""Many machines share runs of nine sources while they, and whoever waits, are killed or frozen.

Each worker is a process that opens or joins a shared lock, takes sources one by one, and
hands them in, until all are done. Another process takes the lock for itself in between.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from packer_fork import lock_steps
from packer_fork.errors import LockLostError, StoreError
from packer_fork.lock_steps import MOST_PARTICIPANTS
from packer_fork.locks import Claim, Holder, LockRecord, LockStatus, Status
from packer_fork.manager.build import shared_run
from packer_fork.model import Build, PendingChange
from packer_fork.stores.access import Access
from packer_fork.stores.base import HeldLock, Store, Ticket
from stress import recorder
from stress.checker import (
    Acquired,
    AnyEvent,
    Committed,
    Ended,
    HandedIn,
    Joined,
    Kept,
    Killed,
    Released,
)
from stress.contender import Contender, queue_up
from stress.recorder import Recorder, now
from tests.conftest import eventually
from tests.support.forks import fork
from tests.support.local_store import holder
from tests.support.stores import Ground

SOURCES = tuple(f"s{number}" for number in range(1, 10))
INPUTS = "f" * 64
TTL = 1.0
"""Seconds; Consul may take twice as long."""

WORKERS = 4

_MACHINES = 3
"""Some workers share one, whose kernel tells them at once who is dead."""

_RECOVERY = 120
"""Seconds after a trouble within which a run is done, on a machine that does much else."""

_PAUSE = 0.02
_LOOK = 0.1
_IMPATIENT = Access(connect_timeout=0.3, request_timeout=0.8, retry_timeout=2)
_OF_CLAIM = re.compile(r"(?P<scope>\d+/\w+)#(?P<claim>\d+) .*")


class Site(Struct, frozen=True):
    """Where the state is, and who comes there."""

    ground: Ground
    record: Recorder

    @property
    def is_leased(self) -> bool:
        return bool(self.ground.endpoints)

    def open(self, machine: str) -> Store:
        return self.ground.open("runs", machine=machine, ttl=TTL, access=_IMPATIENT)

    def troubles(self) -> tuple[type[Exception], ...]:
        """What a worker may come to that was frozen for too long; in a folder that is never."""
        return (StoreError, LockLostError) if self.is_leased else ()


class SharedRuns:
    """Workers, and one that wants the lock for itself; each is replaced as it is killed."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        self._path = folder / "events"
        self._site = Site(ground, Recorder(self._path))
        self._read = 0
        self._done: set[int] = set()
        self._hands: dict[tuple[str, int], str] = {}
        self._newest: dict[str, int] = {}
        self._alive: dict[int, str] = {}
        self._alone = 0
        self._started = 0
        self._operator = self._site.open("operator")
        self.had: Counter[str] = Counter()

    def run(self, runs: int) -> None:
        """Raises AssertionError if a trouble is over and no run is done any more."""
        try:
            while self._ended() < runs:
                for trouble in random.sample(_TROUBLES, len(_TROUBLES)):
                    self._have(trouble)
        finally:
            for worker in list(self._alive):
                self._kill(worker)

    def events(self) -> list[AnyEvent]:
        return recorder.events(self._path)

    def kept(self) -> list[Kept]:
        """Every change that is found in the end, that of a claim in the claim's scope, too."""
        found = recorder.kept_in(self._operator.history())
        return [*found, *(each for change in found for each in _of_claim(change))]

    def problems(self) -> Iterator[str]:
        """What is wrong with what is stored, and with a lock that nobody holds any more."""
        lock = queue_up(self._operator, holder("last")).lock
        lock.compact()
        lock.close()
        yield from (f"{each.file}: {each.what}" for each in self._operator.verify().problems)
        marks = Counter(change.mark for change in self.kept() if change.scope)
        yield from (f"{mark} is there {times} times" for mark, times in marks.items() if times > 1)
        if self._operator.status().status is not Status.FREE:
            yield "the lock is not free"

    def _ended(self) -> int:
        """How many runs are done: the nine sources of each are handed in."""
        self._learn()
        return len(self._done)

    def _learn(self) -> None:
        """What was recorded since the last time."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read += len(whole)
        for event in msgspec.json.Decoder(AnyEvent).decode_lines(whole):
            if isinstance(event, Ended):
                self._done.add(event.token)
            elif isinstance(event, Acquired) and event.scope:
                self._hands[event.scope, event.token] = event.process
                self._newest[event.scope] = event.token
            elif isinstance(event, Released):
                self._hands.pop((event.scope, event.token), None)

    def _have(self, trouble: Trouble) -> None:
        """One trouble, or two at once; then runs are done again."""
        self._replace()
        time.sleep(random.uniform(0, 0.3))
        trouble(self)
        self.had[trouble.__name__] += 1
        enough = self._ended() + 1
        self._replace()
        eventually(lambda: self._all_live() and self._ended() >= enough, _RECOVERY)

    def _all_live(self) -> bool:
        """Raises AssertionError if somebody has ended whom nobody killed."""
        gone = [pid for pid in self._alive if os.waitpid(pid, os.WNOHANG)[0]]
        ended = [self._alive.pop(pid) for pid in gone]
        assert not ended, f"{ended} ended by themselves"
        return True

    def _replace(self) -> None:
        if self._alone not in self._alive:
            self._alone = self._start(_contend)
        while len(self._alive) <= WORKERS:
            self._start(_work)

    def _start(self, work: Callable[[Site, str, float], None]) -> int:
        self._started += 1
        name = f"w{self._started}"
        pid = fork(partial(work, self._site, name, random.random()))
        self._alive[pid] = name
        return pid

    def _kill(self, pid: int) -> None:
        at = now()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._site.record.note(Killed(process=self._alive.pop(pid), at=at))

    def _some(self, count: int, *, but: int = 0) -> list[int]:
        """Workers."""
        return random.sample([p for p in self._alive if p not in (self._alone, but)], count)

    def killed(self) -> None:
        for worker in self._some(random.randint(1, 2)):
            self._kill(worker)

    def frozen(self) -> None:
        """With a source in its hands; mostly until another has taken that over, if it may."""
        with self._frozen_at_work() as (_, scope, claim):
            until = time.monotonic() + (random.uniform(1, 4) * TTL if self._site.is_leased else 0.1)
            while time.monotonic() < until and not self._is_taken_over(scope, claim):
                time.sleep(_PAUSE)

    def last_one_frozen(self) -> None:
        """It has the lock for all, until its lease ends; somebody waits who looks once a second."""
        with self._frozen_at_work() as (worker, _, _):
            for other in self._some(WORKERS - 1, but=worker):
                self._kill(other)
            time.sleep(random.uniform(0.5, 2.5) * TTL)

    @contextlib.contextmanager
    def _frozen_at_work(self) -> Iterator[tuple[int, str, int]]:
        """A worker, and what it has in its hands."""
        stopped = eventually(self._stopped_at_work, _RECOVERY)
        assert stopped is not None
        worker, (scope, claim) = stopped
        yield worker, scope, claim
        os.kill(worker, signal.SIGCONT)

    def _stopped_at_work(self) -> tuple[int, tuple[str, int]] | None:
        (worker,) = self._some(1)
        os.kill(worker, signal.SIGSTOP)
        self._learn()
        for part, process in self._hands.items():
            if process == self._alive[worker]:
                return worker, part
        os.kill(worker, signal.SIGCONT)
        return None

    def _is_taken_over(self, scope: str, claim: int) -> bool:
        self._learn()
        return self._newest[scope] > claim

    def killed_alone(self) -> None:
        """It waits for the lock, or has it for itself."""
        self._kill(self._alone)


Trouble = Callable[[SharedRuns], None]

_TROUBLES: tuple[Trouble, ...] = (
    SharedRuns.killed,
    SharedRuns.frozen,
    SharedRuns.frozen,
    SharedRuns.last_one_frozen,
    SharedRuns.killed_alone,
)


def unfinished(events: list[AnyEvent]) -> list[str]:
    """Runs of which a source was not handed in exactly once."""
    ends = {(event.token, event.done) for event in events if isinstance(event, Ended)}
    return [
        f"run {lock} ended with {', '.join(done)}"
        for lock, done in sorted(ends)
        if sorted(done) != sorted(SOURCES)
    ]


def _of_claim(change: Kept) -> Iterator[Kept]:
    """The same change as one of the claim that its mark names."""
    found = _OF_CLAIM.fullmatch(change.mark)
    if found:
        yield structs.replace(change, scope=found["scope"], token=int(found["claim"]))


def _holder_on(machine: str) -> Holder:
    """Somebody whose processes nobody elsewhere can look for."""
    here = holder("share")
    return structs.replace(here, process=structs.replace(here.process, boot=machine))


def _contend(site: Site, name: str, seed: float) -> None:
    """Take the lock for oneself, in turn, again and again."""
    random.seed(seed)
    parent = os.getppid()
    me = Contender(site.open(name), site.record, _holder_on(name))
    me.name = name
    while os.getppid() == parent:
        with contextlib.suppress(*site.troubles()):
            lock = me.enter()
            if lock is not None:
                try:
                    me.change(lock)
                finally:
                    me.leave(lock)
        time.sleep(random.uniform(0, 0.2))


def _work(site: Site, name: str, seed: float) -> None:
    random.seed(seed)
    parent = os.getppid()
    machine = f"m{random.randrange(_MACHINES)}"
    worker = Worker(site.open(machine), site.record, _holder_on(machine), name)
    while os.getppid() == parent:
        with contextlib.suppress(*site.troubles()):  # another has gone on with the run
            worker.take_part()
        time.sleep(_PAUSE)  # the servers share their processors with us


class Worker:
    """One machine in one run after the other, every step on record."""

    def __init__(self, store: Store, record: Recorder, asking: Holder, name: str) -> None:
        self._store = store
        self._note = record.note
        self._holder = asking
        self._name = name
        self._changes = 0

    def take_part(self) -> None:
        """In one run, until all of its sources are done."""
        lock = self._enter()
        if lock is None:
            return
        number = lock.record.token
        try:
            if lock.participant.number == 1:
                _open(lock)
            while not lock_steps.is_complete((looked := lock.look())[0]):
                for source in _free(lock, *looked):  # or no more, as time goes by
                    self._build(lock, source)
                time.sleep(_PAUSE)
            self._note(Ended(token=number, done=looked[0].done))
        finally:
            self._note(Released(token=number, at=now(), process=self._name))
            lock.close()

    def _enter(self) -> HeldLock | None:
        """Open a run in turn, or join the one that is open."""
        if (entered := self._attempt(None)) is not None:
            return entered
        parent, ticket = os.getppid(), self._store.join_queue(self._holder)
        try:
            while (entered := self._attempt(ticket)) is None and os.getppid() == parent:
                ticket.wait(_LOOK)
        finally:
            ticket.leave()
        return entered

    def _attempt(self, ticket: Ticket | None) -> HeldLock | None:
        asked = now()
        found = self._store.try_acquire(
            self._holder, ticket=ticket, max_participants=MOST_PARTICIPANTS
        )
        if not isinstance(found, LockStatus):
            number, lock, got = found.record.token, found.record.id, now()
            self._note(Acquired(token=number, lock=lock, process=self._name, asked=asked, got=got))
            return found
        if found.record is None or found.record.released:
            return None
        joined = self._store.join(self._holder, lock_id=found.id, inputs=INPUTS)
        if joined is not None:
            self._note(Joined(token=joined.record.token, process=self._name))
        return joined

    def _build(self, lock: HeldLock, source: str) -> None:
        """If nobody else has it."""
        asked, number = now(), lock.participant.number
        share = lock.update(lambda s, dead: lock_steps.claim(s, source, number, dead))
        if share is None:
            return
        part = _Part(lock, share.claims[-1])
        self._note(
            Acquired(
                scope=part.scope,
                token=part.claim.number,
                lock=f"{lock.record.token}#{part.claim.number}",
                process=self._name,
                asked=asked,
                got=now(),
            )
        )
        for _ in range(random.randrange(1, 4)):
            time.sleep(random.uniform(0, 0.01))
            self._change(part)
        self._note(Released(scope=part.scope, token=part.claim.number, at=now()))
        self._let_go(part)

    def _change(self, part: _Part) -> None:
        """A change is one of the claim, and one of the whole lock."""
        mark, begun = f"{part.scope}#{part.claim.number} {self._name}.{self._changes}", now()
        self._changes += 1
        name = part.claim.source
        draft = PendingChange(
            operation="share", why=mark, builds={name: Build(name=name, error=mark)}
        )
        serial, acknowledged = part.lock.commit(draft).serial, now()
        for scope, number in ((part.scope, part.claim.number), ("", part.lock.record.token)):
            self._note(
                Committed(
                    scope=scope,
                    token=number,
                    serial=serial,
                    mark=mark,
                    begun=begun,
                    acknowledged=acknowledged,
                )
            )

    def _let_go(self, part: _Part) -> None:
        """Mostly it is done; what was cancelled is for others."""
        source, member = part.claim.source, part.lock.participant.number
        if random.random() < 0.1:
            part.lock.update(lambda share, _: lock_steps.return_claim(share, source, member))
        else:
            part.lock.update(lambda share, _: lock_steps.complete(share, source, member))
            self._note(HandedIn(scope=part.scope, token=part.claim.number))


class _Part(Struct, frozen=True):
    """A source in our hands."""

    lock: HeldLock
    claim: Claim

    @property
    def scope(self) -> str:
        return f"{self.lock.record.token}/{self.claim.source}"


def _open(lock: HeldLock) -> None:
    """Let others join the run, whose number is that of the lock."""
    run = lock.record.token
    lock.update(lambda share, _: lock_steps.admit(share, inputs=INPUTS, run=run, wanted=SOURCES))


def _free(lock: HeldLock, share: LockRecord, dead: frozenset[int]) -> list[str]:
    free = shared_run.unclaimed(share, dead, lock.participant.number)
    return random.sample(free, len(free))
