"""Whether anything grows dearer with the number of runs that are kept."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from packer_fork.codec.builds import decode_once
from packer_fork.manager.state import history as manager
from packer_fork.manager.state.history import Page, RunFilter
from packer_fork.model import Build
from packer_fork.stores.archive import history
from packer_fork.stores.base import HeldLock
from packer_fork.stores.local.layout import Layout
from stress import histories, plot, states
from stress.bare import Appender
from stress.meter import Bench, Step, medians, samples

Row = dict[str, float]

_PAGE = 20
_CHANGE = 1570
"""Bytes of a change, see the figures of one change."""

_LONG = 100_000
"""Runs from which on there is time for a few rounds only."""


def growing(bench: Bench, drawing: Path | None) -> None:
    """A table, and a plot into the file `drawing`."""
    counts = (100, 1000, 10_000) if bench.quick else (100, 10_000, 100_000, 1_000_000)
    rows = {count: _measured(bench, count) for count in counts}
    bench.section("f. cost against the number of runs, in ms")
    print(f"  {'':<36}" + "".join(f"{count:>12,}" for count in rows))
    for what in rows[counts[0]]:
        print(f"  {what:<36}" + "".join(f"{row[what]:>12.3f}" for row in rows.values()))
    if drawing is not None:
        lines = {
            what: [(count, row[what]) for count, row in rows.items()] for what in rows[counts[0]]
        }
        title = "Cost against the number of runs that are kept"
        drawing.write_text(plot.svg(title, "runs", "ms", lines), encoding="utf-8")


def _measured(bench: Bench, count: int) -> Row:
    bench.section(f"f. a history of {count:,} runs")
    folder = bench.folder()
    layout = Layout(folder / "default")
    start = time.perf_counter()
    histories.write(layout, count)
    bench.add("made in", time.perf_counter() - start, "s")
    names = history.stored(layout)
    size = sum(layout.segment(name).stat().st_size for name in names)
    bench.add("segments", len(names), "files")
    bench.add("segments, compressed", size / 1e6, "MB")
    for problem in histories.problems(layout, count):
        bench.check(problem, good=False)
    os.sync()  # what is written back later would disturb
    return _pages(bench, folder, count) | _flat(bench, folder, count)


def _pages(bench: Bench, folder: Path, count: int) -> Row:
    pages: dict[str, Callable[[], Page]] = {
        "first page of runs": partial(_page, folder, RunFilter()),
        "first page of one build's": partial(_page, folder, RunFilter(build=states.name(1))),
        "first page of failed runs": partial(_page, folder, RunFilter(status="failed")),
        "first page of what never was": partial(_page, folder, RunFilter(status="unverified")),
    }
    full, rare = min(_PAGE, count), min(_PAGE, histories.failed(count))
    for (what, page), expected in zip(pages.items(), (full, full, rare, 0), strict=True):
        found = len(page().runs)
        bench.check(f"{what} holds {expected} runs, not {found}", good=found == expected)
    row: Row = {}
    for what, page in pages.items():  # one after the other, as some read all that there is
        taken = samples({what: page}, 5 if count >= _LONG else bench.rounds(25))
        row |= _told(bench, medians(taken, "ms"))
    return row


def _flat(bench: Bench, folder: Path, count: int) -> Row:
    """What must not grow at all; a run ends, and is compacted, after eight changes."""
    shown = _shown(folder)
    bench.check("the last run's build is shown", good=shown.run == count)
    lock = states.acquired(states.store_in(folder))
    draft = states.progress(1000, count + 1)
    lock.commit(draft)
    appender = Appender(folder / "bare", _CHANGE)
    steps: dict[str, Step] = {
        "bare append and fdatasync": appender.append,
        "commit": partial(lock.commit, draft),
        "state show --build": partial(_shown, folder),
    }
    compact: list[float] = []
    taken = samples(steps, bench.rounds(400), after=_each_eighth(lock, compact))
    lock.close()
    appender.close()
    return _told(bench, medians(taken | {"compact, after 8 changes": compact}, "ms"))


def _each_eighth(lock: HeldLock, taken: list[float]) -> Step:
    rounds = itertools.count(1)

    def compact() -> None:
        if next(rounds) % 8 == 0:
            start = time.perf_counter()
            lock.compact()
            taken.append(time.perf_counter() - start)

    return compact


def _told(bench: Bench, row: Row) -> Row:
    for what, value in row.items():
        bench.add(what, value, "ms")
    return row


def _page(folder: Path, wanted: RunFilter) -> Page:
    return manager.page(states.store_in(folder), wanted, limit=_PAGE, number=1)


def _shown(folder: Path) -> Build:
    state = states.store_in(folder).read()
    assert state is not None
    return decode_once(state.builds[states.name(2)])
