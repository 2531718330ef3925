"""What it costs to commit one change, and to load a small state after it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

from packer_fork.codec.builds import decode_once
from packer_fork.model import State
from packer_fork.stores.base import HeldLock
from packer_fork.stores.local import mutex
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.reader import Reader
from stress import bare, states
from stress.bare import Appender
from stress.meter import Bench, Step, medians, samples

_BARE = "bare append and fdatasync"
_RUN = 8
"""Changes after which a run ends, and its state is compacted."""


class _Committer:
    """Commits one change after the other, and measures what each adds to the file."""

    def __init__(self, folder: Path, content: State) -> None:
        self.store = states.place(folder, content)
        self.lock: HeldLock = states.acquired(self.store)
        self.layout = Layout(folder / "default")
        self.sizes: list[int] = []
        self._draft = states.progress(1000)

    def commit(self) -> None:
        self.lock.commit(self._draft)

    def commit_and_size(self) -> None:
        before = self.layout.state.stat().st_size
        self.commit()
        self.sizes.append(self.layout.state.stat().st_size - before)

    def reads_back(self) -> bool:
        file = Reader(self.layout).read()
        return (
            file is not None
            and not file.rest
            and file.state.last_run == self._draft.last_run
            and decode_once(file.state.builds[states.name(0)]).run == 2
        )


def one_change(bench: Bench) -> None:
    """Beside a bare append of as many bytes; the file is compacted by itself meanwhile."""
    for count in (10, 1000, 10_000):
        bench.section(f"b. one change of a state of {count:,} builds")
        content = states.state(count)
        committer = _Committer(bench.folder(), content)
        for _ in range(20):
            committer.commit_and_size()
        size = max(committer.sizes)
        bench.add("bytes of a change, at the most", size, "B", goal=2048)
        under_mutex = _under_mutex(bench.folder(), content)
        appender = Appender(bench.folder() / "bare", size)
        taken = samples(
            {
                _BARE: appender.append,
                "HeldLock.commit": committer.commit,
                "Journal.commit": under_mutex,
            },
            bench.rounds(1000),
        )
        found = medians(taken, "µs")
        bench.add(_BARE, found[_BARE], "µs")
        for what in ("HeldLock.commit", "Journal.commit"):
            bench.add(what, found[what], "µs", goal=2 * found[_BARE], base=(_BARE, found[_BARE]))
        mean = statistics.mean(taken["HeldLock.commit"]) * 1e6
        base = statistics.mean(taken[_BARE]) * 1e6
        bench.add("HeldLock.commit, mean with compactions", mean, "µs", base=("the mean", base))
        bench.check(f"{count} builds with changes read back", good=committer.reads_back())
        committer.lock.close()
        appender.close()


def _under_mutex(folder: Path, content: State) -> Callable[[], object]:
    journal, layout, draft = states.journal(folder), Layout(folder), states.progress(1000)
    journal.put(content)

    def commit() -> None:
        with mutex.held(layout.mutex, print):
            journal.commit(draft, token=1, by=states.ACTOR)

    return commit


def commit_and_load(bench: Bench, count: int = 10) -> None:
    """The ancestor's cycle of 310 µs, which had no fsync in it; with the parts that it is of."""
    bench.section(f"c. commit and load, {count} builds, compacted after each {_RUN} changes")
    folder = bench.folder()
    committer = _Committer(folder, states.state(count))
    committer.commit_and_size()
    appender = Appender(folder / "bare", committer.sizes[-1])
    plain, whole = folder / "plain", states.ancestor(count)

    def load() -> None:
        states.store_in(folder).read()

    def cycle() -> None:
        committer.commit()
        load()

    def ancestors(*, sync: bool) -> None:
        bare.save_ancestor(plain, whole, sync=sync)
        bare.load_ancestor(plain)

    steps: dict[str, Step] = {
        _BARE: appender.append,
        "commit and load": cycle,
        "commit": committer.commit,
        "load": load,
        "ancestor's way, with fsync": partial(ancestors, sync=True),
        "ancestor's way, without": partial(ancestors, sync=False),
    }
    found = medians(samples(steps, bench.rounds(1000), after=_each(_RUN, committer)), "µs")
    for what, value in found.items():
        base = (_BARE, found[_BARE]) if what != _BARE else None
        bench.add(what, value, "µs", goal=310 if what == "commit and load" else None, base=base)
    bench.add(
        "commit and load but for the bare append", found["commit and load"] - found[_BARE], "µs"
    )
    bench.check("10 builds with changes read back", good=committer.reads_back())
    _compaction(bench, committer)
    committer.lock.close()
    appender.close()


def _each(rounds: int, committer: _Committer) -> Callable[[], object]:
    """Compacts after so many changes, two of which are made in a round."""
    made = 0

    def after() -> None:
        nonlocal made
        made += 2
        if made >= rounds:
            committer.lock.compact()
            made = 0

    return after


def _compaction(bench: Bench, committer: _Committer) -> None:
    """At the end of a run, into segments of all sizes up to the largest."""

    def run() -> None:
        for _ in range(_RUN):
            committer.commit()

    taken = samples({"": run, "compact": committer.lock.compact}, bench.rounds(200))
    bench.add(f"compact after {_RUN} changes, median", medians(taken, "µs")["compact"], "µs")
    bench.add(f"compact after {_RUN} changes, longest", max(taken["compact"]) * 1e6, "µs")
