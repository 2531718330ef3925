"""The masked log of a run: as far as it is written, or followed until the run ends."""

from __future__ import annotations

import time
from collections.abc import Iterator

from packer_fork.errors import UsageError
from packer_fork.manager.build import log_files, run_document
from packer_fork.manager.build.log_files import LogFiles
from packer_fork.manager.state_ref import StateRef
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
    found = log_files.of_run(ref.store.logs, number)
    if not found and not (follow and _is_running(ref, number)):
        where = ref.store.logs / f"{number}-*.log"
        raise UsageError(f"there is no log of run {number}", hint=f"its files would be {where}")
    shown = set[str]()
    while True:
        goes_on = follow and _is_running(ref, number)
        for files in log_files.of_run(ref.store.logs, number):
            if files.key not in shown:
                shown.add(files.key)
                yield from _lines(ref, files, follow=follow)
        if not goes_on:
            return
        time.sleep(_PAUSE)


def _lines(ref: StateRef, files: LogFiles, *, follow: bool) -> Iterator[str]:
    rest = b""
    with Tail(files.masked, 0) as tail:
        while True:
            goes_on = follow and _is_in_progress(ref, files.key)
            while data := tail.read():
                *whole, rest = (rest + data).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in whole)
            if not goes_on:
                return
            time.sleep(_PAUSE)


def _is_in_progress(ref: StateRef, key: str) -> bool:
    """Whether a process that may write into the item's log still lives."""
    items = run_document.unfinished_items(ref.store.read())
    return any(item.key == key and ref.store.is_alive(item.token) for item in items)


def _is_running(ref: StateRef, number: int) -> bool:
    run = run_document.unfinished_run(ref.store.read())
    return run is not None and run.number == number and ref.store.is_alive(run.token)
