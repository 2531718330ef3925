"""What lock and state cost on etcd and Consul, beside the servers' own tools in the same run."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from packer_fork.locks import LockStatus
from packer_fork.model import Build, PendingChange
from packer_fork.stores.access import Access, parse_address
from packer_fork.stores.base import Store
from packer_fork.stores.consul import ConsulKeys
from packer_fork.stores.etcd import EtcdKeys
from packer_fork.stores.shared.companion import Companion
from packer_fork.stores.shared.keys import Keys
from packer_fork.stores.shared.store import SharedStore, Terms
from stress.meter import Bench, Step
from tests.support.forks import fork, wait_for
from tests.support.local_store import complain, holder
from tests.support.servers import consul_cluster, etcd_cluster, program

WAITERS = 5
CONTENDERS = 4

_NOW = ("date", "+%s%N")


class _Side(Struct, frozen=True):
    """A cluster of one node, its client of ours, and its own tool."""

    name: str
    kind: str
    endpoint: str
    client: Callable[..., Keys]
    tool: Sequence[str]
    version: Sequence[str]

    def keys(self) -> Keys:
        address = parse_address(f"{self.kind}://{self.endpoint}/bench")
        return self.client(address, Access())

    def open(self, root: Path) -> Store:
        keys = self.keys()
        return SharedStore(
            keys,
            keys,
            Companion(root / "default", root=root, complain=complain),
            template="t.pkr.hcl",
            workspace="default",
            terms=Terms(),
            register=lambda: None,
        )


def shared(bench: Bench) -> None:
    for side in _sides(bench.folder()):
        with side as found:
            bench.section(f"l. a store on {found.name}")
            uncontended(bench, found)
            hand_over(bench, found)
            contention(bench, found)
            commits(bench, found)


def _sides(folder: Path) -> Iterator[contextlib.AbstractContextManager[_Side]]:
    yield _etcd(folder)
    yield _consul(folder)


@contextlib.contextmanager
def _etcd(folder: Path) -> Iterator[_Side]:
    with etcd_cluster(folder / "etcd") as cluster:
        endpoint, tool = cluster.endpoints[0], str(program("etcdctl"))
        lock = (tool, f"--endpoints={endpoint}", "lock", "tool")
        yield _Side("etcd", "etcd", endpoint, EtcdKeys, lock, (tool, "version"))


@contextlib.contextmanager
def _consul(folder: Path) -> Iterator[_Side]:
    with consul_cluster(folder / "consul", durable=True) as cluster:
        endpoint, tool = cluster.endpoints[0], str(program("consul"))
        lock = (tool, "lock", f"-http-addr=http://{endpoint}", "-shell=false", "tool")
        yield _Side("Consul", "consul", endpoint, ConsulKeys, lock, (tool, "version"))


def uncontended(bench: Bench, side: _Side) -> None:
    store, asking = side.open(bench.folder()), holder("bench")

    def ours() -> None:
        lock = store.try_acquire(asking)
        assert not isinstance(lock, LockStatus), lock
        lock.close()

    base = "its own tool, a process that runs `true`"
    steps: dict[str, Step] = {
        base: partial(_run, (*side.tool, "true")),
        "of that, the start of the tool": partial(_run, side.version),
        "taken and released": ours,
    }
    bench.compare(steps, bench.rounds(50), base=base)


def hand_over(bench: Bench, side: _Side) -> None:
    """From the end of one holder to the begin of the next, all waiting from the beginning."""
    rounds = 2 if bench.quick else 6
    ours = [gap for _ in range(rounds) for gap in _gaps_of_ours(bench.folder(), side)]
    tools = [gap for _ in range(rounds) for gap in _gaps_of_tool(bench.folder(), side)]
    base = f"hand-over, {WAITERS} waiters: its own tool, which starts a program"
    bench.add(base, statistics.median(tools), "ms")
    what = f"hand-over, {WAITERS} waiters"
    bench.add(what, statistics.median(ours), "ms", base=(base, statistics.median(tools)))


def _gaps_of_ours(folder: Path, side: _Side) -> list[float]:
    times = folder / "times"

    def wait(number: int) -> None:
        store, asking = side.open(folder / f"{number}"), holder("bench")
        ticket = store.join_queue(asking)
        while isinstance(found := store.try_acquire(asking, ticket=ticket), LockStatus):
            ticket.wait(5)
        begun, ended = time.time_ns(), time.time_ns()
        with times.open("a") as file:
            file.write(f"{begun} {ended}\n")
        found.close()

    store = side.open(folder / "first")
    first = store.try_acquire(holder("bench"))
    assert not isinstance(first, LockStatus), first
    pids = [fork(partial(wait, number)) for number in range(WAITERS)]
    while len(store.status().waiters) < WAITERS:
        time.sleep(0.01)
    first.close()
    wait_for(pids)
    return _gaps(times)


def _gaps_of_tool(folder: Path, side: _Side) -> list[float]:
    times = folder / "times"
    first = subprocess.Popen((*side.tool, "cat"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with times.open("ab") as file:
        waiting = [
            subprocess.Popen((*side.tool, *_NOW), stdout=file, stderr=subprocess.DEVNULL)
            for _ in range(WAITERS)
        ]
        time.sleep(2)  # nothing of the tools tells that they wait
        first.communicate()
        for process in waiting:
            process.wait()
    lines = [line for line in times.read_text().split() if line.isdecimal()]
    times.write_text("".join(f"{line} {line}\n" for line in lines))
    return _gaps(times)


def _gaps(times: Path) -> list[float]:
    """Milliseconds between one's end and the next one's begin."""
    spans = sorted(tuple(map(int, line.split())) for line in times.read_text().splitlines())
    return [(after[0] - before[1]) / 1e6 for before, after in pairwise(spans)]


def contention(bench: Bench, side: _Side) -> None:
    """How often a few that always want the lock get it, all together."""
    seconds = 2 if bench.quick else 10
    folder = bench.folder()

    def ours(number: int) -> None:
        store, asking = side.open(folder / f"{number}"), holder("bench")
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            ticket = store.join_queue(asking)
            while isinstance(found := store.try_acquire(asking, ticket=ticket), LockStatus):
                ticket.wait(5)
            found.close()
            count += 1
        _note(folder / "ours", count)

    def tools(_: int) -> None:
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            _run((*side.tool, "true"))
            count += 1
        _note(folder / "tools", count)

    wait_for([fork(partial(tools, number)) for number in range(CONTENDERS)])
    wait_for([fork(partial(ours, number)) for number in range(CONTENDERS)])
    theirs, own = (_sum(folder / name) / seconds for name in ("tools", "ours"))
    base = f"{CONTENDERS} contenders: acquisitions of its own tool"
    bench.add(base, theirs, "/s")
    bench.add(f"{CONTENDERS} contenders: acquisitions", own, "/s", base=(base, theirs))


def _note(path: Path, count: int) -> None:
    with path.open("a") as file:
        file.write(f"{count}\n")


def _sum(path: Path) -> int:
    return sum(map(int, path.read_text().split()))


def commits(bench: Bench, side: _Side) -> None:
    store, keys = side.open(bench.folder()), side.keys()
    lock = store.try_acquire(holder("bench"))
    assert not isinstance(lock, LockStatus), lock
    build = Build(name="b", error="x" * 600)
    draft = PendingChange(operation="progress", builds={"b": build})
    count = 0

    def ours() -> None:
        nonlocal count
        count = lock.commit(draft).serial

    base = "a bare put of as many bytes"
    steps: dict[str, Step] = {
        base: partial(keys.put, "bare", os.urandom(1000)),
        "one change committed": ours,
    }
    bench.compare(steps, bench.rounds(500), base=base)
    lock.close()
    state = store.read()
    bench.check("what was committed reads back", good=bool(state and state.serial == count))
    bench.check("nothing is damaged", good=not store.verify().problems)
    keys.close()


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
