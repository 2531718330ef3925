"""The masked log of a run: as far as it is written, or followed until the run ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from packer_fork.errors import UsageError
from packer_fork.manager import runlog
from packer_fork.manager.runlog import LogFiles
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import RunStatus
from packer_fork.packer.tail import Tail

_PAUSE = 0.1


def read(ref: StateRef, run: int | None, *, follow: bool) -> Iterator[str]:
    """The lines of the log of `run` (None: the last); with `follow` until the run has ended.

    Raises UsageError if there is no such log.
    """
    state = ref.store.read()
    last = state.last_run.number if state and state.last_run else None
    number = run or last
    if number is None:
        raise UsageError("no runs yet", hint="start one with `packer-fork build TEMPLATE`")
    path = LogFiles(ref.store.logs, str(number)).masked
    if path.exists():
        yield from _lines(ref, path, number, follow=follow)
        return
    parts = runlog.parts(ref.store.logs, number)
    if not parts:
        raise UsageError(f"there is no log of run {number}", hint=f"its file would be {path}")
    for part in parts:  # of a shared run: the parts that ran on this machine
        yield from _lines(ref, part.masked, number, follow=False)


def _lines(ref: StateRef, path: Path, number: int, *, follow: bool) -> Iterator[str]:
    rest = b""
    with Tail(path, 0) as tail:
        while True:
            ended = not (follow and _is_running(ref, number))
            while data := tail.read():
                *whole, rest = (rest + data).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in whole)
            if ended:
                return
            time.sleep(_PAUSE)


def _is_running(ref: StateRef, number: int) -> bool:
    state = ref.store.read()
    run = state.last_run if state else None
    return bool(run and run.number == number and run.status is RunStatus.RUNNING)
