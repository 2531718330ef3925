"""What the local lock costs, and how fair it is: python -m stress.lock_bench [--quick]

The exit code tells of correctness only (order, overlaps, by the checker), never of times.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import portalocker

from packer_fork.errors import LockedError
from packer_fork.locks import LockStatus
from packer_fork.manager.acquire import acquire
from packer_fork.stores.base import Tenure
from stress import recorder
from stress.checker import Acquired, AnyEvent, Released, violations
from stress.contender import Contender, fork, holder, open_store, wait_for
from stress.recorder import Recorder

Work = Callable[[Contender], None]


def main() -> int:
    parser = argparse.ArgumentParser(prog="stress.lock_bench")
    parser.add_argument("--quick", action="store_true", help="shorter, the same in kind")
    parser.add_argument("--folder", type=Path, help="on the file system to be measured")
    asked = parser.parse_args()
    name, cores = os.uname(), os.cpu_count()
    print(f"{name.sysname} {name.release} {name.machine}, {cores} CPUs, ", end="")
    print(f"Python {platform.python_version()}")
    found: list[str] = []
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        room = _Room(Path(place))
        uncontended(room, 300 if asked.quick else 2000)
        for waiters in (2, 10, 50):
            found += hand_over(room, waiters, 200 if asked.quick else 1000)
        found += fairness(room, 20, 3 if asked.quick else 10)
        found += marathon(room, 100, 5 if asked.quick else 50)
        waiting(room, 2 if asked.quick else 5)
    for line in found:
        print(f"WRONG: {line}")
    print("order and exclusion: proven" if not found else f"{len(found)} violations")
    return 1 if found else 0


class _Room:
    """Gives each measurement a folder of its own, and runs its processes."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._number = 0

    def folder(self) -> Path:
        self._number += 1
        return self._place / f"{self._number}" / "default"

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
    me = Contender(folder, Recorder(path))
    os.close(opens)
    os.read(gate, 1)
    work(me)


def uncontended(room: _Room, times: int) -> None:
    store, asking = open_store(room.folder()), holder("bench")
    plain = room.folder()
    plain.parent.mkdir()
    plain.touch()

    def ours() -> None:
        tenure = store.try_acquire(asking)
        assert not isinstance(tenure, LockStatus), tenure
        tenure.close()

    def bare() -> None:
        with portalocker.Lock(plain, mode="r+", flags=portalocker.LockFlags.EXCLUSIVE):
            pass

    samples: dict[str, list[float]] = {"packer-fork": [], "portalocker": []}
    for _ in range(times):
        for what, step in (("packer-fork", ours), ("portalocker", bare)):
            start = time.perf_counter_ns()
            step()
            samples[what].append((time.perf_counter_ns() - start) / 1000)
    medians = {what: statistics.median(taken) for what, taken in samples.items()}
    print("uncontended acquire and release, median: ", end="")
    print(", ".join(f"{what} {micros:.0f} µs" for what, micros in medians.items()), end="")
    print(f", ratio {medians['packer-fork'] / medians['portalocker']:.1f}")


def hand_over(room: _Room, waiters: int, times: int) -> tuple[str, ...]:
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
    print(f"hand-over, {waiters} waiters: p50 {p50:.2f} ms, p99 {p99:.2f} ms, ", end="")
    print(f"max {millis[-1]:.2f} ms ({len(millis)} times)")
    return violations(events, in_order=True)


def fairness(room: _Room, processes: int, seconds: float) -> tuple[str, ...]:
    def work(me: Contender) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            _hold(me, 0)

    events = room.crowd(room.folder(), processes, work)
    counts = Counter(event.process for event in events if isinstance(event, Acquired))
    least, most = min(counts.values()), max(counts.values())
    print(f"fairness, {processes} processes over {seconds} s: {least / most:.3f} ", end="")
    print(f"({least} to {most} acquisitions each)")
    missing = () if len(counts) == processes else ("a process never got the lock",)
    return (*missing, *violations(events, in_order=True))


def marathon(room: _Room, processes: int, each: int) -> tuple[str, ...]:
    def work(me: Contender) -> None:
        for _ in range(each):
            _hold(me, 0)

    start, before = time.monotonic(), _cpu_of_children()
    events = room.crowd(room.folder(), processes, work)
    seconds, cpu = time.monotonic() - start, _cpu_of_children() - before
    got = sum(isinstance(event, Acquired) for event in events)
    print(f"{processes} processes, {each} acquisitions each: {got} of {processes * each} ", end="")
    print(f"in {seconds:.1f} s, {cpu:.1f} s of CPU, {seconds / got * 1000:.2f} ms each")
    missing = () if got == processes * each else (f"{processes * each - got} never got the lock",)
    return (*missing, *violations(events, in_order=True))


def waiting(room: _Room, seconds: float) -> None:
    """Two waiters, as a build waits: the first is next, the second is behind it."""
    folder = room.folder()
    tenure = open_store(folder).try_acquire(holder("holds"))
    assert not isinstance(tenure, LockStatus)
    for place in ("first", "second"):
        pipe, told = os.pipe()
        pids = [fork(partial(_wait, folder, seconds, told))]
        if place == "second":
            pids.insert(0, fork(partial(_wait, folder, seconds + 1, told)))
        os.close(told)
        with open(pipe) as said:  # noqa: PTH123 (a pipe)
            shares = [float(line) for line in said]
        wait_for(pids)
        print(f"a waiter ({place} in the queue) uses {shares[0]:.2%} of a core")
    tenure.close()


def _wait(folder: Path, seconds: float, told: int) -> None:
    store = open_store(folder)
    start = time.process_time()
    try:
        acquire(store, holder("waits"), lambda _: None, timeout=seconds)
    except LockedError:
        used = time.process_time() - start
    os.write(told, f"{used / seconds}\n".encode())


def _hold(me: Contender, seconds: float) -> None:
    tenure: Tenure | None = me.enter()
    assert tenure is not None
    time.sleep(seconds)
    me.leave(tenure)


def _times(events: list[AnyEvent]) -> list[tuple[int, int]]:
    ends = {event.tenure: event.at for event in events if isinstance(event, Released)}
    return [(event.got, ends[event.tenure]) for event in events if isinstance(event, Acquired)]


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
