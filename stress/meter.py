"""Measuring: all steps in turn, so that what disturbs one disturbs all, and their medians."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

Step = Callable[[], object]


class Figure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One result. ``goal`` is the most it should be, ``ratio`` is to what ``beside`` names."""

    section: str
    what: str
    value: float
    unit: str
    goal: float | None = None
    beside: str = ""
    ratio: float | None = None

    def __str__(self) -> str:
        goal = f"  (at most {self.goal:g})" if self.goal is not None else ""
        ratio = f"  {self.ratio:.2f} x {self.beside}" if self.ratio is not None else ""
        return f"  {self.what:<52} {self.value:>11,.4g} {self.unit}{goal}{ratio}"


class _Document(Struct, frozen=True):
    machine: str
    figures: list[Figure]
    wrong: list[str]


class Bench:
    """The place to measure in, what was measured, and what was found to be wrong."""

    def __init__(self, place: Path, machine: str, *, quick: bool) -> None:
        self.quick = quick
        self.figures: list[Figure] = []
        self.wrong: list[str] = []
        self._place = place
        self._machine = machine
        self._section = ""
        self._folders = 0

    def folder(self) -> Path:
        """A new one."""
        self._folders += 1
        path = self._place / f"{self._folders}"
        path.mkdir()
        return path

    def clear(self) -> None:
        """Remove what was made so far."""
        for path in self._place.iterdir():
            shutil.rmtree(path)

    def rounds(self, many: int) -> int:
        return max(5, many // 5) if self.quick else many

    def section(self, title: str) -> None:
        self._section = title
        print(f"\n{title}", flush=True)

    def add(
        self,
        what: str,
        value: float,
        unit: str,
        *,
        goal: float | None = None,
        base: tuple[str, float] | None = None,
    ) -> None:
        """Tell a figure; `base` is what it is put in a ratio with: name and value."""
        beside, ratio = (base[0], value / base[1]) if base and base[1] else ("", None)
        figure = Figure(
            section=self._section,
            what=what,
            value=value,
            unit=unit,
            goal=goal,
            beside=beside,
            ratio=ratio,
        )
        self.figures.append(figure)
        print(figure, flush=True)

    def compare(
        self,
        steps: Mapping[str, Step],
        rounds: int,
        *,
        unit: str = "ms",
        base: str = "",
        goals: Mapping[str, float] | None = None,
    ) -> dict[str, float]:
        """Measure `steps` and tell their medians, in `unit`, each beside the one named `base`."""
        found = medians(samples(steps, rounds), unit)
        for what, value in found.items():
            beside = (base, found[base]) if base and what != base else None
            self.add(what, value, unit, goal=(goals or {}).get(what), base=beside)
        return found

    def check(self, what: str, *, good: bool) -> None:
        if not good:
            self.wrong.append(what)
            print(f"  WRONG: {what}", flush=True)

    def as_json(self) -> bytes:
        document = _Document(self._machine, self.figures, self.wrong)
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def samples(
    steps: Mapping[str, Step], rounds: int, *, after: Step | None = None
) -> dict[str, list[float]]:
    """Seconds that each step took, over and over; the first round only warms up.

    `after` is done after each round and not measured.
    """
    taken: dict[str, list[float]] = {what: [] for what in steps}
    for number in range(rounds + 1):
        for what, step in steps.items():
            start = time.perf_counter()
            kept = step()
            seconds = time.perf_counter() - start
            del kept  # what it takes to free a result is not the step's
            if number:
                taken[what].append(seconds)
        if after is not None:
            after()
    return taken


def medians(taken: Mapping[str, list[float]], unit: str) -> dict[str, float]:
    factor = {"ms": 1e3, "µs": 1e6}[unit]
    return {what: statistics.median(each) * factor for what, each in taken.items()}
