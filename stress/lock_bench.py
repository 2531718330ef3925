"""What the local lock costs, and how fair it is; order and exclusion by the checker."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import portalocker

from packer_fork.errors import LockedError
from packer_fork.locks import LockStatus
from packer_fork.manager.lock.acquire import acquire
from packer_fork.stores.base import HeldLock
from stress import recorder
from stress.checker import Acquired, AnyEvent, Released, violations
from stress.contender import Contender
from stress.meter import Bench, Step
from stress.recorder import Recorder
from tests.support.forks import fork, wait_for
from tests.support.local_store import holder, open_store

Work = Callable[[Contender], None]


def lock(bench: Bench) -> None:
    bench.section("h. the lock")
    room, quick = _Room(bench), bench.quick
    uncontended(room, 300 if quick else 2000)
    for waiters in (2, 10, 50):
        hand_over(room, waiters, 200 if quick else 1000)
    fairness(room, 20, 3 if quick else 10)
    marathon(room, 100, 5 if quick else 50)
    waiting(room, 2 if quick else 5)


class _Room:
    """Gives each measurement a folder of its own, and runs its processes."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def folder(self) -> Path:
        return self.bench.folder() / "default"

    def prove(self, events: list[AnyEvent]) -> None:
        for line in violations(events, in_order=True):
            self.bench.check(line, good=False)

    def crowd(self, folder: Path, processes: int, work: Work) -> list[AnyEvent]:
        """Have `work` done by many at once, from one starting signal; all that they noted."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        path = folder.parent / "events"
        gate, opens = os.pipe()
        pids = [fork(partial(_contend, folder, path, gate, opens, work)) for _ in range(processes)]
        os.close(gate)
        os.close(opens)
        wait_for(pids)
        return recorder.events(path)


def _contend(folder: Path, path: Path, gate: int, opens: int, work: Work) -> None:
    me = Contender(open_store(folder), Recorder(path))
    os.close(opens)
    os.read(gate, 1)
    work(me)


def uncontended(room: _Room, times: int) -> None:
    store, asking = open_store(room.folder()), holder("bench")
    plain = room.folder()
    plain.touch()

    def ours() -> None:
        lock = store.try_acquire(asking)
        assert not isinstance(lock, LockStatus), lock
        lock.close()

    def bare() -> None:
        with portalocker.Lock(plain, mode="r+", flags=portalocker.LockFlags.EXCLUSIVE):
            pass

    bare_lock = "bare portalocker"
    steps: dict[str, Step] = {bare_lock: bare, "taken and released": ours}
    room.bench.compare(steps, times, unit="µs", base=bare_lock)


def hand_over(room: _Room, waiters: int, times: int) -> None:
    """From the word of the holder to the next holder's first, with a full queue."""
    share = max(times // waiters, 4)

    def work(me: Contender) -> None:
        for _ in range(share):
            _hold(me, 0.003)

    events = room.crowd(room.folder(), waiters + 1, work)
    held = sorted(_times(events), key=lambda span: span[0])
    # In the beginning they still come, in the end the queue runs dry: the middle counts.
    middle = held[waiters : -waiters - 1]
    millis = sorted((after[0] - before[1]) / 1e6 for before, after in pairwise(middle))
    p50, p99 = (millis[int(len(millis) * share)] for share in (0.5, 0.99))
    for what, value in (("p50", p50), ("p99", p99), ("max", millis[-1])):
        room.bench.add(f"hand-over, {waiters} waiters: {what}", value, "ms")
    room.prove(events)


def fairness(room: _Room, processes: int, seconds: float) -> None:
    def work(me: Contender) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            _hold(me, 0)

    events = room.crowd(room.folder(), processes, work)
    counts = Counter(event.process for event in events if isinstance(event, Acquired))
    least, most = min(counts.values()), max(counts.values())
    room.bench.add(f"fewest to most acquisitions of {processes} processes", least / most, "")
    room.bench.check("each process got the lock", good=len(counts) == processes)
    room.prove(events)


def marathon(room: _Room, processes: int, each: int) -> None:
    def work(me: Contender) -> None:
        for _ in range(each):
            _hold(me, 0)

    start, before = time.monotonic(), _cpu_of_children()
    events = room.crowd(room.folder(), processes, work)
    seconds, cpu = time.monotonic() - start, _cpu_of_children() - before
    got = sum(isinstance(event, Acquired) for event in events)
    crowd = f"{processes} processes"
    room.bench.add(f"{crowd}: acquisitions", got, f"of {processes * each:,}")
    room.bench.add(f"{crowd}: each", seconds / got * 1000, "ms")
    room.bench.add(f"{crowd}: processor", cpu / got * 1000, "ms each")
    room.bench.check("each process got the lock as often as it asked", good=got == processes * each)
    room.prove(events)


def waiting(room: _Room, seconds: float) -> None:
    """Two waiters, as a build waits: the first is next, the second is behind it."""
    folder = room.folder()
    lock = open_store(folder).try_acquire(holder("holds"))
    assert not isinstance(lock, LockStatus)
    for place in ("first", "second"):
        pipe, told = os.pipe()
        pids = [fork(partial(_wait, folder, seconds, told))]
        if place == "second":
            pids.insert(0, fork(partial(_wait, folder, seconds + 1, told)))
        os.close(told)
        with open(pipe) as said:  # noqa: PTH123 (a pipe)
            shares = [float(line) for line in said]
        wait_for(pids)
        room.bench.add(f"a waiter, {place} in the queue", shares[0] * 100, "% of a core")
    lock.close()


def _wait(folder: Path, seconds: float, told: int) -> None:
    store = open_store(folder)
    start = time.process_time()
    try:
        acquire(store, holder("waits"), lambda _: None, timeout=seconds)
    except LockedError:
        used = time.process_time() - start
    os.write(told, f"{used / seconds}\n".encode())


def _hold(me: Contender, seconds: float) -> None:
    lock: HeldLock | None = me.enter()
    assert lock is not None
    time.sleep(seconds)
    me.leave(lock)


def _times(events: list[AnyEvent]) -> list[tuple[int, int]]:
    ends = {event.token: event.at for event in events if isinstance(event, Released)}
    return [(event.got, ends[event.token]) for event in events if isinstance(event, Acquired)]


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
