"""The docs' table of figures, renewed between its two marks by what was measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from stress.meter import Figure

BEGIN = "<!-- figures: made by `make bench` -->\n"
END = "<!-- end of figures -->\n"
_ROW = re.compile(r"^\| (.+?) \| (.+?) \|$", re.MULTILINE)


class Row(Struct, frozen=True):
    """What a row says, and the figures that it says it with: section and name of each.

    ``ratio``: not the figures themselves, but what they are to what they stand beside.
    """

    text: str
    figures: tuple[tuple[str, str], ...]
    ratio: bool = False


def _each(sections: Sequence[str], what: str) -> tuple[tuple[str, str], ...]:
    return tuple((section, what) for section in sections)


_SIZES = [f"b. one change of a state of {count} builds" for count in ("10", "1,000", "10,000")]
_LARGE, _SMALL = "a. 10,000 builds", "c. commit and load, 10 builds, compacted after each 8 changes"
_HUNDRED = "d. 100 builds (the Go ancestor: save 405 µs, load 461 µs, no fsync)"
_PROCESSES = "e. processes, with a state of 10,000 builds"
_GROWING = [f"k. a state of {count} builds" for count in ("10", "100", "1,000", "10,000", "50,000")]
_RUNS = [f"f. a history of {count} runs" for count in ("100", "10,000", "100,000", "1,000,000")]
_LOCK, _BUILD, _DEMO = (
    "h. the lock",
    "i. a build of one null source",
    "j. the demo of the tests, nothing to do",
)
_RECALLED = "n. deciding with what Packer was asked before"
_WAITERS = (2, 10, 50)
_BARE_WRITE = "bare write of the same bytes, synced and renamed"


def _on(kind: str, tool: str) -> tuple[Row, ...]:
    """Of a store on the servers of that kind, beside their own tool."""
    section = f"l. a store on {kind}"
    hand_over = "hand-over, 5 waiters"
    return (
        Row(
            f"{kind}: the lock taken and released; `{tool}` of a program that does nothing",
            (
                (section, "taken and released"),
                (section, "its own tool, a process that runs `true`"),
            ),
        ),
        Row(
            f"{kind}: from release to the next one's start, 5 waiters; `{tool}`",
            (
                (section, hand_over),
                (section, f"{hand_over}: its own tool, which starts a program"),
            ),
        ),
        Row(
            f"{kind}: one change committed; a bare put of as many bytes",
            ((section, "one change committed"), (section, "a bare put of as many bytes")),
        ),
    )


ROWS = (
    Row("`packer build` of a template that does nothing", ((_BUILD, "packer build"),)),
    Row("`packer-fork build` of it: added to that", ((_BUILD, "added to a build"),)),
    Row("`packer-fork build` of it, up to date", ((_BUILD, "packer-fork build, up to date"),)),
    Row("`packer validate` of a demo with scripts", ((_DEMO, "packer validate"),)),
    Row(
        "`packer-fork plan` of it, never built; `plan`, `build` when up to date",
        (
            (_DEMO, "plan, never built"),
            (_DEMO, "plan, up to date"),
            (_DEMO, "build, up to date"),
        ),
    ),
    Row(
        "up to date, to `--version`: `plan`, `build`",
        ((_RECALLED, "plan, up to date"), (_RECALLED, "build, up to date")),
        ratio=True,
    ),
    Row(
        "up to date, to `packer build` of a template that does nothing: `plan`, `build`",
        ((_RECALLED, "plan, up to date: to Packer"), (_RECALLED, "build, up to date: to Packer")),
        ratio=True,
    ),
    Row(
        "what a build adds, to `packer build`: when Packer was asked before, when it has to be",
        ((_RECALLED, "build that recalls: added"), (_RECALLED, "build that asks: added")),
        ratio=True,
    ),
    Row(
        "up to date, 40 sources and 200 files to one source",
        ((_RECALLED, "build, up to date, 40 sources and 200 files"),),
        ratio=True,
    ),
    Row(
        "start-up: `python -c pass`, a Typer command that does nothing",
        ((_PROCESSES, "python -c pass: time"), (_PROCESSES, "a bare Typer app: time")),
    ),
    Row(
        "start-up: `--version`, `lock status`, `state show --build` of 10,000 builds",
        (
            (_PROCESSES, "--version: time"),
            (_PROCESSES, "lock status: time"),
            (_PROCESSES, "state show --build: time"),
        ),
    ),
    Row(
        "`--version`, `lock status` to the Typer command",
        ((_PROCESSES, "--version: time"), (_PROCESSES, "lock status: time")),
        ratio=True,
    ),
    Row("memory of `state show` of 10,000 builds", ((_PROCESSES, "state show: memory"),)),
    Row(
        "lock: taken and released, nobody else there; bare portalocker",
        ((_LOCK, "taken and released"), (_LOCK, "bare portalocker")),
    ),
    Row(
        "lock: from release to the next one's start, 2, 10, 50 waiters, median",
        tuple((_LOCK, f"hand-over, {number} waiters: p50") for number in _WAITERS),
    ),
    Row(
        "the same, 99th percentile",
        tuple((_LOCK, f"hand-over, {number} waiters: p99") for number in _WAITERS),
    ),
    Row(
        "lock: 20 processes over 10 s, fewest acquisitions to most",
        ((_LOCK, "fewest to most acquisitions of 20 processes"),),
    ),
    Row(
        "lock: 100 processes, 50 acquisitions each; those that were had",
        ((_LOCK, "100 processes: acquisitions"),),
    ),
    Row("lock: a waiting build", ((_LOCK, "a waiter, first in the queue"),)),
    Row(
        "one change committed, in a state of 10, 1,000, 10,000 builds",
        _each(_SIZES, "HeldLock.commit"),
    ),
    Row(
        "the same to a bare append and fdatasync of as many bytes",
        _each(_SIZES, "HeldLock.commit"),
        ratio=True,
    ),
    Row(
        "one change in a state of 10, 100, 1,000, 10,000, 50,000 builds",
        _each(_GROWING, "one change"),
    ),
    Row(
        "the same by writing all of it as JSON: temp file, fsync, rename",
        _each(_GROWING, "one change, whole JSON"),
    ),
    Row(
        "100 builds: saved whole, synced; loaded",
        ((_HUNDRED, "save"), (_HUNDRED, "load")),
    ),
    Row(
        "the same by Python's json, temp file, fsync, rename; by json.load",
        ((_HUNDRED, "ancestor's way, with fsync"), (_HUNDRED, "ancestor's way: json.load")),
    ),
    Row(
        "10,000 builds: saved whole, synced; a bare write of the same bytes",
        ((_LARGE, "save"), (_LARGE, _BARE_WRITE)),
    ),
    Row(
        "10,000 builds: loaded and one build read; all builds read",
        ((_LARGE, "load, one build decoded"), (_LARGE, "load, all builds decoded")),
    ),
    Row(
        "these by Python's json, temp file, fsync, rename; by json.load",
        ((_LARGE, "ancestor's way, with fsync"), (_LARGE, "ancestor's way: json.load")),
    ),
    Row(
        "one change committed and the state loaded, 10 builds; a bare append and fdatasync",
        ((_SMALL, "commit and load"), (_SMALL, "bare append and fdatasync")),
    ),
    Row("after 100, 10,000, 100,000, 1,000,000 runs: a change committed", _each(_RUNS, "commit")),
    Row("likewise: `state show --build`, without its start-up", _each(_RUNS, "state show --build")),
    Row("likewise: first page of `state runs`", _each(_RUNS, "first page of runs")),
    Row(
        "likewise: first page of those that failed, one in 10,000",
        _each(_RUNS, "first page of failed runs"),
    ),
    *(
        row
        for kind, tool in (("etcd", "etcdctl lock"), ("Consul", "consul lock"))
        for row in _on(kind, tool)
    ),
    Row(
        "nine sources of 10 s shared out on etcd: one host, three hosts",
        _each(["m. nine sources of 10 s each"], "build --share on one host")
        + _each(["m. nine sources of 10 s each"], "build --share on 3 hosts"),
    ),
)


def has_place(path: Path) -> bool:
    """Whether the file at `path` has the two marks."""
    if not path.is_file():
        return False
    _, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    return bool(begin) and END in rest


def renew(path: Path, machine: str, figures: Iterable[Figure]) -> None:
    """Put the table in the place of the one there; what was not measured stays as it stands.

    Raises KeyError if a figure is missing that stands nowhere, ValueError if what stays was
    measured on another machine.
    """
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    old, _, after = rest.partition(END)
    table = lines(machine, figures, old)
    path.write_text("".join((before, BEGIN, *table, END, after)), encoding="utf-8")


def lines(machine: str, figures: Iterable[Figure], old: str = "") -> list[str]:
    known = {(figure.section, figure.what): figure for figure in figures}
    standing = dict(_ROW.findall(old))
    head = f"Measured on {machine}.\n\n"
    rows = []
    for row in ROWS:
        is_kept = row.text in standing and not known.keys() & set(row.figures)
        if is_kept and not old.startswith(head):
            raise ValueError(f"{row.text!r} was not measured on this machine: measure all parts.")
        rows.append(f"| {row.text} | {standing[row.text] if is_kept else _cell(row, known)} |\n")
    return [head, "| what | figures |\n|---|---|\n", *rows]


def _cell(row: Row, known: dict[tuple[str, str], Figure]) -> str:
    found = [known[place] for place in row.figures]
    if row.ratio:
        return f"{', '.join(f'{figure.ratio or 0:.1f}' for figure in found)} times"
    units = {figure.unit for figure in found}
    if len(units) == 1:
        return f"{', '.join(map(_number, found))} {found[0].unit}".rstrip()
    return ", ".join(f"{_number(figure)} {figure.unit}" for figure in found)


def _number(figure: Figure) -> str:
    """Three digits of it: more are noise."""
    value = figure.value
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
