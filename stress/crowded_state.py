"""Readers and writers of one state, and the proof that nothing of it was lost or half there.

Writer W's change number N says so in its words and in one of the few builds that W has. So
each state tells how many changes of each writer are in it, and their sum must be its serial.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from packer_fork import durable
from packer_fork.codec.builds import decode_once
from packer_fork.codec.witness import WITNESS_SIZE, decode_witness
from packer_fork.model import Build, BuildStatus, PendingChange, State
from packer_fork.stores.local import mutex
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.store import LocalStore
from stress import states
from stress.contender import queue_up
from stress.crowd import Answer
from tests.support.local_store import complain, holder, open_store

BUILDS_EACH = 10
PAUSE = 0.01
"""Seconds after a writer's changes, as the ancestor's; the mutex is not first come first served."""


class Pen(Protocol):
    """Makes changes durable, as many at once as it likes; the serial of each."""

    @property
    def at_once(self) -> int: ...

    def write(self, drafts: Sequence[PendingChange]) -> list[int]: ...


class QueuedPen:
    """As every build does: waits for the lock, commits, gives it back."""

    at_once = 1

    def __init__(self, folder: Path) -> None:
        self._store = open_store(folder)

    def write(self, drafts: Sequence[PendingChange]) -> list[int]:
        got = queue_up(self._store, holder("write"))
        try:
            return [got.lock.commit(draft).serial for draft in drafts]
        finally:
            got.lock.close()


class JournalPen:
    """Under the mutex alone, as the commits of one lock, for as many as can be.

    Not so many that those who wait, of whom any may be next, have few turns within the minute
    after which they give up.
    """

    at_once = 10

    def __init__(self, folder: Path) -> None:
        self._layout = Layout(folder)
        durable.make_folder(folder)
        self._journal = states.journal(folder)

    def write(self, drafts: Sequence[PendingChange]) -> list[int]:
        with mutex.held(self._layout.mutex, complain):
            return [self._commit(draft) for draft in drafts]

    def _commit(self, draft: PendingChange) -> int:
        return self._journal.commit(draft, token=1, by=states.ACTOR).serial


def write_for(pen: Pen, writer: int, seconds: float) -> Answer:
    """How many changes were acknowledged."""
    number, last = 0, -1
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        serials = pen.write([change(writer, number + more) for more in range(pen.at_once)])
        assert sorted({last, *serials}) == [last, *serials], f"{serials} after {last}"
        number, last = number + len(serials), serials[-1]
        time.sleep(PAUSE)
    return (number,)


def read_for(store: LocalStore, folder: Path, pause: float, seconds: float) -> Answer:
    """How often it was read; each time it is the whole state, and none that is too old."""
    reads = newest = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        newest = max(newest, acknowledged(folder))
        state = store.read()
        serial = state.serial if state else 0
        assert serial >= newest, f"serial {serial} was read after {newest}"
        assert state is None or sum(counted(state).values()) == serial
        reads, newest = reads + 1, serial
        time.sleep(pause)
    return (reads,)


def change(writer: int, number: int) -> PendingChange:
    name = f"{writer}.{number % BUILDS_EACH}"
    build = Build(
        name=name, type="amazon-ebs", status=BuildStatus.COMPLETE, error=f"{writer}.{number}"
    )
    return PendingChange(operation="write", why=build.error, builds={name: build})


def acknowledged(folder: Path) -> int:
    witness = decode_witness(durable.read(folder / "acked", WITNESS_SIZE + 1) or b"")
    return witness.serial if witness else 0


def counted(state: State) -> dict[int, int]:
    """How many changes of each writer a state has, by the newest of its builds."""
    found: dict[int, int] = {}
    for raw in state.builds.values():
        writer, number = map(int, decode_once(raw).error.split("."))
        found[writer] = max(found.get(writer, 0), number + 1)
    return found


def missing(folder: Path, written: Sequence[int]) -> list[str]:
    """What contradicts that writer W had the first `written[W]` of its changes acknowledged.

    In the history each writer's changes must be there once, in their order; it is read from
    its end, and never more than a piece of it at once.
    """
    wrong: list[str] = []
    expected = list(written)
    serial = sum(written)
    for stretch in open_store(folder).history():
        for made, _ in reversed(stretch.read().changes):
            writer, number = map(int, made.why.split("."))
            expected[writer] -= 1
            if (made.serial, number) != (serial, expected[writer]):
                wrong.append(f"{made.why} as serial {made.serial}, not {serial}")
            serial -= 1
    wrong += [f"{left} of writer {writer}" for writer, left in enumerate(expected) if left]
    return wrong
