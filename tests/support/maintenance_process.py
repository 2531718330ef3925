"""Works on the state in the folder given, in the way given; run by tests under strace.

Tells what was acknowledged on stdout by writev, a system call that nothing else here
uses, so that faults injected into write do not hit the telling. What fails is left, and
the next thing is done.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from packer_fork.errors import PackerForkError
from packer_fork.model import PendingChange
from packer_fork.stores.base import HeldLock
from tests.support.local_states import drafts, lock_of, open_store
from tests.support.strace import await_tracer

_left = contextlib.suppress(PackerForkError)


def tell(what: str, number: int) -> None:
    os.writev(1, [f"{what} {number}\n".encode()])


def commit(lock: HeldLock, *made: PendingChange) -> None:
    for draft in made:
        with _left:
            tell(draft.why, lock.commit(draft).serial)


@contextlib.contextmanager
def lock(folder: Path, *, even_damaged: bool = False) -> Iterator[HeldLock]:
    with lock_of(open_store(folder), even_damaged=even_damaged) as held:
        yield held


def keep_up(folder: Path) -> None:
    """Commits, a segment that grows, backups that are rotated, and a prune."""
    for number in (20, 21):
        with _left, lock(folder) as held:
            commit(held, *drafts(number))
            with _left:
                held.compact()
    with _left, lock(folder) as held:
        for number in (22, 23):
            with _left:
                held.backup("scheduled", keep=1)
            commit(held, drafts(number)[0])
        prune(folder, held)
        commit(held, drafts(23)[1])
        with _left:
            held.compact()


def prune(folder: Path, held: HeldLock) -> None:
    """The two oldest segments go; it is told before, as they may be gone after a kill."""
    *_, cut, _ = (stretch for stretch in open_store(folder).history() if stretch.segment)
    tell("pruning", cut.last)
    commit(held, PendingChange(operation="prune", why="prune", gaps={cut.segment: None}))
    state = open_store(folder).read()
    if state is not None and cut.segment in state.gaps:
        with _left:
            held.discard_unused()


def repair(folder: Path) -> None:
    with _left, lock(folder, even_damaged=True) as held:
        tell("repaired", held.repair().serial)
        commit(held, *drafts(24))


def put(folder: Path) -> None:
    """What is in the folder `source` beside."""
    source = open_store(folder.parent / "source")
    state = source.read()
    assert state is not None
    placed = False
    with _left, lock(folder, even_damaged=True) as held:
        for _, data in source.segments(state):
            held.put_segment(data)
        tell("put", held.put(state).serial)
        placed = True
    if placed:  # its locks may be ahead of the one that put it there
        with _left, lock(folder) as held:
            commit(held, *drafts(25))


def main() -> None:
    await_tracer()
    {"keep_up": keep_up, "repair": repair, "put": put}[sys.argv[1]](Path(sys.argv[2]))
