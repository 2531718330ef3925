"""States made through the store as builds make them, and all that can be read of one."""

from __future__ import annotations

import atexit
import contextlib
import functools
import random
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from packer_fork.codec.statefile import StateFile
from packer_fork.locks import LockStatus
from packer_fork.model import Build, BuildStatus, Change, PendingChange, Run, RunStatus, State
from packer_fork.stores.archive import backups, history
from packer_fork.stores.base import MANUAL, HeldLock
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.store import LocalStore
from tests.support import local_store
from tests.support.hammer import BY, ignore

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

States = dict[int, State]
"""The state after each acknowledged change, by its serial."""


def open_store(folder: Path) -> LocalStore:
    return local_store.open_store(folder, ignore)


@contextlib.contextmanager
def lock_of(store: LocalStore, *, even_damaged: bool = False) -> Iterator[HeldLock]:
    found = store.try_acquire(local_store.holder("test"), even_damaged=even_damaged)
    assert not isinstance(found, LockStatus), found
    try:
        yield found
    finally:
        found.close()


def drafts(number: int, *, token: int = 1, text: str = "") -> tuple[PendingChange, PendingChange]:
    """What a build commits at its beginning and at its end."""
    name = f"b{number % 3}"
    started = Run(number=number, token=token, started=NOW, by=BY, builds=(name,))
    ended = structs.replace(started, status=RunStatus.COMPLETE, ended=NOW)
    begun = Build(name=name, status=BuildStatus.CREATING, run=number)
    done = structs.replace(begun, status=BuildStatus.COMPLETE, error=text)
    return (
        PendingChange(operation="start", why=f"+{number}", builds={name: begun}, last_run=started),
        PendingChange(operation="finish", why=f"-{number}", builds={name: done}, last_run=ended),
    )


def commit(folder: Path, lock: HeldLock, *made: PendingChange) -> States:
    states: States = {}
    for draft in made:
        serial = lock.commit(draft).serial
        state = open_store(folder).read()
        assert state is not None
        assert state.serial == serial
        states[serial] = state
    return states


def run(folder: Path, lock: HeldLock, number: int, *, text: str = "") -> States:
    return commit(folder, lock, *drafts(number, token=lock.record.token, text=text))


def grow(folder: Path, numbers: range, *, text: str = "") -> States:
    """One lock a run, each ended as a build ends it."""
    made: States = {}
    for number in numbers:
        with lock_of(open_store(folder)) as lock:
            made |= run(folder, lock, number, text=text)
            lock.compact()
    return made


def small(folder: Path, *, backup: bool = True) -> States:
    """Three segments, a snapshot with three changes, and a backup of it without the last.

    The segments end with the serials 2, 4 and 6, the backup with 8, the state with 9. It is
    made once in a process, and copied.
    """
    original, made = _small(backup=backup)
    shutil.copytree(original, folder, dirs_exist_ok=True)
    return dict(made)


@functools.cache
def _small(*, backup: bool) -> tuple[Path, States]:
    place = tempfile.TemporaryDirectory(prefix="pf-")
    atexit.register(place.cleanup)
    folder = Path(place.name) / "root" / "default"
    return folder, make_small(folder, backup=backup)


def make_small(folder: Path, *, backup: bool = True) -> States:
    """The state of `small`, through the store as it is at this moment."""
    with _segment_a_lock():
        made = grow(folder, range(1, 4))
    with lock_of(open_store(folder)) as lock:
        made |= run(folder, lock, 4)
        if backup:
            lock.backup(MANUAL, keep=3)
        return made | commit(folder, lock, drafts(5)[0])


@contextlib.contextmanager
def _segment_a_lock() -> Iterator[None]:
    size, history.SEGMENT_SIZE = history.SEGMENT_SIZE, 1
    try:
        yield
    finally:
        history.SEGMENT_SIZE = size


def large(folder: Path, builds: int) -> None:
    """A large snapshot, some changes after it, several megabytes of history, and a backup."""
    noise = random.Random(builds)
    documents = {
        f"b{number}": Build(name=f"b{number}", error=noise.randbytes(20).hex())
        for number in range(builds)
    }
    with lock_of(open_store(folder)) as lock:
        lock.commit(PendingChange(operation="test", builds=documents))
        lock.compact()
        for number in range(1, 16):
            lock.commit(drafts(number, text=noise.randbytes(200_000).hex())[1])
            lock.compact()
        lock.backup(MANUAL, keep=3)
        lock.commit(drafts(100)[0])


class Whole(NamedTuple):
    """All that a store holds, as it is read."""

    state: State | None
    changes: tuple[tuple[Change, str], ...]
    backups: tuple[State, ...]


def whole(folder: Path) -> Whole:
    store = open_store(folder)
    kept = (read_backup(backup.path).state for backup in store.backups())
    return Whole(store.read(), tuple(changes(store)), tuple(kept))


def read_backup(path: Path | str) -> StateFile:
    """A backup by where it is."""
    return backups.read(Layout(Path(path).parents[1]), Path(path).name)


def changes(store: LocalStore) -> Iterator[tuple[Change, str]]:
    """Every change of the history, the newest first."""
    for stretch in store.history():
        yield from reversed(stretch.read().changes)


def serials(store: LocalStore) -> list[int]:
    return [change.serial for change, _ in changes(store)]


def segments(folder: Path) -> list[Path]:
    """The files of the history, the newest first."""
    store = open_store(folder)
    state = store.read()
    assert state is not None
    return [folder / "history" / f"{name}.zst" for name, _ in store.segments(state)]


def bare(state: State | None) -> State | None:
    """A state without what says where its history lies."""
    return state and structs.replace(state, sealed=None, gaps={})


def flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def segments_by_serial(folder: Path) -> dict[int, Path]:
    """The segments that are whole, by the last serial in each."""
    found = (each.sealed for each in history.sound(Layout(folder)))
    return {each.serial: folder / "history" / f"{each.segment}.zst" for each in found}


def segmented(folder: Path) -> None:
    """Two segments (with SEGMENT_SIZE 1), a change behind the snapshot, and a backup."""
    with lock_of(open_store(folder)) as lock:
        for number in range(5):
            lock.commit(
                PendingChange(operation="test", builds={f"b{number}": Build(name=f"b{number}")})
            )
            if number in (1, 3):
                lock.compact()
        lock.backup(MANUAL, keep=1)
