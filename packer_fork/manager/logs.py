"""The masked log of a run, as far as it is, or as it grows."""

from __future__ import annotations

import time
from collections.abc import Iterator

from packer_fork.errors import UsageError
from packer_fork.manager.build import log_files, run_document
from packer_fork.manager.build.log_files import LogFiles
from packer_fork.manager.places import Place
from packer_fork.packer.tail import Tail

_PAUSE = 0.1


def read(place: Place, run: int | None, *, follow: bool) -> Iterator[str]:
    """The lines of the log of `run` (None: the last); with `follow` until the run has ended.

    Raises UsageError if there is no such log.
    """
    state = place.store.read()
    last = state.last_run.number if state and state.last_run else None
    number = run or last
    if number is None:
        raise UsageError("There is no run yet.", hint="`packer-fork build` makes the first.")
    found = log_files.of_run(place.store.logs, number)
    if not found and not (follow and _is_running(place, number)):
        where = place.store.logs / f"{number}-*.log"
        raise UsageError(f"There is no log of run {number}.", hint=f"Looked for {where}.")
    shown = set[str]()
    while True:
        goes_on = follow and _is_running(place, number)
        for files in log_files.of_run(place.store.logs, number):
            if files.key not in shown:
                shown.add(files.key)
                yield from _lines(place, files, follow=follow)
        if not goes_on:
            return
        time.sleep(_PAUSE)


def _lines(place: Place, files: LogFiles, *, follow: bool) -> Iterator[str]:
    rest = b""
    with Tail(files.masked, 0) as tail:
        while True:
            goes_on = follow and _is_in_progress(place, files.key)
            while data := tail.read():
                *whole, rest = (rest + data).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in whole)
            if not goes_on:
                return
            time.sleep(_PAUSE)


def _is_in_progress(place: Place, key: str) -> bool:
    items = run_document.unfinished_items(place.store.read())
    return any(item.key == key for item in items)


def _is_running(place: Place, number: int) -> bool:
    run = run_document.unfinished_run(place.store.read())
    return run is not None and run.number == number
