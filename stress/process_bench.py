"""What whole processes cost: memory and time to show a large state, and to start at all."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from packer_fork.manager import state_ref
from stress import states
from stress.meter import Bench

_PACKAGE = Path(__file__).parents[1]
_FORK = ("-m", "packer_fork")
_NOTHING, _BARE = "python -c pass", "a bare Typer app"
_MOST = {"--version": 1.3, "lock status": 1.3}
"""What they should take at most, in times of the bare Typer app."""
_TYPER = """
import typer
app = typer.Typer(add_completion=False, rich_markup_mode=None)
@app.command()
def nothing(): pass
app()
"""


class Cost(Struct, frozen=True):
    """What ``stress.launch`` tells."""

    code: int
    seconds: float
    rss: int


def processes(bench: Bench, count: int = 10_000) -> None:
    folder = bench.folder()
    (folder / states.TEMPLATE).touch()
    states.place(folder / state_ref.FOLDER / states.TEMPLATE, states.state(count))
    bench.section(f"e. processes, with a state of {count:,} builds")
    show = (*_FORK, "state", "show", states.TEMPLATE)
    _tell(
        bench,
        folder,
        {
            _NOTHING: ("-c", "pass"),
            _BARE: ("-c", _TYPER),
            "--version": (*_FORK, "--version"),
            "lock status": (*_FORK, "lock", "status", states.TEMPLATE),
            "state show --build": (*show, "--build", states.name(count - 1)),
            "state show": show,
            "state show --json": (*show, "--json"),
        },
    )
    output = _output(folder, "state show").read_text(encoding="utf-8")
    bench.check("state show has a row for each build", good=output.count(" complete ") >= count)
    document = msgspec.json.decode(_output(folder, "state show --json").read_bytes())
    bench.check("state show --json has them all", good=len(document["builds"]) == count)


def _tell(bench: Bench, folder: Path, commands: Mapping[str, tuple[str, ...]]) -> None:
    costs: dict[str, list[Cost]] = {what: [] for what in commands}
    for _ in range(bench.rounds(25)):
        for what, words in commands.items():
            costs[what].append(_run(folder, _output(folder, what), words))
    bare = _millis(costs[_BARE])
    for what, each in costs.items():
        bench.check(f"{what} exits with 0", good={cost.code for cost in each} == {0})
        base = (_NOTHING, _millis(costs[_NOTHING])) if what == _BARE else (_BARE, bare)
        goal = bare * _MOST[what] if what in _MOST else None
        bench.add(f"{what}: time", _millis(each), "ms", goal=goal, base=base)
    for what, each in costs.items():
        goal = 80.0 if what == "state show" else None
        bench.add(f"{what}: memory", max(cost.rss for cost in each) / 1e6, "MB", goal=goal)


def _output(folder: Path, what: str) -> Path:
    return folder / f"{what.replace(' ', '_')}.out"


def _run(folder: Path, output: Path, words: tuple[str, ...]) -> Cost:
    launch = [sys.executable, str(_PACKAGE / "stress" / "launch.py"), str(output)]
    done = subprocess.run(
        [*launch, sys.executable, *words], cwd=folder, stdout=subprocess.PIPE, check=True
    )
    return msgspec.json.decode(done.stdout, type=Cost)


def _millis(costs: list[Cost]) -> float:
    return statistics.median(cost.seconds for cost in costs) * 1e3
