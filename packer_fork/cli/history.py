"""``packer-fork state history|list|diff|rollback|prune``: what was, and going back to it."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from packer_fork.cli import moments, options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from msgspec import Struct

    from packer_fork.views.console import Console

T = TypeVar("T")

_BLOCK = 50
"""Rows that are laid out together; what comes later is printed as it comes."""

Limit = Annotated[
    int, typer.Option("--limit", metavar="N", min=0, help="How many; 0 for all there are.")
]
PageNumber = Annotated[int, typer.Option("--page", metavar="N", min=1, help="Which N of these.")]
JsonLines = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]


def history(
    *,
    template: options.OneTemplate = None,
    run: Annotated[
        int | None, typer.Option("--run", metavar="N", help="Changes of one run.")
    ] = None,
    limit: Limit = 20,
    page: PageNumber = 1,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: JsonLines = False,
) -> None:
    """List the changes of the state, the newest first: serial, when, who, what, which run."""
    from packer_fork.manager import past
    from packer_fork.responses import ChangeEntry
    from packer_fork.views import history as view

    console, _, place = options.spoken(template, workspace, state)
    found = (c for c in past.changes(place.store) if run is None or c.run == run)
    entries = map(ChangeEntry.of, _paged(found, limit, page))
    _print(console, entries, view.changes, as_json=as_json)


def list_runs(
    *,
    template: options.OneTemplate = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="Of a run or a build of it.")
    ] = None,
    build: Annotated[
        str | None, typer.Option("--build", metavar="NAME", help="Runs of one build.")
    ] = None,
    branch: Annotated[
        str | None, typer.Option("--branch", metavar="NAME", help="Runs from one git branch.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Begun since: 7d, 2026-03-02.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Begun until: 7d, 2026-03-02.")
    ] = None,
    limit: Limit = 20,
    page: PageNumber = 1,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: JsonLines = False,
) -> None:
    """List runs and their builds, the newest first."""
    from packer_fork.manager.runs import Wanted, runs
    from packer_fork.views import history as view

    console, _, place = options.spoken(template, workspace, state)
    wanted = Wanted(
        status=_status(status),
        build=build or "",
        branch=branch or "",
        since=moments.parse("--since", since),
        until=moments.parse("--until", until, end=True),
    )
    found = runs(place.store, wanted, skip=limit * (page - 1))
    _print(console, _paged(found, limit, 1), view.runs, as_json=as_json)


def _status(given: str | None) -> str:
    from packer_fork.errors import UsageError
    from packer_fork.model import BuildStatus, RunStatus

    known = sorted({str(each) for each in (*BuildStatus, *RunStatus)})
    if given and given not in known:
        raise UsageError(f"--status: there is no {given!r}.", hint=f"There are: {', '.join(known)}")
    return given or ""


def _paged(found: Iterator[T], limit: int, page: int) -> Iterator[T]:
    return islice(found, limit * (page - 1), limit * page) if limit else found


def _print(
    console: Console,
    entries: Iterator[Struct],
    lay_out: Callable[..., Sequence[str]],
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
        console.tell("packer-fork: there is none.")


def diff(
    *,
    before: Annotated[str, typer.Argument(metavar="A", help="A serial, 41, or a run, run:7.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    template: options.TemplateOption = None,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Tell what differs between the state at A and at B, build by build."""
    from packer_fork.manager import differences, past
    from packer_fork.views import history as view
    from packer_fork.views.document import indented

    console, _, place = options.spoken(template, workspace, state)
    states = (past.point(place.store, before), past.point(place.store, after))
    found = differences.between(*states)
    console.say(indented(found) if as_json else "\n".join(view.difference(found)))


def rollback(
    *,
    template: options.OneTemplate = None,
    to: Annotated[
        int | None, typer.Option("--to", metavar="SERIAL", help="As it was after this change.")
    ] = None,
    run: Annotated[
        int | None, typer.Option("--run", metavar="N", help="As it was after this run.")
    ] = None,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Bring the builds of an earlier state back, by a new change; the history stays."""
    from packer_fork.manager import replacing
    from packer_fork.manager import rollback as manager
    from packer_fork.views import history as view

    console, notify, place = options.spoken(template, workspace, state)
    found = manager.look(place, to=to, run=run)
    for line in view.difference(found.difference):
        console.tell(line)
    backup = None
    if not found.is_nothing:
        options.confirm("Roll back?", yes=yes)
        why = f"to serial {found.then.serial}"
        backup = replacing.replace(
            place, found, notify, operation="rollback", why=why, environ=os.environ
        )
        where = f"what was is in the history and in {backup.path}"
        console.tell(f"packer-fork: rolled back {why}; {where}")
    if as_json:
        options.answer(console, place, "rollback", backup=backup, difference=found.difference)


def prune(
    *,
    template: options.OneTemplate = None,
    keep_runs: Annotated[
        int | None, typer.Option("--keep-runs", metavar="N", min=0, help="The last N runs stay.")
    ] = None,
    keep_days: Annotated[
        int | None, typer.Option("--keep-days", metavar="N", min=0, help="The last N days stay.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Let go of old history, by count and age of runs; the builds stay as they are."""
    from packer_fork.manager import prune as manager
    from packer_fork.views import history as view
    from packer_fork.views.document import indented

    more = {"keep_runs": keep_runs, "keep_days": keep_days}
    console, notify, place = options.spoken(template, workspace, state, more)
    if dry_run:
        found = manager.look(place.store, place.settings)
    else:
        found = manager.prune(place, notify, environ=os.environ)
    console.say(indented(found) if as_json else view.pruned(found, dry_run=dry_run))
