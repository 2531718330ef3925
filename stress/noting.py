"""packer-fork itself, which notes every change that was acknowledged, in a file elsewhere.

    python -m stress.noting NOTES PYTHON -m packer_fork ARGUMENTS...

It can stand before any command line. A note is one writev, which nothing else here
calls, so that faults put into write hit what is tested and not the noting of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from packer_fork.cli.guard import guarded
from packer_fork.model import PendingChange
from packer_fork.stores.base import Committed
from packer_fork.stores.local.held_lock import LocalLock

ROOT = Path(__file__).parents[1]


class Noted(NamedTuple):
    """A change that somebody was told is durable."""

    serial: int
    token: int
    operation: str


def under(notes: Path) -> tuple[str, ...]:
    """What a command line is run by; its environment needs `environment`."""
    return (sys.executable, "-m", "stress.noting", str(notes))


environment = {"PYTHONPATH": str(ROOT)}


def read(notes: Path) -> list[Noted]:
    """All that was noted; a last line that is not whole was not told to anybody."""
    text = notes.read_text(encoding="utf-8") if notes.exists() else ""
    words = (line.split() for line in text.splitlines(keepends=True) if line.endswith("\n"))
    return [Noted(int(serial), int(token), operation) for serial, token, operation in words]


def write(notes: Path, noted: Iterable[Noted]) -> None:
    """In the place of all notes that there are."""
    lines = (f"{each.serial} {each.token} {each.operation}\n" for each in noted)
    notes.write_text("".join(lines), encoding="utf-8")


def _note_to(notes: Path) -> None:
    descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    commit = LocalLock.commit

    def noted(self: LocalLock, draft: PendingChange) -> Committed:
        done = commit(self, draft)
        line = f"{done.serial} {self.record.token} {draft.operation}\n"
        os.writev(descriptor, [line.encode()])
        return done

    LocalLock.commit = noted  # type: ignore[method-assign]


if __name__ == "__main__":
    _note_to(Path(sys.argv[1]))
    raise SystemExit(guarded(sys.argv[sys.argv.index("packer_fork") + 1 :]))
