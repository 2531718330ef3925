"""What it costs to save and to load a whole state, beside the ancestor's way."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
from msgspec import Raw

from packer_fork import durable
from packer_fork.codec.builds import decode_once, encode_build
from packer_fork.codec.compression import ZSTD_MAGIC
from packer_fork.codec.lines import Line, seal
from packer_fork.codec.statefile import StateFile
from packer_fork.model import Build, State
from packer_fork.stores.archive import backups
from packer_fork.stores.local.journal import COMPRESSED_SIZE
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.reader import Reader
from stress import bare, states
from stress.meter import Bench

GO_SAVES_100, GO_LOADS_100 = 405.0, 461.0
"""Microseconds that the Go ancestor took, without fsync."""


def many_builds(bench: Bench, count: int = 10_000) -> None:
    """Ten thousand builds: the ways to write and to read them all."""
    content, folder = states.state(count), bench.folder()
    bench.section(f"a. {count:,} builds")
    layout, journal = Layout(folder), states.journal(folder)
    journal.put(content)
    data = layout.state.read_bytes()
    bench.add("state file", len(data) / 1e6, "MB")
    bench.check("a state of 10,000 builds is plain JSON", good=not data.startswith(ZSTD_MAGIC))
    plain, whole = folder / "plain", states.ancestor(count)
    bench.compare(
        {
            "bare write of the same bytes, synced and renamed": partial(
                bare.put, folder / "bare", data, sync=True
            ),
            "save": lambda: _write(layout, seal(content), compressed=False),
            "beside it: put in place, with its witness": partial(journal.put, content),
            "save: of this, encode and seal": partial(seal, content),
            "beside it: decode and encode each build": lambda: _encoded(content),
            "ancestor's way, with fsync": partial(bare.save_ancestor, plain, whole, sync=True),
            "ancestor's way, without": partial(bare.save_ancestor, plain, whole, sync=False),
        },
        bench.rounds(25),
        base="ancestor's way, without",
        goals={"save": 25.0},
    )
    del whole
    _loads(bench, layout, plain, content)


def _loads(bench: Bench, layout: Layout, plain: Path, content: State) -> None:
    name = next(reversed(content.builds))
    bench.compare(
        {
            "ancestor's way: json.load": partial(bare.load_ancestor, plain),
            "bare read of the same bytes": layout.state.read_bytes,
            "load, one build decoded": lambda: decode_once(_load(layout).state.builds[name]),
            "load, all builds decoded": lambda: _decoded(_load(layout)),
        },
        bench.rounds(25),
        base="ancestor's way: json.load",
        goals={"load, one build decoded": 15.0, "load, all builds decoded": 60.0},
    )
    read = _load(layout)
    bench.check("what was saved reads back", good=_same(read.state, content) and not read.rest)
    decoded = [states.build(number) for number in range(len(content.builds))]
    bench.check("each build reads back", good=_decoded(read) == decoded)


def hundred_builds(bench: Bench, count: int = 100) -> None:
    content, folder = states.state(count), bench.folder()
    bench.section(f"d. {count} builds (the Go ancestor: save 405 µs, load 461 µs, no fsync)")
    layout, journal, plain = Layout(folder), states.journal(folder), folder / "plain"
    journal.put(content)
    data, whole = layout.state.read_bytes(), states.ancestor(count)
    bench.compare(
        {
            "bare write of the same bytes, synced and renamed": partial(
                bare.put, folder / "bare", data, sync=True
            ),
            "save": lambda: _write(layout, seal(content), compressed=False),
            "beside it: put in place, with its witness": partial(journal.put, content),
            "save: of this, encode and seal": partial(seal, content),
            "the same write without fsync": partial(
                durable.replace, folder / "unsynced", data, durable=False
            ),
            "ancestor's way, with fsync": partial(bare.save_ancestor, plain, whole, sync=True),
            "ancestor's way, without": partial(bare.save_ancestor, plain, whole, sync=False),
        },
        bench.rounds(200),
        unit="µs",
        base="bare write of the same bytes, synced and renamed",
        goals={"save": GO_SAVES_100},
    )
    bench.compare(
        {
            "ancestor's way: json.load": partial(bare.load_ancestor, plain),
            "load": lambda: _load(layout),
            "load, all builds decoded": lambda: _decoded(_load(layout)),
        },
        bench.rounds(200),
        unit="µs",
        base="ancestor's way: json.load",
        goals={"load": GO_LOADS_100},
    )
    bench.check("100 builds read back", good=_same(_load(layout).state, content))


def compressed_or_not(bench: Bench) -> None:
    """The same state, as large as one that is compressed, in both forms."""
    size = len(msgspec.json.encode(states.build(0))) + len(states.name(0))
    content = states.state(COMPRESSED_SIZE // size)
    line = seal(content)
    bench.section(f"g. a state of {len(line.data) / 1e6:.1f} MB, plain and compressed")
    folders = {"plain": bench.folder(), "compressed": bench.folder()}
    layouts = {how: Layout(folder) for how, folder in folders.items()}
    for how, layout in layouts.items():
        _write(layout, line, compressed=how == "compressed")
        bench.add(f"{how}, on disk", layout.state.stat().st_size / 1e6, "MB")
        bench.check(f"{how} reads back", good=_same(_load(layout).state, content))
    bench.compare(
        {f"load, {how}": partial(_load, layout) for how, layout in layouts.items()},
        bench.rounds(25),
        base="load, plain",
    )
    bench.compare(
        {
            f"write, {how}": partial(_write, layout, line, compressed=how == "compressed")
            for how, layout in layouts.items()
        },
        bench.rounds(25),
        base="write, plain",
    )


def _write(layout: Layout, line: Line, *, compressed: bool) -> None:
    """As a compaction does it."""
    durable.replace(layout.state, backups.as_lines([line], compressed=compressed))


def _load(layout: Layout) -> StateFile:
    """As a process does that has read nothing yet."""
    file = Reader(layout).read()
    assert file is not None
    return file


def _decoded(file: StateFile) -> list[Build]:
    return [decode_once(raw) for raw in file.state.builds.values()]


def _encoded(state: State) -> list[Raw]:
    return [encode_build(decode_once(raw)) for raw in state.builds.values()]


def _same(read: State, written: State) -> bool:
    return msgspec.json.encode(read) == msgspec.json.encode(written)
