"""The state tests of the Go ancestor's stress suite, by their names and at their sizes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec import structs

from packer_fork.codec.builds import decode_build, decode_once
from packer_fork.codec.lines import seal
from packer_fork.errors import DamagedError, NewerFormatError, StateError, UsageError
from packer_fork.model import Artifact, Build, File, Instance, PendingChange, State, Step
from packer_fork.stores.base import MANUAL, HeldLock
from packer_fork.stores.local.store import LocalStore
from stress import contender, crowded_state, meter, states
from stress.conftest import Say
from stress.crowd import Answer, Work, descriptors, pytest_generate_tests, together
from stress.crowded_state import JournalPen, Pen, QueuedPen
from stress.scale import Scale
from tests.support import local_states, local_store
from tests.support.local_states import lock_of
from tests.support.local_store import open_store

__all__ = ["pytest_generate_tests"]

READERS, WRITERS, SECONDS = 50, 20, 5.0
PAUSES = {QueuedPen: 0.1, JournalPen: 1.0}
"""Seconds between two looks of a reader: each reads anew what was changed meanwhile, which is
much with a journal, and on few cores nobody would write.
"""

BUILDS = 10_000
CYCLES = 500  # of each kind
FILES = ["acked", "history", "lock", "locks", "logs", "mutex", "state.json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "t.pkr.hcl" / "default"


def read(folder: Path) -> State:
    """As somebody does who has read nothing before."""
    state = open_store(folder).read()
    assert state is not None
    return state


def start(folder: Path) -> None:
    with lock_of(open_store(folder)) as lock:
        lock.commit(PendingChange(operation="create", builds={"b": Build(name="b")}))


# Readers and writers


@pytest.mark.parametrize("pen", PAUSES, ids=["queued", "journal"])
def test_concurrent_reads_writes(
    mix: str, times: int, folder: Path, scale: Scale, figure: Say, pen: type[QueuedPen | JournalPen]
) -> None:
    """For the mutex there are always as few, who go on the longer: it is had by any of them
    and not by the next, and who cannot have it for a minute gives up.
    """
    seconds = scale.seconds if times == scale.times else SECONDS
    crowd = times if pen is QueuedPen else 1
    readers = reading(folder, READERS * crowd, PAUSES[pen] * crowd, seconds)
    writers = writing(pen, folder, WRITERS * crowd, seconds)
    answers = [count for (count,) in together(mix, [*readers, *writers])]
    reads, written = sum(answers[: len(readers)]), answers[len(readers) :]
    assert crowded_state.missing(folder, written) == []
    state = read(folder)
    assert state.serial == sum(written)
    assert crowded_state.counted(state) == {w: count for w, count in enumerate(written) if count}
    assert not open_store(folder).verify().problems
    figure(f"writes of {len(writers)}, each there in the end", sum(written), "writes")
    figure(f"reads of {len(readers)} meanwhile, each of a whole state", reads, "reads")
    figure("errors (the ancestor: 53 in 5 s)", 0, "errors")


def reading(folder: Path, number: int, pause: float, seconds: float) -> list[Work]:
    """Threads share one store, as processes cannot."""
    shared, here = open_store(folder), os.getpid()

    def one() -> Answer:
        store = shared if os.getpid() == here else open_store(folder)
        return crowded_state.read_for(store, folder, pause, seconds)

    return [one] * number


def writing(pen: Callable[[Path], Pen], folder: Path, number: int, seconds: float) -> list[Work]:
    shared, here = pen(folder), os.getpid()

    def one(writer: int) -> Answer:
        mine = shared if os.getpid() == here else pen(folder)
        return crowded_state.write_for(mine, writer, seconds)

    return [partial(one, writer) for writer in range(number)]


# Large, and often


def test_large_state(kind: str, times: int, folder: Path, figure: Say) -> None:
    count = BUILDS * times
    content = states.state(count)
    begun = time.perf_counter()
    states.place(folder.parent, content)
    figure(f"save {count:,} builds (the ancestor: 368 ms, no fsync)", since(begun), "ms")
    begun = time.perf_counter()
    decode_build(read(folder).builds[states.name(count - 1)])
    figure(f"load {count:,} builds, decode one (the ancestor: 258 ms)", since(begun), "ms")
    halves = range(0, count, 2), range(1, count, 2)
    whole = together(kind, [partial(intact, folder, half) for half in halves])
    assert whole == [(len(half), count) for half in halves]
    assert_one_build_changes_alone(folder, count)


def intact(folder: Path, numbers: range) -> Answer:
    """How many of the builds are what they were, and how many there are at all."""
    builds = read(folder).builds
    same = (decode_once(builds[states.name(number)]) == states.build(number) for number in numbers)
    return sum(same), len(builds)


def assert_one_build_changes_alone(folder: Path, count: int) -> None:
    changed = structs.replace(states.build(count // 2), error="changed")
    before = dict(read(folder).builds)
    with lock_of(open_store(folder)) as lock:
        lock.commit(PendingChange(operation="test", builds={changed.name: changed}))
    after = dict(read(folder).builds)
    assert decode_build(after.pop(changed.name)) == changed
    assert before.pop(changed.name)
    assert after == before


def test_rapid_save_load(kind: str, times: int, folder: Path, figure: Say) -> None:
    begun = time.perf_counter()
    ((before, after),) = together(kind, [partial(cycles, folder, CYCLES * times)])
    figure(
        "save 10 builds and load them (the ancestor: 310 µs, no fsync)",
        since(begun) * 1e3 / (CYCLES * times),
        "µs",
    )
    assert after == before, "it has left files open"
    assert local_states.segments(folder), "it has never got to the history"
    left = {path.name for path in folder.iterdir()} - {"mutex.turn"}
    assert sorted(left) == FILES, "it has left files behind"


def cycles(folder: Path, number: int) -> Answer:
    """Descriptors open before and after; every fiftieth cycle has the lock anew."""
    before = descriptors()
    for first in range(0, number, 50):
        with lock_of(open_store(folder)) as lock:
            for cycle in range(first, first + 50):
                save_and_load(folder, lock, cycle)
            lock.compact()
    return before, descriptors()


def save_and_load(folder: Path, lock: HeldLock, cycle: int) -> None:
    names = [f"build-{cycle}-{number}" for number in range(10)]
    gone = dict.fromkeys(f"build-{cycle - 1}-{number}" for number in range(10))
    serial = lock.commit(
        PendingChange(operation="test", builds=gone | {name: Build(name=name) for name in names})
    ).serial
    state = read(folder)
    assert (state.serial, list(state.builds)) == (serial, names)


# Damage

ANCESTORS_MINIMAL = b'{"version":1,"serial":1,"lineage":"test","template":{},"builds":{}}'


def garbage(size: int) -> bytes:
    return Random(size).randbytes(size)


def middle(data: bytes, other: bytes) -> bytes:
    half = len(data) // 2
    return data[:half] + other + data[half + len(other) :]


def swapped(data: bytes) -> bytes:
    first, second, third, *rest = data.splitlines(keepends=True)
    return b"".join((first, third, second, *rest))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "blank": lambda _: b" \r\n\t\n",
    "null bytes": lambda _: b"\0\0\0\0",
    "all null bytes": lambda data: bytes(len(data)),
    "null bytes at the end": lambda data: data[: len(data) // 2] + bytes(len(data) // 2),
    "null bytes in the middle": lambda data: middle(data, bytes(16)),
    "invalid json": lambda _: b"{invalid json",
    "truncated json": lambda _: b'{"version": 1, "serial": 1, "builds": {',
    "truncated in a line": lambda data: data[:-20],
    "truncated between lines": lambda data: data[: data.rstrip(b"\n").rfind(b"\n") + 1],
    "truncated in the snapshot": lambda data: data[:100],
    "only the last line": lambda data: data.splitlines(keepends=True)[-1],
    "lines swapped": swapped,
    "line doubled": lambda data: data.replace(b"\n", b"\n" + data.split(b"\n")[1] + b"\n", 1),
    "garbage": lambda _: garbage(4096),
    "garbage in front": lambda data: garbage(64) + data,
    "garbage in the middle": lambda data: middle(data, garbage(64)),
    "garbage behind the magic of zstd": lambda _: b"\x28\xb5\x2f\xfd" + garbage(4096),
    "number": lambda _: b"42",
    "null": lambda _: b"null",
    "text": lambda _: b'"a state"',
    "list": lambda data: b"[" + data.splitlines()[0] + b"]",
    "empty object": lambda _: b"{}",
    "wrong types": lambda _: b'{"version":"1","serial":[],"lineage":{},"template":0,"builds":""}',
    "wrong type of builds": lambda data: data.replace(b'"builds":{', b'"builds":[', 1),
    "negative serial": lambda data: data.replace(b'"serial":', b'"serial":-', 1),
    "invalid utf-8": lambda data: data.replace(b"test", b"t\xffst"),
    "utf-16": lambda data: data.decode().encode("utf-16"),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "line ends of windows": lambda data: data.replace(b"\n", b"\r\n"),
    "nested without end": lambda _: b'{"version":1,"builds":' + b"[" * 100_000,
    "html": lambda _: b"<!DOCTYPE html><title>502 Bad Gateway</title>",
    "merge conflict": lambda data: b"<<<<<<< ours\n" + data + b"=======\n>>>>>>> theirs\n",
    "ancestor's minimal": lambda _: ANCESTORS_MINIMAL,
}


def stored(folder: Path) -> dict[str, bytes]:
    """All that a state is kept in, as bytes."""
    kept = (folder / "state.json", folder / "acked", *folder.glob("[bh]*/**/*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept if path.is_file()}


def refused(folder: Path) -> Answer:
    """Neither read nor written to, with a word of where the damage is."""
    store = open_store(folder)
    for use in (store.read, lambda: store.try_acquire(local_store.holder("test"))):
        with pytest.raises(DamagedError) as refusal:
            use()
        assert refusal.value.path == str(folder / "state.json")
        assert refusal.value.what in refusal.value.message
        assert "state check --repair" in refusal.value.hint
    return ()


def assert_refused(kind: str, folder: Path) -> None:
    before = stored(folder)
    together(kind, [partial(refused, folder)] * 3)
    assert stored(folder) == before, "it was written to"


def assert_usable(folder: Path, beyond: int) -> None:
    with lock_of(open_store(folder)) as lock:
        serial = lock.commit(
            PendingChange(operation="test", builds={"new": Build(name="new")})
        ).serial
    assert serial == read(folder).serial > beyond
    assert "new" in read(folder).builds
    assert not open_store(folder).verify().problems


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_corruption_recovery(kind: str, folder: Path, damage: Callable[[bytes], bytes]) -> None:
    """There are a backup and a history: what is repaired has at least all that is in them."""
    local_states.small(folder)
    good = local_states.whole(folder)
    path = folder / "state.json"
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    assert_refused(kind, folder)
    with lock_of(open_store(folder), even_damaged=True) as lock:
        serial = lock.repair().serial
    assert good.state is not None
    assert serial == read(folder).serial > good.state.serial
    assert read(folder).builds in (good.state.builds, *(kept.builds for kept in good.backups))
    assert damaged in [path.read_bytes() for path in folder.glob("backups/damaged-*/state.json")]
    assert_usable(folder, serial)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_corruption_recovery_with_nothing_else(
    folder: Path, damage: Callable[[bytes], bytes]
) -> None:
    """Where nothing else is left nothing is made up; moved aside, it is a fresh start."""
    with lock_of(open_store(folder)) as lock:
        for number in range(1, 3):
            local_states.run(folder, lock, number)
    path = folder / "state.json"
    path.write_bytes(damage(path.read_bytes()))
    refused(folder)
    before, found = stored(folder), open_store(folder).recoverable()
    with lock_of(open_store(folder), even_damaged=True) as lock:
        if found.state is None:
            with pytest.raises(StateError, match="is recoverable"):
                lock.repair()
            assert stored(folder) == before
        else:
            lock.repair()
            assert read(folder).builds == found.state.builds
    if found.state is None:
        folder.rename(folder.with_name("aside"))
        assert stored(folder.with_name("aside")) == before
    assert_usable(folder, 0)


@pytest.mark.parametrize("size", [1, 100, 100_000])
@pytest.mark.parametrize("what", [bytes, garbage, lambda size: b"x" * size], ids=["0", "?", "x"])
def test_corruption_recovery_of_a_torn_tail(
    folder: Path, what: Callable[[int], bytes], size: int
) -> None:
    """What follows the last acknowledged line belongs to nothing: it costs nobody anything."""
    local_states.small(folder)
    good = local_states.whole(folder)
    with (folder / "state.json").open("ab") as file:
        file.write(what(size))
    assert local_states.whole(folder) == good
    assert good.state is not None
    assert_usable(folder, good.state.serial)


@pytest.mark.parametrize("how", ["sealed", "by hand"])
def test_corruption_recovery_of_a_newer_format(folder: Path, how: str) -> None:
    """It is no damage, so it is not even repaired."""
    local_states.small(folder)
    newer = seal(structs.replace(read(folder), version=99)).data
    by_hand = b'{"version":99,"serial":7}\n'
    (folder / "state.json").write_bytes(newer if how == "sealed" else by_hand)
    before = stored(folder)
    for use in (
        open_store(folder).read,
        lambda: open_store(folder).try_acquire(local_store.holder("test")),
        lambda: open_store(folder).try_acquire(local_store.holder("test"), even_damaged=True),
    ):
        with pytest.raises(NewerFormatError, match="format version 99"):
            use()
    assert stored(folder) == before


def test_corruption_recovery_is_not_needed_for_a_minimal_state(folder: Path) -> None:
    """What the ancestor took for valid; only that ours must name its template."""
    folder.mkdir(parents=True)
    minimal = ANCESTORS_MINIMAL.replace(b"{}", b'{"path":"t.pkr.hcl"}', 1)
    (folder / "state.json").write_bytes(minimal)
    assert (read(folder).serial, read(folder).lineage, read(folder).builds) == (1, "test", {})
    assert_usable(folder, 1)


# Nesting


def nested(levels: int) -> dict[str, Any]:
    """Objects and lists in turn."""
    found: Any = "data"
    for level in reversed(range(levels)):
        found = {f"level {level}": found, "data": level} if level % 2 == 0 else [found, level]
    assert isinstance(found, dict)
    return found


def in_build(metadata: dict[str, Any]) -> Build:
    return Build(name="deep", metadata=metadata)


def in_instance(metadata: dict[str, Any]) -> Build:
    return Build(name="deep", instance=Instance(id="i", metadata=metadata))


@pytest.mark.parametrize("place", [in_build, in_instance])
def test_deep_nesting(kind: str, folder: Path, place: Callable[[dict[str, Any]], Build]) -> None:
    build = place(nested(100))
    with lock_of(open_store(folder)) as lock:
        lock.commit(PendingChange(operation="test", builds={"deep": build}))
        lock.compact()

    def loaded() -> Answer:
        assert decode_once(read(folder).builds["deep"]) == build
        return ()

    together(kind, [loaded] * 3)


@pytest.mark.parametrize("levels", [1_000, 100_000])
@pytest.mark.parametrize("place", [in_build, in_instance])
def test_deep_nesting_is_refused(
    kind: str, folder: Path, place: Callable[[dict[str, Any]], Build], levels: int
) -> None:
    start(folder)
    before = stored(folder)
    build = place(nested(levels))

    def commit() -> Answer:
        lock = contender.queue_up(open_store(folder), local_store.holder("test")).lock
        draft = PendingChange(operation="test", builds={"good": Build(name="good"), "deep": build})
        deeper = r"'deep' is nested deeper than \d+ levels"
        with contextlib.closing(lock), pytest.raises(UsageError, match=deeper) as refusal:
            lock.commit(draft)
        assert "nothing of it was stored" in refusal.value.hint
        return ()

    together(kind, [commit] * 3)
    assert stored(folder) == before
    assert_usable(folder, 1)


# Characters

TEXTS = {
    "chinese": "Hello, 世界",
    "russian": "Привет, мир",
    "arabic": "مرحبا بالعالم",
    "emoji": "🚀🎉💻🔧👩‍👩‍👧‍👦🏳️‍🌈",
    "html": "<script>alert('xss')</script>",
    "sql": "'; DROP TABLE builds;--",
    "control": "".join(map(chr, range(0x20))) + "\x7f\x80\x85\x9f",
    "null": "a\0b\0",
    "long": "A" * 10_000,
    "very long": "é" * 100_000,
    "empty": "",
    "blank": "   ",
    "line ends": "\n\r\t\r\n\v\f\u0085\u2028\u2029",
    "quotes": '"\'`\\\\" \\u0000 \\ud800 \\n %s {} ${x} $(x) `x`',
    "right to left": "photo\u202egpj.exe\u202c\u2066x\u2069\u200f",
    "zero width": "a\u200bb\u200cc\u200dd\ufeffe\u2060",
    "composed": "é\u00c5",
    "decomposed": "e\u0301A\u030a",
    "zalgo": "Z" + "\u0300\u0315\u031b\u0321" * 50,
    "noncharacters": "\ufffe\uffff\ufffd\U0001fffe\U0010ffff",
    "private": "\ue000\uf8ff\U000f0000",
    "escapes": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "seal": '","digest":"' + "0" * 64 + '"}\n{"serial":2}',
    "path": "/srv/../a b/*?[x]/-rf ~/C:\\con\\..\\:\n",
    "every plane": "".join(chr(plane << 16 | 0x4E00) for plane in range(17)),
}
SURROGATES = {"high": "a\ud800b", "low": "a\udfffb", "pair": "\ud83d\ude80", "path": "/srv/\udcff"}


def told_everywhere(number: int, text: str) -> Build:
    return Build(
        name=f"{number} {text[:10_000]}",
        type=text,
        error=text,
        inputs=text,
        provisioners=(Step(type=text, name=text, error=text),),
        instance=Instance(id=text, addresses=(text, text), metadata={text: [text, {"k": text}]}),
        artifacts=(Artifact(id=text, string=text, files=(File(path=text, sha256=text),)),),
        metadata={text: text},
    )


def test_unicode_and_special_chars(kind: str, folder: Path) -> None:
    builds = {b.name: b for b in map(told_everywhere, range(len(TEXTS)), TEXTS.values())}

    def loaded() -> Answer:
        kept = read(folder).builds
        found = {name: decode_once(raw) for name, raw in kept.items()}
        assert found == builds
        return ()

    with lock_of(open_store(folder)) as lock:
        for name, build in builds.items():
            lock.commit(PendingChange(operation="test", why=name, builds={name: build}))
        together(kind, [loaded] * 2)
        lock.compact()
        together(kind, [loaded] * 2)
        lock.backup(MANUAL, keep=1)
    assert [change.why for change, _ in local_states.changes(open_store(folder))] == [
        *reversed(builds)
    ]
    assert [state.builds for state in local_states.whole(folder).backups] == [read(folder).builds]
    assert not open_store(folder).verify().problems


def test_unicode_and_special_chars_in_very_long_names(folder: Path) -> None:
    names = ["é" * 1_000_000, *(f"{number} " + "x" * 10_000 for number in range(150))]
    with lock_of(open_store(folder)) as lock:
        for name in names:
            lock.commit(PendingChange(operation="test", builds={name: Build(name=name)}))
        lock.compact()
    assert list(read(folder).builds) == names
    assert len(list(local_states.changes(open_store(folder)))) == len(names)
    assert not open_store(folder).verify().problems


@pytest.mark.parametrize("text", SURROGATES.values(), ids=SURROGATES)
def test_unicode_and_special_chars_that_json_cannot_hold(folder: Path, text: str) -> None:
    """UTF-8 has no half of a character: it is refused as such, and nothing of it is stored."""
    start(folder)
    before = stored(folder)
    drafts = (
        PendingChange(operation="test", why=text),
        PendingChange(operation="test", builds={text: Build(name=text)}),
        PendingChange(operation="test", builds={"b": told_everywhere(0, text)}),
    )
    with lock_of(open_store(folder)) as lock:
        for draft in drafts:
            with pytest.raises((UsageError, UnicodeEncodeError), match="surrogates"):
                lock.commit(draft)
            assert stored(folder) == before
    assert_usable(folder, 1)


@pytest.mark.parametrize(
    "name", [*(text for text in TEXTS.values() if 0 < len(text.encode()) < 256), *"\udcff"]
)
def test_unicode_and_special_chars_in_the_folder(folder: Path, name: str) -> None:
    place = folder.parent / "".join(char for char in name if char not in "/\0") / "default"
    store = LocalStore(
        place,
        root=folder.parent,
        template="t.pkr.hcl",
        workspace="default",
        complain=local_store.complain,
    )
    with lock_of(store) as lock:
        lock.commit(PendingChange(operation="test"))
        assert store.status().record == lock.record
    assert Path(store.location) == place
    assert os.fsencode(place.parent.name) in os.listdir(os.fsencode(folder.parent))  # noqa: PTH208
    assert_usable(place, 1)


# Figures


def since(begun: float) -> float:
    """Milliseconds."""
    return (time.perf_counter() - begun) * 1e3


def test_benchmark_state_save(folder: Path, figure: Say) -> None:
    content = states.state(100)
    folder.mkdir(parents=True)
    journal = states.journal(folder)
    taken = meter.samples({"save": lambda: journal.put(content)}, 200)
    value = meter.medians(taken, "µs")["save"]
    context = "with fsync (the ancestor: 405 µs without; its target: 100,000 µs)"
    figure(f"state_save, 100 builds, {context}", value, "µs")
    assert msgspec.json.encode(read(folder)) == msgspec.json.encode(content)


def test_benchmark_state_load(folder: Path, figure: Say) -> None:
    content = states.state(100)
    states.place(folder.parent, content)
    taken = meter.samples({"load": lambda: decoded(read(folder))}, 200)
    value = meter.medians(taken, "µs")["load"]
    context = "each decoded (the ancestor: 461 µs; its target: 50,000 µs)"
    figure(f"state_load, 100 builds, {context}", value, "µs")
    assert decoded(read(folder)) == [states.build(number) for number in range(100)]


def decoded(state: State) -> list[Build]:
    return [decode_once(raw) for raw in state.builds.values()]


def test_benchmark_state_concurrent_access(kind: str, folder: Path, figure: Say) -> None:
    """As the ancestor mixes them: two of three look for a build, the third changes one."""
    number, operations = 4, 300

    def mixed(worker: int) -> Answer:
        store, pen = open_store(folder), JournalPen(folder)
        for operation in range(operations):
            if operation % 3 == 0:
                pen.write([crowded_state.change(worker, operation // 3)])
            else:
                state = store.read()
                assert state is not None
                assert f"{worker}.0" in state.builds
        return (operations // 3,)

    begun = time.perf_counter()
    written = together(kind, [partial(mixed, worker) for worker in range(number)])
    value = since(begun) * 1e3 / (number * operations)
    context = "on disk, a third of them commits (the ancestor: 0.2 µs, in memory, nothing saved)"
    figure(f"state_concurrent_access, {number} {kind}, {context}", value, "µs")
    assert crowded_state.missing(folder, [count for (count,) in written]) == []
