"""Many machines contend for one shared lock while the servers, and they themselves, fail.

Each worker is a process that believes to be a machine of its own. What happens to them and
to the three servers is drawn at random, one trouble after another.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from msgspec import Struct, structs

from packer_fork.errors import LockLostError, StoreError
from packer_fork.locks import Holder, LockStatus, Status
from packer_fork.stores.access import Access
from packer_fork.stores.base import Store
from stress import recorder
from stress.checker import Acquired, AnyEvent, Closed, Kept
from stress.contender import Contender, queue_up
from stress.recorder import Recorder, now
from tests.conftest import eventually
from tests.support.forks import fork
from tests.support.local_store import holder
from tests.support.servers import Cluster, Network, Server
from tests.support.stores import Ground

TTL = 1.0
"""Seconds; Consul may take twice as long."""

WORKERS = 5

_BETWEEN = 15
"""Locks between two faults at the least."""

_LASTS = (0.2, 3.0)
"""Times of a lease that troubles last: some longer than any retry timeout."""

_RECOVERY = 120
"""Seconds after a trouble within which they are had, on a machine that does much else."""

_PAUSE = 0.02

_IMPATIENT = Access(connect_timeout=0.3, request_timeout=0.8, retry_timeout=2)
_WHATEVER = frozenset(Status) - {Status.FREE}


class Site(Struct, frozen=True):
    """Three servers in a network of their own, and where the states are."""

    ground: Ground
    cluster: Cluster
    network: Network

    def open(self, machine: str) -> Store:
        return self.ground.open("chaos", machine=machine, ttl=TTL, access=_IMPATIENT)


class SharedChaos:
    """Workers that are replaced as they are killed, until enough locks were had."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._site = site
        self._path = folder / "events"
        self._record = Recorder(self._path)
        self._workers: list[int] = []
        self._machines = 0
        self._operator = site.open("operator")
        self.had: Counter[str] = Counter()

    def run(self, locks: int) -> None:
        """Raises AssertionError if a trouble is over and the lock is not had again."""
        try:
            while self._held() < locks:
                for trouble in (random.choice(_OF_SERVERS), *_shuffled(_OF_MACHINES)):
                    self._have(trouble)
                self._have(random.choice(_OF_SERVERS), *_shuffled(_OF_MACHINES))
        finally:
            while self._workers:
                self._kill(self._workers[0])

    def events(self) -> list[AnyEvent]:
        return recorder.events(self._path)

    def kept(self) -> list[Kept]:
        """Every change that is found in the end."""
        return recorder.kept_in(self._operator.history())

    def problems(self) -> Iterator[str]:
        """What is wrong with what is stored, and with a lock that nobody holds any more."""
        lock = queue_up(self._operator, holder("last")).lock
        lock.compact()
        lock.close()
        yield from (f"{each.file}: {each.what}" for each in self._operator.verify().problems)
        marks = Counter(change.mark for change in self.kept())
        yield from (f"{mark} is there {times} times" for mark, times in marks.items() if times > 1)
        if self._operator.status().status is not Status.FREE:
            yield "the lock is not free"

    def _held(self) -> int:
        events = recorder.events_so_far(self._path)
        return sum(isinstance(event, Acquired) for event in events)

    def _have(self, *troubles: Trouble) -> None:
        """All of them at the same time, for a while."""
        while len(self._workers) < WORKERS:
            self._start()
        time.sleep(random.uniform(0, 0.2))
        with contextlib.ExitStack() as had:
            for trouble in troubles:
                had.enter_context(trouble(self))
            time.sleep(random.uniform(*_LASTS) * TTL)
        names = [trouble.__name__ for trouble in troubles]
        self.had.update(names)
        enough = self._held() + _BETWEEN
        try:
            eventually(lambda: self._held() >= enough, _RECOVERY)
        except AssertionError as error:
            error.add_note(f"after {', '.join(names)}: {self._operator.status()}")
            raise
        assert not any(map(_has_ended, self._workers)), "a worker failed, and has said why"

    def _start(self) -> None:
        self._machines += 1
        machine, seed = f"m{self._machines}", random.random()
        self._workers.append(fork(partial(_work, self._site, self._record, machine, seed)))

    def _kill(self, worker: int) -> None:
        self._workers.remove(worker)
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)

    @contextlib.contextmanager
    def worker_killed(self) -> Iterator[None]:
        self._kill(random.choice(self._workers))
        yield

    @contextlib.contextmanager
    def worker_frozen(self) -> Iterator[None]:
        worker = random.choice(self._workers)
        os.kill(worker, signal.SIGSTOP)
        yield
        if worker in self._workers:  # else it was killed, too
            os.kill(worker, signal.SIGCONT)

    @contextlib.contextmanager
    def leader_cut_off(self) -> Iterator[None]:
        with self._cut_off(self._site.cluster.leader()):
            yield

    @contextlib.contextmanager
    def two_cut_off(self) -> Iterator[None]:
        """Nobody has a majority."""
        one, other = random.sample(self._site.cluster.servers, 2)
        with self._cut_off(one), self._cut_off(other):
            yield

    @contextlib.contextmanager
    def leader_frozen(self) -> Iterator[None]:
        leader = self._site.cluster.leader()
        leader.freeze()
        yield
        leader.thaw()

    @contextlib.contextmanager
    def leader_killed(self) -> Iterator[None]:
        leader = self._site.cluster.leader()
        leader.kill()
        yield
        leader.start()
        leader.await_ready()

    @contextlib.contextmanager
    def lock_forced(self) -> Iterator[None]:
        """By an operator who passes over whoever lives, compacts, and keeps it for a while."""
        with contextlib.ExitStack() as kept:
            with contextlib.suppress(StoreError):  # somebody may be faster, too
                found, asked = self._operator.status(), now()
                lock = self._operator.try_acquire(
                    holder("unlock"), over=_WHATEVER, lock_id=found.id or "none"
                )
                if not isinstance(lock, LockStatus) and found.record is not None:
                    kept.callback(lock.close)
                    number = found.record.token
                    self._record.note(Closed(token=number, asked=asked, at=now()))
                    with contextlib.suppress(LockLostError):
                        lock.compact()
            yield

    @contextlib.contextmanager
    def _cut_off(self, server: Server) -> Iterator[None]:
        number = self._site.cluster.servers.index(server)
        self._site.network.cut(number)
        yield
        self._site.network.heal(number)


Trouble = Callable[[SharedChaos], contextlib.AbstractContextManager[None]]

_OF_MACHINES: tuple[Trouble, ...] = (
    SharedChaos.worker_killed,
    SharedChaos.worker_frozen,
    SharedChaos.lock_forced,
)
_OF_SERVERS: tuple[Trouble, ...] = (
    SharedChaos.leader_cut_off,
    SharedChaos.two_cut_off,
    SharedChaos.leader_frozen,
    SharedChaos.leader_killed,
)


def _has_ended(worker: int) -> bool:
    how = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, worker, how) is not None


def _shuffled(troubles: tuple[Trouble, ...]) -> list[Trouble]:
    return random.sample(troubles, len(troubles))


def _work(site: Site, record: Recorder, machine: str, seed: float) -> None:
    random.seed(seed)
    parent = os.getppid()
    me = Contender(site.open(machine), record, _holder_on(machine))
    while os.getppid() == parent:
        with contextlib.suppress(StoreError):  # what it was for may be there, or not
            _hold(me)
        time.sleep(_PAUSE)  # the servers share their processors with us


def _hold(me: Contender) -> None:
    lock = me.enter(queue=random.random() < 0.8)
    if lock is None:
        return
    try:
        for _ in range(random.randrange(1, 4)):
            time.sleep(random.uniform(0, 0.01))
            if not me.change(lock):
                return
        if random.random() < 0.2:
            with contextlib.suppress(LockLostError):
                lock.compact()
    finally:
        me.leave(lock)


def _holder_on(machine: str) -> Holder:
    """Somebody whose processes nobody elsewhere can look for."""
    here = holder("contend")
    return structs.replace(here, process=structs.replace(here.process, boot=machine))
