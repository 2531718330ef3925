"""What a run of the suite found, for people (Markdown) and for programs (JSON)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

FOLDER = Path(__file__).parent / "reports"
"""Ignored by git."""


class Figure(Struct, frozen=True, kw_only=True):
    """Something measured or counted by a test; ``value`` in ``unit``."""

    test: str
    what: str
    value: float
    unit: str


class Outcome(Struct, frozen=True, kw_only=True):
    """How a test ended: ``passed``, ``failed`` or ``skipped``, with the reason."""

    test: str
    outcome: str
    seconds: float
    reason: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """A whole run of the suite."""

    machine: str
    scale: str
    seed: int
    begun: datetime
    seconds: float
    outcomes: tuple[Outcome, ...]
    figures: tuple[Figure, ...]


def write(report: Report, folder: Path = FOLDER) -> Path:
    """Both forms, named by when the run began; the path of the one for people."""
    folder.mkdir(exist_ok=True)
    name = f"{report.begun.astimezone(UTC):%Y%m%dT%H%M%SZ}-{report.scale}"
    data = msgspec.json.format(msgspec.json.encode(report), indent=2)
    (folder / f"{name}.json").write_bytes(data + b"\n")
    path = folder / f"{name}.md"
    path.write_text("\n".join(_lines(report)) + "\n", encoding="utf-8")
    return path


def _lines(report: Report) -> list[str]:
    counts = Counter(each.outcome for each in report.outcomes)
    return [
        f"# Stress, scale {report.scale}",
        "",
        f"{report.machine}. {_when(report)}. {_counted(counts)}.",
        "",
        *_not_passed(report),
        "| test | cases | seconds |",
        "|---|---|---|",
        *_tests(report),
        "",
        "| case | what | figure |",
        "|---|---|---|",
        *(f"| {_plain(f.test)} | {f.what} | {f.value:,.6g} {f.unit} |" for f in report.figures),
    ]


def _not_passed(report: Report) -> Iterator[str]:
    for each in report.outcomes:
        if each.outcome != "passed":
            yield f"- {each.outcome}: {_plain(each.test)} {_plain(each.reason)}".rstrip()
            yield ""


def _tests(report: Report) -> Iterator[str]:
    """One row for all cases of a test, in the order of files."""
    cases: dict[str, list[Outcome]] = defaultdict(list)
    for each in report.outcomes:
        cases[each.test.partition("[")[0]].append(each)
    for test, outcomes in sorted(cases.items()):
        counts = Counter(each.outcome for each in outcomes)
        yield f"| {test} | {_counted(counts)} | {sum(each.seconds for each in outcomes):.1f} |"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))


def _plain(text: str) -> str:
    """Fit for one cell of a table, whatever a case is named for."""
    return " ".join(text.split()).replace("|", "\\|")


def _when(report: Report) -> str:
    begun = f"{report.begun:%Y-%m-%d %H:%M:%S} UTC"
    return f"Begun {begun}, took {report.seconds:.0f} s, seed {report.seed}"
