"""Many processes work on one state's lock and history at once, while all goes wrong.

Like ``stress.lock_chaos``, of which this is made, but the workers also begin and end runs,
compact, back up, roll back and prune; others only read the history, or back it up in files,
and note whatever they should not have seen. They are killed, they lose their lock, they are
frozen, their disk is full for a while. What a prune lets go of is put into an archive
before, so that in the end every acknowledged change must be in the history or in there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
from msgspec import structs

from packer_fork.changes import steps
from packer_fork.config import Settings
from packer_fork.errors import LockLostError, PackerForkError, StoreError, UsageError
from packer_fork.manager.state import backup, history, maintenance
from packer_fork.manager.state_ref import StateFolder, StateRef
from packer_fork.model import Build, BuildStatus, PendingChange, Run, RunStatus, State
from packer_fork.stores.base import MANUAL, HeldLock, Store
from packer_fork.stores.local.folder import MIN_FREE
from packer_fork.stores.local.layout import Layout
from stress.checker import Committed, Kept
from stress.contender import Contender
from stress.disks import PAGE, Disk
from stress.lock_chaos import Chaos
from stress.recorder import Recorder, kept, now
from tests.support.forks import fork
from tests.support.local_store import open_store

_KEEP_RUNS = 20
_TEXT = "x" * 200
_PAUSE = 0.15
"""Seconds between two kills at the most."""

_BEHIND = 10
"""How nice the workers are to who makes the trouble: hundreds would leave no time for it."""

_ENOUGH = 3
"""Troubles of each kind at the least, however slow the machine is."""


class HistoryChaos(Chaos):
    """`size` processes at any time, most of which want the lock."""

    def __init__(self, folder: Path, size: int, disk: Disk | None = None) -> None:
        super().__init__(folder, disk.point if disk else None)
        self._disk = disk
        self.freezes = self.fills = 0
        self.notes = folder / "notes"
        self._archive = folder / "archive"
        self._size = size
        self.notes.touch()
        self._archive.touch()

    def run(self, seconds: float) -> None:
        """So long from when all are there."""
        try:
            self._recruit()
            end = time.monotonic() + seconds
            while time.monotonic() < end or not self._had_enough():
                self._recruit()
                time.sleep(random.uniform(0, _PAUSE))
                self._trouble()
        finally:
            for pid in list(self._workers):
                self._end(pid)

    def _recruit(self) -> None:
        while len(self._workers) < self._size:
            self._start()

    def _had_enough(self) -> bool:
        had = (self.kills, self.freezes, *((self.fills,) if self._disk else ()))
        return all(times >= _ENOUGH for times in had)

    def _trouble(self) -> None:
        (trouble,) = random.choices(
            (self._kill, self._unlock, self._freeze, self._fill), (16, 2, 2, 2 if self._disk else 0)
        )
        trouble()

    def _freeze(self) -> None:
        worker = random.choice(list(self._workers))
        os.kill(worker, signal.SIGSTOP)
        time.sleep(random.uniform(0, 2 * _PAUSE))
        os.kill(worker, signal.SIGCONT)
        self.freezes += 1

    def _fill(self) -> None:
        """Too little room to begin anything, or so much that it ends half-way, for a while."""
        assert self._disk is not None
        ballast = self._disk.fill(random.choice((0, MIN_FREE)) + random.randrange(20) * PAGE)
        time.sleep(random.uniform(0, 2 * _PAUSE))
        ballast.unlink()
        self.fills += 1

    def _start(self) -> None:
        name, seed = self._name(), random.random()
        work = random.choices((_write, _read, _copy), (10, 3, 1))[0]
        self._workers[fork(partial(_be, work, self, name, seed))] = name

    def contender(self, name: str) -> Writer:
        return Writer(self.folder, self._record, self._archive, name)

    def kept(self) -> list[Kept]:
        """Every change that is found in the end, also those that were let go of in order."""
        archived = msgspec.json.Decoder(Kept).decode_lines(self._archive.read_bytes())
        everything = {*archived, *kept(self.folder)}
        return sorted(everything, key=lambda change: change.serial)

    def note(self, text: str) -> None:
        with self.notes.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")


def _be(
    work: Callable[[HistoryChaos, Writer], None], chaos: HistoryChaos, name: str, seed: float
) -> None:
    os.nice(_BEHIND)
    random.seed(seed)
    me = chaos.contender(name)
    try:
        while True:
            work(chaos, me)
    except Exception as error:
        chaos.note(f"{work.__name__}: {type(error).__name__}: {error}")
        raise


class Writer(Contender):
    """Holds the lock to do what builds and operators do; notes each change it was promised."""

    def __init__(self, folder: Path, record: Recorder, archive: Path, name: str) -> None:
        super().__init__(open_store(folder), record, name=name)
        self._archive = archive
        self.place = _place(self.store, folder)

    def work(self, lock: HeldLock) -> None:
        """Raises LockLostError if the lock was closed meanwhile."""
        chosen: Callable[[HeldLock], None] = random.choices(
            (self._run, self._compact, self._back_up, self._roll_back, self._prune),
            (10, 3, 2, 2, 2),
        )[0]
        chosen(lock)

    def _run(self, lock: HeldLock) -> None:
        """One run, from its start to its end; and the end of those that others left."""
        state = self.store.read()
        left = state.last_run if state else None
        if left is not None and left.status is RunStatus.RUNNING:
            ended = structs.replace(left, status=RunStatus.INTERRUPTED)
            self._commit(lock, PendingChange(operation="recover", last_run=ended))
        run = _next_run(state, lock)
        build = Build(name=f"b{run.number % 5}", run=run.number, error=_TEXT)
        self._commit(lock, _draft("start", run, build))
        done = structs.replace(build, status=BuildStatus.COMPLETE)
        ended = structs.replace(run, status=RunStatus.COMPLETE)
        self._commit(lock, _draft("finish", ended, done))

    def _compact(self, lock: HeldLock) -> None:
        lock.compact()

    def _back_up(self, lock: HeldLock) -> None:
        if self.store.read() is not None:
            lock.backup(random.choice((MANUAL, "scheduled")), keep=3)
            for old in self.store.backups()[:-5]:
                Path(old.path).unlink(missing_ok=True)

    def _roll_back(self, lock: HeldLock) -> None:
        state = self.store.read()
        if state is None:
            return
        with suppress(UsageError):  # beyond what is kept
            then = history.at(self.store, max(1, state.serial - random.randrange(40)))
            builds = steps(state.builds, then.builds)
            self._commit(lock, PendingChange(operation="rollback", builds=builds))

    def _prune(self, lock: HeldLock) -> None:
        found = maintenance.find_prunable(self.store, self.place.settings)
        if found.cut:
            self._keep(kept(Path(self.store.location)), upto=found.last)
            maintenance.prune_held(lock, self.place)

    def _keep(self, changes: list[Kept], *, upto: int) -> None:
        going = (change for change in changes if change.serial <= upto)
        data = b"".join(msgspec.json.encode(change) + b"\n" for change in going)
        descriptor = os.open(self._archive, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.write(descriptor, data)
        os.close(descriptor)

    def _commit(self, lock: HeldLock, draft: PendingChange) -> None:
        mark, begun = f"{self.name}.{self._changes}", now()
        self._changes += 1
        serial = lock.commit(structs.replace(draft, why=mark)).serial
        number = lock.record.token
        self._record.note(
            Committed(token=number, serial=serial, mark=mark, begun=begun, acknowledged=now())
        )


def _write(_: HistoryChaos, me: Writer) -> None:
    with _room_permitting():
        lock = me.enter(queue=random.random() < 0.8)
        if lock is None:
            return
        try:
            with suppress(LockLostError):
                for _times in range(random.randrange(1, 3)):
                    me.work(lock)
        finally:
            me.leave(lock)


@contextlib.contextmanager
def _room_permitting() -> Iterator[None]:
    try:
        yield
    except PackerForkError as error:
        if not (isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC):
            raise


def _read(chaos: HistoryChaos, _: Writer) -> None:
    """All of the history: each change once, without a gap, the newest at least."""
    store = open_store(chaos.folder)
    state = store.read()
    serials = [change.serial for change in history.changes(store)]
    if serials != sorted(set(serials), reverse=True):
        chaos.note("the history was told out of order, or twice")
    if serials and serials[0] - serials[-1] != len(serials) - 1:
        chaos.note(f"{len(serials)} changes were told of {serials[-1]} to {serials[0]}")
    if state is not None and max(serials, default=0) < state.serial:
        chaos.note(f"{serials[:1]} was the newest change, after {state.serial} was seen")


def _copy(chaos: HistoryChaos, me: Writer) -> None:
    """A backup of state and history in a file, which reads back."""
    path = chaos.folder.parent / f"{me.name}.{now()}.tar"
    if chaos.folder.exists() and me.store.read() is not None:
        with _room_permitting(), suppress(StoreError):  # it changes too fast
            backup.in_file(me.place, path)
            backup.read(path)
        path.unlink(missing_ok=True)


def _place(store: Store, folder: Path) -> StateRef:
    settings = Settings(keep_runs=_KEEP_RUNS, keep_backups=3)
    return StateRef(
        StateFolder(folder.parent.parent, folder.parent.name, "default"), store, settings
    )


def _next_run(state: State | None, lock: HeldLock) -> Run:
    last = state.last_run if state else None
    record = lock.record
    return Run(
        number=1 + (last.number if last else 0),
        token=record.token,
        started=record.created,
        by=lock.participant.holder.by,
    )


def _draft(operation: str, run: Run, build: Build) -> PendingChange:
    named = structs.replace(run, builds=(build.name,))
    return PendingChange(operation=operation, builds={build.name: build}, last_run=named)


def problems(chaos: HistoryChaos) -> Iterator[str]:
    """What workers should not have seen, and what is wrong with all that is stored."""
    yield from chaos.notes.read_text(encoding="utf-8").splitlines()
    store = open_store(chaos.folder)
    try:
        yield from (f"{each.file}: {each.what}" for each in store.verify().problems)
    except PackerForkError as error:
        yield error.message
    left = [path.name for path in Layout(chaos.folder).folder.iterdir() if path.name[0] == "."]
    if len(left) > chaos.kills:
        yield f"{len(left)} files were left half-made by {chaos.kills} kills"
