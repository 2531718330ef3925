"""Writers and readers of one local state, each a process that may be killed at any time.

A writer notes each acknowledged change in a file of its own, after the commit has
returned; whatever is noted there must be found in the state for ever.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from packer_fork.changes import new_state
from packer_fork.codec.witness import decode_witness
from packer_fork.model import Actor, Build, Change, PendingChange, State, Template
from packer_fork.stores.archive.segment_ranges import segment_ranges
from packer_fork.stores.local import journal, mutex
from packer_fork.stores.local.journal import Journal
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.reader import Reader

BY = Actor(user="test", host="here", pid=1)


def ignore(_: str) -> None:
    """What the mutex says of a holder that keeps it long is of no interest here."""


def empty() -> State:
    return new_state(
        lineage="test", key="", template=Template(path="t.pkr.hcl"), workspace="default"
    )


def open_journal(folder: Path) -> Journal:
    layout = Layout(folder)
    return Journal(layout, empty, Reader(layout))


def commit(folder: Path, here: Journal, mark: str) -> int:
    """One change that carries `mark`; returns its serial."""
    build = Build(name=f"b{hash(mark) % 7}", error="x" * random.randrange(2000))
    with mutex.held(Layout(folder).mutex, ignore):
        draft = PendingChange(operation="test", why=mark, builds={build.name: build})
        return here.commit(draft, token=1, by=BY).serial


def write_for_ever(folder: Path, notes: Path) -> None:
    journal.REST_SIZE = 30_000  # compactions too shall be killed half-way
    random.seed(os.getpid())
    here = open_journal(folder)
    with notes.open("ab", buffering=0) as noted:
        number = 0
        while True:
            mark = f"{os.getpid()}.{time.monotonic_ns()}.{number}"
            serial = commit(folder, here, mark)
            noted.write(f"{serial} {mark}\n".encode())
            number += 1


def read_for_ever(folder: Path, notes: Path) -> None:
    """Note every read that failed or went back; a good reader notes only how often it read."""
    here = open_journal(folder)
    newest = reads = 0
    with notes.open("ab", buffering=0) as noted:
        while True:
            acknowledged = decode_witness((folder / "acked").read_bytes() or b"")
            file = here.read()
            serial = file.state.serial if file else 0
            if serial < newest or (acknowledged and serial < acknowledged.serial):
                noted.write(f"BACK {serial} after {newest} {acknowledged}\n".encode())
            newest = serial
            reads += 1
            if reads % 100 == 0:
                noted.write(b"100 reads\n")


def fork(work: Callable[[Path, Path], None], folder: Path, notes: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        work(folder, notes)
    except BaseException as error:  # noqa: BLE001 (a child tells by its notes)
        with notes.open("a") as noted:
            noted.write(f"ERROR {error!r}\n")
    os._exit(1)


def hammer(folder: Path, notes: Path, *, kills: int, writers: int = 4, readers: int = 2) -> None:
    """Kill random writers `kills` times, each replaced at once."""
    open_journal(folder)
    durable_start(folder)
    number = 0
    alive: dict[int, None] = {}
    reading = [fork(read_for_ever, folder, notes / f"reader{n}") for n in range(readers)]
    try:
        while number < kills:
            while len(alive) < writers:
                alive[fork(write_for_ever, folder, notes / f"writer{number}.{len(alive)}")] = None
            time.sleep(random.uniform(0, 0.008))
            victim = random.choice(list(alive))
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            del alive[victim]
            number += 1
    finally:
        for pid in (*alive, *reading):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def durable_start(folder: Path) -> None:
    commit(folder, open_journal(folder), "first")


def acknowledged(notes: Path) -> dict[int, str]:
    """Serial -> mark of all that writers noted; fails on a note of an error."""
    found: dict[int, str] = {}
    for path in notes.iterdir():
        for line in path.read_text().splitlines(keepends=True):
            assert not line.startswith(("ERROR", "BACK")), (path, line)
            if line.endswith("\n") and path.name.startswith("writer"):
                serial, mark = line.split()
                assert int(serial) not in found, "two changes with one serial"
                found[int(serial)] = mark
    return found


def committed(folder: Path) -> dict[int, str]:
    """Serial -> mark of all changes in the state file and its whole sealed history."""
    return {change.serial: change.why for change in changes(folder)}


def changes(folder: Path) -> list[Change]:
    """Every change that ever was, the newest segment first."""
    layout = Layout(folder)
    reader = Reader(layout)
    read = (stretch.read() for stretch in segment_ranges(layout, reader, reader.read()))
    return [change for passage in read for change, _ in passage.changes]


if __name__ == "__main__":  # in a process of its own, which is faster to fork than pytest's
    hammer(Path(sys.argv[1]), Path(sys.argv[2]), kills=int(sys.argv[3]))
