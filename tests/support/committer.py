"""Commits five changes in the folder given; run by tests under strace.

Tells each acknowledged serial on stdout by writev, a system call that nothing else
here uses, so that faults injected into write do not hit the telling.
"""

import os
import sys
from pathlib import Path

from packer_fork.changes import new_state
from packer_fork.model import Actor, Build, PendingChange, State, Template
from packer_fork.stores.local import mutex
from packer_fork.stores.local.journal import Journal
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.reader import Reader
from tests.support.strace import await_tracer

COMMITS = 5


def empty() -> State:
    return new_state(lineage="test", key="", template=Template(path="t"), workspace="default")


def main() -> None:
    await_tracer()
    commit_all(Path(sys.argv[1]))


def commit_all(folder: Path) -> None:
    layout = Layout(folder)
    journal = Journal(layout, empty, Reader(layout))
    by = Actor(user="test", host="here", pid=1)
    for number in range(COMMITS):
        try:
            with mutex.held(layout.mutex, print):
                draft = PendingChange(
                    operation="test", why=f"{number}", builds={"b": Build(name="b")}
                )
                serial = journal.commit(draft, token=1, by=by).serial
                if number == COMMITS - 2:
                    journal.compact()
        except OSError:
            continue
        os.writev(1, [f"{serial} {number}\n".encode()])
