"""``packer-fork state history|runs|diff|prune``: the history of a state."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from packer_fork.cli import moments, options, positional, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from msgspec import Struct

    from packer_fork.views.console import Console

T = TypeVar("T")

_BLOCK = 50
"""Rows that share their column widths; later rows are printed as they are read."""

Limit = Annotated[
    int, typer.Option("--limit", metavar="N", min=0, help="Entries to list; 0 for all.")
]
PageNumber = Annotated[int, typer.Option("--page", metavar="N", min=1, help="Page to list.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def history(
    *,
    template: options.OneTemplate = None,
    run: Annotated[
        int | None, typer.Option("--run", metavar="N", help="Only changes of run N.")
    ] = None,
    limit: Limit = 20,
    page: PageNumber = 1,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: JsonLines = False,
) -> None:
    """List the changes, the newest first."""
    from packer_fork.manager.state import history
    from packer_fork.responses import ChangeEntry
    from packer_fork.views import history as view

    console, _, ref = options.spoken(template, workspace, state)
    found = (c for c in history.changes(ref.store) if run is None or c.run == run)
    entries = map(ChangeEntry.of, _paged(found, limit, page))
    _print(console, entries, view.changes, "no changes", as_json=as_json)


def runs(
    *,
    template: options.OneTemplate = None,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help="Status of the run or of one build of it."),
    ] = None,
    build: Annotated[
        str | None, typer.Option("--build", metavar="NAME", help="Only runs of this build.")
    ] = None,
    branch: Annotated[
        str | None, typer.Option("--branch", metavar="NAME", help="Only runs from this git branch.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Started since: 7d, 2026-03-02.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Started until: 7d, 2026-03-02.")
    ] = None,
    limit: Limit = 20,
    page: PageNumber = 1,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: JsonLines = False,
) -> None:
    """List the runs with their builds, the newest first."""
    from packer_fork.manager.state import history as manager
    from packer_fork.views import history as view

    console, _, ref = options.spoken(template, workspace, state)
    wanted = manager.RunFilter(
        status=statuses.check(status),
        build=build or "",
        branch=branch or "",
        since=moments.parse("--since", since),
        until=moments.parse("--until", until, end=True),
    )
    found = manager.runs(ref.store, wanted, skip=limit * (page - 1))
    nothing = "no runs" if wanted.accepts_all else "no run matches"
    _print(console, _paged(found, limit, 1), view.runs, nothing, as_json=as_json)


def _paged(found: Iterator[T], limit: int, page: int) -> Iterator[T]:
    return islice(found, limit * (page - 1), limit * page) if limit else found


def _print(
    console: Console,
    entries: Iterator[Struct],
    lay_out: Callable[..., Sequence[str]],
    nothing: str,
    *,
    as_json: bool,
) -> None:
    from packer_fork.views.document import one_line

    if as_json:
        for entry in entries:
            console.say(one_line(entry))
        return
    first = True
    while block := list(islice(entries, _BLOCK)):
        for line in lay_out(block, with_header=first, width=console.width):
            console.say(line)
        first = False
    if first:
        console.tell(f"packer-fork: {nothing}")


def diff(
    *,
    template: Annotated[
        str | None, typer.Argument(metavar="[TEMPLATE]", help="The only state below, if left out.")
    ] = None,
    before: Annotated[
        str | None, typer.Argument(metavar="A", help="A serial, 41, or a run, run:7.")
    ] = None,
    after: Annotated[str | None, typer.Argument(metavar="B", help="Likewise.")] = None,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Compare the state at A with the state at B."""
    from packer_fork.manager.state import diff as manager
    from packer_fork.manager.state import history
    from packer_fork.views import history as view
    from packer_fork.views.document import indented

    template, points = positional.after_template(template, before, after, names="A B")
    console, _, ref = options.spoken(template, workspace, state)
    then, now = (history.point(ref.store, point) for point in points)
    found = manager.between(then, now)
    console.say(indented(found) if as_json else "\n".join(view.difference(found)))


def prune(
    *,
    template: options.OneTemplate = None,
    keep_runs: Annotated[
        int | None, typer.Option("--keep-runs", metavar="N", min=0, help="Keep the last N runs.")
    ] = None,
    keep_days: Annotated[
        int | None, typer.Option("--keep-days", metavar="N", min=0, help="Keep the last N days.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would go.")] = False,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Remove old runs from the history; builds stay."""
    from packer_fork.manager.state import maintenance
    from packer_fork.views import history as view
    from packer_fork.views.document import indented

    more = {"keep_runs": keep_runs, "keep_days": keep_days}
    console, notify, ref = options.spoken(template, workspace, state, more)
    if dry_run:
        found = maintenance.find_prunable(ref.store, ref.settings)
    else:
        found = maintenance.prune(ref, notify, environ=os.environ)
    console.say(indented(found) if as_json else view.pruned(found, dry_run=dry_run))
