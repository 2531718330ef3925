"""``packer-fork stats``: what the runs on record add up to."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packer_fork.cli import moments, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packer_fork.manager.reports.statistics import GatheredStatistics
    from packer_fork.views.console import Console

_WIDTH = 80
"""Cells where there is no terminal that has some."""


def stats(
    *,
    template: options.Template = None,
    last: Annotated[
        int,
        typer.Option("--last", metavar="N", min=0, help="Of so many runs; 0 for all there are."),
    ] = 1000,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Begun since: 7d, 2026-03-02.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with plots; - prints it."),
    ] = None,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Show durations, success rates, waits and time saved.

    A state that cannot be read is reported and sets the exit code.
    """
    from packer_fork.errors import UsageError
    from packer_fork.manager.reports import statistics
    from packer_fork.manager.reports.collector import Window
    from packer_fork.views.plain import PlainView

    if html is not None and as_json:
        raise UsageError("Give one of --html FILE and --json.")
    window = Window(last=last, since=moments.parse("--since", since))
    console = options.console()
    places = options.places(template, workspace, state, PlainView(console))
    found = statistics.of(places, window)
    if as_json:
        _print_json(console, found, single=template is not None)
    elif html is not None:
        _write(console, found, html)
    else:
        _print(console, found)
    options.end(console, [each.error for each in found])


def _print(console: Console, found: Sequence[GatheredStatistics]) -> None:
    from packer_fork.views.stats import terminal

    ascii_only = not sys.stdout.encoding.lower().startswith("utf")
    paper = terminal.Paper(shutil.get_terminal_size((_WIDTH, 0)).columns, ascii_only)
    readable = [each.statistics for each in found if each.error is None]
    for number, statistics in enumerate(readable):
        if number:
            console.say("")
        for line in terminal.lines(statistics, paper):
            console.say(line)


def _print_json(console: Console, found: Sequence[GatheredStatistics], *, single: bool) -> None:
    from packer_fork.views.document import indented

    if not single:
        console.say(indented({"states": [each.statistics for each in found]}))
    elif found[0].error is None:
        console.say(indented(found[0].statistics))


def _write(console: Console, found: Sequence[GatheredStatistics], path: Path) -> None:
    from packer_fork.manager.reports import statistics
    from packer_fork.views.stats import page

    is_printed = str(path) == "-"
    folder = "" if is_printed else str(Path(os.path.realpath(path)).parent)
    text = page.page([each.statistics for each in found], folder)
    if is_printed:
        console.say(text)
    else:
        statistics.write(text, path)
