"""The stress suite's own options and fixtures: scale, seed, report.

    pytest stress --scale ci|stress|soak [--seed N]

A test says what it counted or measured with the fixture `figure`; whether it passes is a
matter of correctness alone, never of time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from stress import machine
from stress import report as reports
from stress.report import Figure, Outcome, Report
from stress.scale import SCALES, Scale, Size
from tests.conftest import (
    cli,
    fixed_folder,
    forking,
    packer,
    project,
    root,
    snapshots,
    strace,
    worker_folder,
)

__all__ = [
    "cli",
    "fixed_folder",
    "forking",
    "packer",
    "project",
    "root",
    "snapshots",
    "strace",
    "worker_folder",
]

Say = Callable[[str, float, str], None]

_FIGURES = "figure"
_LAST_WORDS = 3000
"""Characters of a failure that are told at once."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stress")
    sizes = [str(size) for size in Size]
    group.addoption("--scale", choices=sizes, default="ci", help="How large and how long.")
    group.addoption("--seed", type=int, default=None, help="Repeat a run; it is printed.")


def pytest_configure(config: pytest.Config) -> None:
    # All workers of a run must have the seed of the one that started them.
    given = config.getoption("--seed")
    config.option.seed = time.time_ns() if given is None else given
    config.pluginmanager.register(_Collector(config), "stress-report")


def pytest_report_header(config: pytest.Config) -> str:
    return f"stress: scale {config.getoption('--scale')}, seed {config.getoption('--seed')}"


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> Scale:
    return SCALES[Size(request.config.getoption("--scale"))]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random choices that the seed and the test's name repeat."""
    return random.Random(f"{request.config.getoption('--seed')} {request.node.name}")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Say:
    """Tell the report a figure: what, value, unit."""

    def say(what: str, value: float, unit: str) -> None:
        request.node.user_properties.append(
            (_FIGURES, {"what": what, "value": float(value), "unit": unit})
        )

    return say


class _Collector:
    """Gathers what all tests, in whatever worker, came to, and writes it at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._begun = datetime.now(UTC)
        self._outcomes: list[Outcome] = []
        self._figures: list[Figure] = []

    def _tell_at_once(self, name: str, report: pytest.TestReport) -> None:
        """A run of an hour that is cut off, by whatever, has told what failed until then."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.write_line(f"\nFAILED {name}\n{str(report.longrepr)[-_LAST_WORDS:]}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        name = report.nodeid.removeprefix("stress/")
        reason = str(report.longrepr).splitlines()[-1] if report.outcome != "passed" else ""
        outcome = Outcome(test=name, outcome=report.outcome, seconds=report.duration, reason=reason)
        self._outcomes.append(outcome)
        if report.failed and not hasattr(self._config, "workerinput"):
            self._tell_at_once(name, report)
        told = [value for key, value in report.user_properties if key == _FIGURES]
        self._figures += [_figure(name, value) for value in told]

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if hasattr(self._config, "workerinput") or not self._outcomes:
            return
        path = reports.write(
            Report(
                machine=machine.line(reports.FOLDER.parent),
                scale=self._config.getoption("--scale"),
                seed=self._config.getoption("--seed"),
                begun=self._begun,
                seconds=(datetime.now(UTC) - self._begun).total_seconds(),
                outcomes=tuple(self._outcomes),
                figures=tuple(self._figures),
            )
        )
        terminalreporter.write_line(f"report: {path}")


def _figure(test: str, told: object) -> Figure:
    fields = msgspec.convert(told, dict[str, object])
    return msgspec.convert({"test": test, **fields}, Figure)
