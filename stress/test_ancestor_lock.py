"""The lock tests of the Go ancestor's stress suite, by their names and at their sizes."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from packer_fork import durable
from packer_fork.errors import LockLostError
from packer_fork.locks import LockStatus, Status
from packer_fork.manager.lock.acquire import acquire
from packer_fork.model import PendingChange
from packer_fork.stores.base import TAKE_OVER, HeldLock
from packer_fork.stores.local import queue
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.store import LocalStore
from stress import meter, recorder
from stress.checker import Acquired, AnyEvent, violations
from stress.conftest import Say
from stress.contender import Contender, queue_up
from stress.crowd import KINDS, Answer, contend, descriptors, pytest_generate_tests, together
from stress.recorder import Recorder, now
from tests.conftest import eventually
from tests.support.forks import fork
from tests.support.local_store import holder, open_store

__all__ = ["pytest_generate_tests"]

CONTENDERS, ATTEMPTS = 100, 50
SEQUENCE = 1_000
RAPID = 5_000  # of each kind
MANAGERS, EACH = 200, 10
COMPETITORS, SECONDS = 20, 3.0
ABANDONED = 20
UNREADABLE = frozenset({Status.ABANDONED, Status.UNKNOWN})
"""What force-unlock passes over without being told that it may."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "t.pkr.hcl" / "default"


def taken(store: LocalStore, over: frozenset[Status] = TAKE_OVER) -> HeldLock:
    found = store.try_acquire(holder("test"), over=over)
    assert not isinstance(found, LockStatus), found
    return found


def assert_nothing_left(folder: Path) -> None:
    """No file of a lock or of a ticket, and nobody who holds or waits."""
    assert not any((folder / "locks").iterdir())
    assert not Path(folder / "queue").exists() or not any((folder / "queue").iterdir())
    assert open_store(folder).status().status is Status.FREE


def acquisitions(events: list[AnyEvent]) -> Counter[str]:
    return Counter(event.process for event in events if isinstance(event, Acquired))


# Contention


def test_contention(mix: str, times: int, folder: Path, figure: Say) -> None:
    each = ATTEMPTS * times

    def work(me: Contender) -> None:
        for _ in range(each):
            hold(me)

    before, begun = descriptors(), time.perf_counter()
    events = contend(mix, folder, CONTENDERS, work)
    seconds = time.perf_counter() - begun
    counts = acquisitions(events)
    assert list(counts.values()) == [each] * CONTENDERS
    assert violations(events, in_order=True) == ()
    assert_nothing_left(folder)
    eventually(lambda: descriptors() == before + 1)  # the record of what they noted
    attempts = CONTENDERS * each
    figure(f"got the lock, of {attempts:,} (the ancestor: 86 of 5,000)", counts.total(), "times")
    figure("an acquisition, with all that wait", seconds / attempts * 1e3, "ms")


def hold(me: Contender) -> None:
    lock = me.enter()
    assert lock is not None
    me.leave(lock)


def test_sequential(times: int, folder: Path, figure: Say) -> None:
    """Threads and processes, one after the other; each has it some times in a row."""
    turns, each = 20 * times, SEQUENCE // 20

    def work() -> Answer:
        store = open_store(folder)
        return tuple(take_and_give_back(store) for _ in range(each))

    begun = time.perf_counter()
    numbers = [number for turn in range(turns) for number in together(KINDS[turn % 2], [work])[0]]
    figure("in sequence", (time.perf_counter() - begun) / len(numbers) * 1e6, "µs")
    assert numbers == list(range(1, SEQUENCE * times + 1))
    assert_nothing_left(folder)


def take_and_give_back(store: LocalStore) -> int:
    """The number of the lock, which nobody held or had left."""
    lock = taken(store)
    assert lock.replaced is None
    lock.close()
    return lock.record.token


def test_rapid_acquire_release(kind: str, times: int, folder: Path, figure: Say) -> None:
    cycles = RAPID * times
    begun = time.perf_counter()
    ((before, after, last),) = together(kind, [partial(rapid, folder, cycles)])
    figure("acquire and release", (time.perf_counter() - begun) / cycles * 1e6, "µs")
    assert last == cycles, "a lock was skipped"
    assert after == before, "it has left files open"
    assert_nothing_left(folder)


def rapid(folder: Path, cycles: int) -> Answer:
    """Descriptors open before and after, and the number of the last lock.

    Each tenth time it goes through the queue.
    """
    before, store, number = descriptors(), open_store(folder), 0
    for cycle in range(cycles):
        lock = taken(store) if cycle % 10 else queue_up(store, holder("rapid")).lock
        number = lock.record.token
        lock.close()
    return before, descriptors(), number


def test_many_managers(mix: str, times: int, folder: Path, figure: Say) -> None:
    """They take the lock as commands do; each changes the state in the end."""
    folder.parent.mkdir(parents=True)
    path = folder.parent / "events"
    manager = partial(manage, folder, Recorder(path), EACH * times)
    begun = time.perf_counter()
    together(mix, [manager] * MANAGERS)
    seconds = time.perf_counter() - begun
    events = recorder.events(path)
    assert list(acquisitions(events).values()) == [EACH * times] * MANAGERS
    assert violations(events, recorder.kept(folder)) == ()
    assert open_store(folder).read() is not None
    assert len(recorder.kept(folder)) == MANAGERS
    assert_nothing_left(folder)
    each = seconds / MANAGERS / EACH / times * 1e3
    figure(f"an acquisition, one of {MANAGERS} managers", each, "ms")


def manage(folder: Path, record: Recorder, each: int) -> Answer:
    me, asking = Contender(open_store(folder), record), holder("manage")
    for attempt in range(each):
        asked = now()
        lock, _ = acquire(me.store, asking, lambda _: None, timeout=3600)
        token, lock_id = lock.record.token, lock.record.id
        record.note(Acquired(token=token, lock=lock_id, process=me.name, asked=asked, got=now()))
        try:
            assert attempt < each - 1 or me.change(lock)
        finally:
            me.leave(lock)
    return ()


def test_starvation_check(mix: str, times: int, folder: Path, figure: Say) -> None:
    competitors = COMPETITORS * times

    def work(me: Contender) -> None:
        end = time.monotonic() + SECONDS * times
        while time.monotonic() < end:
            hold(me)

    events = contend(mix, folder, competitors, work)
    counts = acquisitions(events)
    assert len(counts) == competitors, "somebody got none"
    assert violations(events, in_order=True) == ()
    fewest, most = min(counts.values()), max(counts.values())
    figure(f"fewest acquisitions of one of {competitors} competitors", fewest, "times")
    figure("most", most, "times")
    figure("fewest to most (the ancestor: 0.00)", fewest / most, "")


# Dead holders


@contextlib.contextmanager
def forked_holder(folder: Path) -> Iterator[int]:
    """The pid of a process that has the lock, has committed once, and goes on for ever."""
    says, has = os.pipe()
    pid = fork(partial(hold_for_ever, folder, has))
    os.close(has)
    try:
        assert os.read(says, 1) == b"1"
        yield pid
    finally:
        os.close(says)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def hold_for_ever(folder: Path, has: int) -> None:
    queue_up(open_store(folder), holder("hold")).lock.commit(PendingChange(operation="hold"))
    os.write(has, b"1")
    while True:
        signal.pause()


def kill(pid: int) -> None:
    """Until it is dead; somebody else waits for it."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def abandon(folder: Path) -> Answer:
    """As a thread can: it lets go of what it locked, and says so nowhere."""
    lock = taken(open_store(folder))
    lock.commit(PendingChange(operation="hold"))
    lock.hand_over()
    return ()


def test_abandoned_lock(kind: str, times: int, folder: Path, figure: Say) -> None:
    """The status needs no time-out, and whoever comes next takes it over."""
    store, milliseconds = open_store(folder), []
    for number in range(1, 2 * ABANDONED * times, 2):
        if kind == "threads":
            together(kind, [partial(abandon, folder)])
        else:
            with forked_holder(folder) as pid:
                assert store.status().status is Status.HELD
                assert not took(store)
                kill(pid)
        begun = time.perf_counter()
        assert store.status().status is Status.ABANDONED
        lock = taken(store)
        milliseconds.append((time.perf_counter() - begun) * 1e3)
        assert lock.replaced is not None
        assert lock.replaced.status is Status.ABANDONED
        assert lock.replaced.record is not None
        assert (lock.replaced.record.token, lock.record.token) == (number, number + 1)
        assert serial(store) == number // 2 + 1, "what was acknowledged before is lost"
        lock.close()
    assert_nothing_left(folder)
    figure("to find it abandoned and to take it, median", statistics.median(milliseconds), "ms")


def test_abandoned_lock_goes_to_who_waits(times: int, folder: Path, figure: Say) -> None:
    milliseconds = []
    for _ in range(ABANDONED * times):
        got: list[float] = []
        with forked_holder(folder) as pid:
            waiter = threading.Thread(target=wait_for_it, args=(folder, got), daemon=True)
            waiter.start()
            eventually(lambda: queue.live(Layout(folder)))
            begun = time.perf_counter()
            kill(pid)
            waiter.join()
        milliseconds.append((got[0] - begun) * 1e3)
    assert_nothing_left(folder)
    figure("from the kill to who waited, median", statistics.median(milliseconds), "ms")


def wait_for_it(folder: Path, got: list[float]) -> None:
    lock = queue_up(open_store(folder), holder("wait")).lock
    got.append(time.perf_counter())
    assert lock.replaced is not None
    lock.close()


def test_abandoned_lock_of_a_thread_is_held_while_its_process_lives(folder: Path) -> None:
    """Nothing tells that it will never be given back; its process may still use it."""
    kept: list[HeldLock] = []

    def keep() -> Answer:
        kept.append(taken(open_store(folder)))
        return ()

    together("threads", [keep])
    assert open_store(folder).status().status is Status.HELD
    assert not took(open_store(folder))
    kept[0].close()
    assert_nothing_left(folder)


def took(store: LocalStore, *, over: frozenset[Status] = TAKE_OVER, lock_id: str = "") -> bool:
    """Whether it is got; then it is given back."""
    found = store.try_acquire(holder("take"), over=over, lock_id=lock_id)
    if isinstance(found, LockStatus):
        return False
    found.close()
    return True


def serial(store: LocalStore) -> int:
    state = store.read()
    return state.serial if state else 0


# Damage

GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "blank": lambda _: b" \n",
    "null bytes": lambda _: b"\0\0\0",
    "all null bytes": lambda data: bytes(len(data)),
    "null bytes at the end": lambda data: data[: len(data) // 2] + bytes(len(data) // 2),
    "invalid json": lambda _: b"{corrupted",
    "incomplete": lambda _: b'{"id":"test"}',
    "truncated": lambda data: data[: len(data) // 2],
    "doubled": lambda data: data + data,
    "garbage": lambda _: Random(1).randbytes(4096),
    "much garbage": lambda _: Random(2).randbytes(3 << 20),
    "number": lambda _: b"42",
    "null": lambda _: b"null",
    "list": lambda data: b"[" + data + b"]",
    "wrong types": lambda data: data.replace(b'"token":', b'"token":"x","was":', 1),
    "no token": lambda data: data.replace(b'"token"', b'"tokn"', 1),
    "infinite token": lambda data: data.replace(b'"token":', b'"token":1e999,"was":', 1),
    "invalid utf-8": lambda data: data.replace(b'"id":"', b'"id":"\xff', 1),
    "utf-16": lambda data: data.decode().encode("utf-16"),
    "half of a character": lambda data: data.replace(b'"id":"', b'"id":"\\ud800', 1),
    "nested without end": lambda _: b'{"id":' + b"[" * 100_000,
    "ancestor's": lambda _: b'{"id":"1","operation":"build","who":"a@b","version":"1.0.0"}',
}


def in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [in_place, durable.replace])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_lock_file_corruption(
    kind: str,
    folder: Path,
    garbage: Callable[[bytes], bytes],
    spoil: Callable[[Path, bytes], None],
) -> None:
    """Held stays held, for whoever looks; nobody's lock is an operator's to judge."""
    if kind == "processes":
        with forked_holder(folder) as pid:
            corrupt(folder, garbage, spoil)
            together(kind, [partial(assert_held, folder)] * 2)
            kill(pid)
    else:
        lock = taken(open_store(folder))
        lock.commit(PendingChange(operation="hold"))
        corrupt(folder, garbage, spoil)
        together(kind, [partial(assert_held, folder)] * 2)
        lock.hand_over()
    assert_unknown(folder)
    assert_nothing_left(folder)


def corrupt(
    folder: Path, garbage: Callable[[bytes], bytes], spoil: Callable[[Path, bytes], None]
) -> None:
    path = folder / "lock"
    data = path.read_bytes()
    spoil(path, garbage(data))
    assert path.read_bytes() != data


def assert_held(folder: Path) -> Answer:
    """The kernel tells so, whatever the record says; and in which words to name it."""
    store = open_store(folder)
    status = store.status()
    assert status.status is Status.HELD
    assert status.record is None
    assert status.id.startswith("unreadable-")
    assert str(folder / "lock") in status.error
    assert not took(store)
    assert not took(store, over=UNREADABLE, lock_id=status.id)
    return ()


def assert_unknown(folder: Path) -> None:
    """Taken by nobody who was not told to; by an operator, who names just this lock."""
    store = open_store(folder)
    status = store.status()
    assert status.status is Status.UNKNOWN
    assert status.id.startswith("unreadable-")
    assert not took(store)
    assert not took(store, over=UNREADABLE, lock_id="unreadable-000000000000")
    lock = store.try_acquire(holder("unlock"), over=UNREADABLE, lock_id=status.id)
    assert not isinstance(lock, LockStatus)
    assert lock.record.token > 1
    assert lock.replaced is not None
    assert lock.replaced.status is Status.UNKNOWN
    lock.commit(PendingChange(operation="unlock"))
    assert serial(store) == 2, "what was acknowledged before is lost"
    lock.close()


@pytest.mark.parametrize("spoil", [in_place, durable.replace])
def test_lock_file_corruption_and_its_holder(
    folder: Path, spoil: Callable[[Path, bytes], None]
) -> None:
    """It may go on only if the file is the one that it wrote; nothing else is ever stored."""
    store = open_store(folder)
    for garbage in GARBAGE.values():
        lock = taken(store, over=UNREADABLE)
        corrupt(folder, garbage, spoil)
        before = serial(store)
        with contextlib.suppress(LockLostError):
            lock.commit(PendingChange(operation="hold"))
            assert spoil is in_place
        assert serial(store) == before + (spoil is in_place)
        lock.close()
        status = store.status().status
        assert status is (Status.FREE if spoil is in_place else Status.UNKNOWN)


def test_lock_file_corruption_of_any_byte(folder: Path) -> None:
    """No flipped bit makes anybody get a lock that is held."""
    store = open_store(folder)
    with forked_holder(folder):
        path = folder / "lock"
        data = path.read_bytes()
        for place in range(len(data) * 8):
            flipped = bytearray(data)
            flipped[place // 8] ^= 1 << place % 8
            path.write_bytes(flipped)
            assert not took(store), bytes(flipped)


def test_lock_file_corruption_by_an_older_record(folder: Path) -> None:
    """A file put back from a copy says that its lock is closed; a later one lives."""
    store = open_store(folder)
    taken(store).close()
    older = (folder / "lock").read_bytes()
    lock = taken(store)
    durable.replace(folder / "lock", older)
    assert not took(store)
    lock.close()


# Figures


def test_benchmark_lock_acquire_release(folder: Path, figure: Say) -> None:
    store = open_store(folder)
    took(store)
    samples = meter.samples({"both": lambda: took(store)}, 500)
    value = meter.medians(samples, "µs")["both"]
    context = "the ancestor: 102 to 117 µs, its target for acquiring: 1,000 µs"
    figure(f"lock_acquire_release ({context})", value, "µs")


def test_benchmark_lock_contention(kind: str, folder: Path, figure: Say) -> None:
    contenders, each = 2 * (os.cpu_count() or 1), 50

    def work(me: Contender) -> None:
        for _ in range(each):
            hold(me)

    begun = time.perf_counter()
    events = contend(kind, folder, contenders, work)
    value = (time.perf_counter() - begun) / contenders / each * 1e6
    assert acquisitions(events).total() == contenders * each
    assert violations(events, in_order=True) == ()
    context = "each attempt gets it (the ancestor: 50 µs an attempt, of which nearly all failed)"
    figure(f"lock_contention, {contenders} {kind}, {context}", value, "µs")
