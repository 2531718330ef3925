"""Runs without Packer: what it would say is fed to the recorder that every run is recorded by.

A run is done at once, or by a forked process that goes on when it is told to, and may be
killed, or lose its lock, before.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import structs

from packer_fork import processes
from packer_fork.errors import LockLostError
from packer_fork.manager.build import log_files, recovery, results, run_document
from packer_fork.manager.build.leftovers import sweep
from packer_fork.manager.build.log_files import ItemLog, LogFiles
from packer_fork.manager.build.outbox import Outbox
from packer_fork.manager.build.recorder import Recorder
from packer_fork.manager.lock import acquire
from packer_fork.manager.state.operation import ensure_state
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import Artifact, PendingChange, Run, State, WorkItem
from packer_fork.packer import lines, outcome
from packer_fork.packer.mask import Mask
from packer_fork.packer.outcome import Outcome
from packer_fork.packer.outline import BuildOutline
from packer_fork.stores.base import TAKE_OVER, HeldLock
from stress.expected import Flight
from tests.conftest import eventually
from tests.support.forks import fork

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_ARTIFACT = Artifact(builder_id="test", id="i", string="an artifact")


def silent(_: object) -> None:
    """What is told is of no interest here."""


def pieces(flight: Flight) -> Iterator[bytes]:
    """What Packer says in the run, piece by piece."""
    for name in flight.names:
        yield _say(f"==> {name}: begins")
    for name in flight.names:
        ended = "errored after 1 second: broken" if name in flight.failing else "finished."
        yield _say(f"Build '{name}' {ended}")
    yield _say("\n==> Builds finished. The artifacts of successful builds are:")
    for name in flight.names:
        if name not in flight.failing:
            yield b"".join(map(lines.encode, lines.of_artifacts(name, [_ARTIFACT], _AT)))


def _say(text: str) -> bytes:
    return lines.encode(lines.Line(_AT, "", "ui", ("say", text)))


def said_within(flight: Flight, size: int) -> int:
    """How many pieces so many bytes of the log hold."""
    end = count = 0
    for piece in pieces(flight):
        end += len(piece)
        if end > size:
            break
        count += 1
    return count


def next_number(place: StateRef, state: State | None) -> int:
    """As a build numbers its runs."""
    known = state.last_run.number if state and state.last_run else 0
    return 1 + max(known, log_files.newest(place.store.logs))


class Recorded:
    """A run under a lock, from its first change on."""

    def __init__(self, place: StateRef, flight: Flight, lock: HeldLock) -> None:
        self.flight = flight
        self._place = place
        self._lock = lock
        self._left = pieces(flight)
        self._files = LogFiles(place.store.logs, f"{flight.number}-1")
        self._files.keep_secrets(("value-that-is-secret",))
        self._log = ItemLog(self._files.masked, silent)
        by, now, token = lock.participant.holder.by, datetime.now(UTC), lock.record.token
        self._run = Run(
            number=flight.number, token=token, started=now, by=by, builds=tuple(flight.names)
        )
        lock.commit(PendingChange(operation="start", last_run=self._run))
        item = WorkItem(
            run=flight.number,
            number=1,
            token=token,
            started=now,
            by=by,
            log=self._files.masked.name,
        )
        start = outcome.begin(item, [BuildOutline(name, "test") for name in flight.names])
        state = place.store.read()
        builds = results.carried_over(start.builds, state, directory="", inputs="")
        begun = Outcome(start.item, builds)
        self._recorder = Recorder(begun, lock, Mask(()), self._log, silent)
        self._recorder.commit("begin")
        self._recorder.raise_unsaved()

    def go_on(self, count: int, *, folded: bool = True) -> None:
        """So many more pieces come into the raw log, and on record if they are `folded`."""
        for _, piece in zip(range(count), self._left, strict=False):
            with self._files.raw.open("ab") as raw:
                raw.write(piece)
            if folded:
                self._recorder.feed(piece)

    def finish(self) -> bool:
        """To the end; whether that came too late for the state."""
        self._recorder.feed(b"".join(self._unfolded()))
        self._recorder.end("normal", 1 if self.flight.failing else 0)
        self._recorder.commit("end")
        after, lost = self._recorder.shown(), self._recorder.unsaved
        self._log.close()
        if isinstance(lost, LockLostError):
            state = self._place.store.read()
            lineage = state.lineage if state else ""
            Outbox(self._place.store.logs, lineage, self._run, silent).keep(after, {})
        self._files.forget_raw()
        if lost is None:
            self._conclude(after)
        return lost is not None

    def _conclude(self, after: Outcome) -> None:
        items, builds = [after.item], after.builds.values()
        ended = run_document.concluded(self._run, items, builds, datetime.now(UTC))
        self._lock.commit(PendingChange(operation="finish", last_run=ended.run))
        self._lock.compact()

    def _unfolded(self) -> Iterator[bytes]:
        """What the log holds already, and what is still to come."""
        size = self._recorder.outcome.item.log_offset
        with suppress(FileNotFoundError):
            yield self._files.raw.read_bytes()[size:]
        yield from self._left


def take(place: StateRef) -> HeldLock:
    """The lock, as a build takes it, with what was left unfinished recovered."""
    asking = acquire.holder("build", template="t", workspace="default", command=(), environ={})
    lock, _ = acquire.acquire(place.store, asking, silent, timeout=0, over=TAKE_OVER)
    try:
        recovery.catch_up(place, lock, silent)
        recovery.recover(place.store, lock, silent, reason="found by the next build")
        ensure_state(place, lock)
        sweep(place, silent)
    except BaseException:
        lock.close()
        raise
    return lock


def build(place: StateRef, flight: Flight) -> None:
    """A whole run."""
    lock = take(place)
    try:
        assert not Recorded(place, flight, lock).finish()
    finally:
        lock.close()


class Told(NamedTuple):
    """What a holder tells: its Packer's pid (0: none), or whether it was too late."""

    packer: int = 0
    late: bool = False


class Holder:
    """A forked process that holds the lock in the midst of a run, as seen from outside."""

    def __init__(
        self, place: StateRef, flight: Flight, *, folded: int, more: int, with_packer: bool
    ) -> None:
        self.flight = flight
        commands, self._command = os.pipe()
        self._answers, answers = os.pipe()
        work = partial(_hold, place, flight, folded, more, with_packer, commands, answers)
        self.pid = fork(work)
        os.close(commands)
        os.close(answers)
        self.packer = self._answer().packer
        self.lost = False

    def finish(self) -> bool:
        """Let it come to its end; whether that was too late."""
        os.write(self._command, b"f")
        answer = self._answer()
        self._reap()
        self.packer = 0
        return answer.late

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def kill_packer(self) -> None:
        """It is not our child, so that its end is seen only from outside."""
        pid, self.packer = self.packer, 0
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: all(each.pid != pid for each in processes.all_processes()))

    def end(self) -> None:
        """Whatever is left of it."""
        if self.pid:
            self.kill()
        if self.packer:
            self.kill_packer()

    def _reap(self) -> None:
        os.waitpid(self.pid, 0)
        os.close(self._command)
        os.close(self._answers)
        self.pid = 0

    def _answer(self) -> Told:
        data = os.read(self._answers, 4096)
        assert data, "the holder has died"
        return msgspec.json.decode(data, type=Told)


def _hold(
    place: StateRef,
    flight: Flight,
    folded: int,
    more: int,
    with_packer: bool,  # noqa: FBT001 (joined to a process as all the others are)
    commands: int,
    answers: int,
) -> None:
    lock = take(place)
    recorded = Recorded(place, flight, lock)
    packer = _packer(lock) if with_packer else None
    recorded.go_on(folded)
    recorded.go_on(more, folded=False)
    os.write(answers, msgspec.json.encode(Told(packer=packer.pid if packer else 0)))
    os.read(commands, 1)
    if packer is not None:
        packer.kill()
        packer.wait()
    is_late = recorded.finish()
    lock.close()
    os.write(answers, msgspec.json.encode(Told(late=is_late)))


def _packer(lock: HeldLock) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "300"], pass_fds=[lock.packer_lock])


def raw_said(logs: Path, flight: Flight) -> int:
    """How many pieces of its output a dead run left where a recovery finds them."""
    files = LogFiles(logs, f"{flight.number}-1")
    if files.kept_secrets() is None:
        return 0
    with suppress(FileNotFoundError):
        return said_within(flight, files.raw.stat().st_size)
    return 0


def with_run_settings(place: StateRef, **settings: int) -> StateRef:
    return structs.replace(place, settings=structs.replace(place.settings, **settings))
