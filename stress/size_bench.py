"""What grows with the number of builds in a state, and what does not, beside the ancestor's way."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from packer_fork.codec.builds import decode_once
from stress import bare, plot, states
from stress.bare import Appender
from stress.meter import Bench, Step, medians, samples

_CHANGE = 1570
"""Bytes of a change, see the figures of one change."""

_LARGE = 10_000
"""Builds from which on there is time for a few rounds only."""


def sizes(bench: Bench, drawing: Path | None) -> None:
    """Figures, and a plot into the file `drawing`."""
    counts = (10, 100, 1000) if bench.quick else (10, 100, 1000, 10_000, 50_000)
    rows = {count: _measured(bench, count) for count in counts}
    if drawing is not None:
        lines = {what: [(count, row[what]) for count, row in rows.items()] for what in rows[10]}
        title = "Cost against the number of builds in a state"
        drawing.write_text(plot.svg(title, "builds", "ms", lines), encoding="utf-8")


def _measured(bench: Bench, count: int) -> dict[str, float]:
    bench.section(f"k. a state of {count:,} builds")
    content, folder = states.state(count), bench.folder()
    store = states.place(folder, content)
    lock = states.acquired(store)
    draft, last = states.progress(1000), states.name(count - 1)
    plain, whole = folder / "plain", states.ancestor(count)
    appender = Appender(folder / "bare", _CHANGE)
    bare.save_ancestor(plain, whole, sync=True)

    def load() -> None:
        state = states.store_in(folder).read()
        assert state is not None
        decode_once(state.builds[last])

    steps: dict[str, Step] = {
        "bare append and fdatasync": appender.append,
        "one change": partial(lock.commit, draft),
        "one change, whole JSON": partial(bare.save_ancestor, plain, whole, sync=True),
        "load, one build read": load,
        "load, json.load": partial(bare.load_ancestor, plain),
    }
    found = medians(samples(steps, 5 if count >= _LARGE else bench.rounds(25)), "ms")
    for what, value in found.items():
        bench.add(what, value, "ms")
    state = states.store_in(folder).read()
    bench.check("all builds are there", good=state is not None and len(state.builds) == count)
    lock.close()
    appender.close()
    return found
