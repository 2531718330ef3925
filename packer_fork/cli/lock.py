"""``packer-fork lock status`` and ``packer-fork force-unlock``."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from packer_fork.cli import options

if TYPE_CHECKING:
    from packer_fork.locks import LockStatus
    from packer_fork.manager.state_ref import StateRef
    from packer_fork.views.console import Console
    from packer_fork.views.locks import Report


def status(
    *,
    template: options.Template = None,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Print the lock again whenever it changes.")
    ] = False,
) -> None:
    """Show who holds the lock and whether the holder lives.

    Exit code 0 if it is free, 11 otherwise.
    """
    from packer_fork.errors import EXIT_DONE, EXIT_LOCKED
    from packer_fork.locks import Status
    from packer_fork.views.plain import PlainView

    console = options.console()
    told: object = None
    while True:
        places = options.places(template, workspace, state, PlainView(console))
        found = [(place, place.store.status()) for place in places]
        if told != (told := [_gist(status) for _, status in found]):
            _print(console, found, as_json=as_json, single=template is not None)
        if not watch:
            free = all(status.status is Status.FREE for _, status in found)
            raise typer.Exit(EXIT_DONE if free else EXIT_LOCKED)
        time.sleep(1)


def _gist(status: LockStatus) -> object:
    """What is worth telling again when it changes: not how long a lease has left."""
    record = status.record
    lives = [(each.participant.id, each.status) for each in status.participants]
    held = (status.status, status.id, record and record.released, status.error)
    waiters = [waiter.since for waiter in status.waiters]
    return held, lives, record and record.claims, status.processes, waiters


def _print(
    console: Console, found: list[tuple[StateRef, LockStatus]], *, as_json: bool, single: bool
) -> None:
    from packer_fork.views import locks as view

    reports = [_report(place, status) for place, status in found]
    if as_json:
        console.say(view.as_json(reports, single=single))
        return
    for report in reports:
        for line in view.lines(report):
            console.say(line)
    if not reports:
        console.tell("packer-fork: there is no state below this directory.")


def force_unlock(
    *,
    lock_id: Annotated[
        str, typer.Argument(metavar="LOCK_ID", help="The ID that `lock status` shows.")
    ],
    workspace: options.Workspace = None,
    state: options.State = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    kill: Annotated[
        bool, typer.Option("--kill", help="End the processes of the run first.")
    ] = False,
    allow_live: Annotated[
        bool, typer.Option("--allow-live", help="Release it even if its holder lives.")
    ] = False,
    if_abandoned: Annotated[
        bool,
        typer.Option("--if-abandoned", help="Release it only if its holder is dead; ask nothing."),
    ] = False,
) -> None:
    """Release a lock and recover the run of its dead holder."""
    from packer_fork.manager.lock import unlock
    from packer_fork.views import locks as view
    from packer_fork.views.plain import PlainView

    console = options.console()
    show = PlainView(console)
    places = options.places(None, workspace, state, show)
    found = unlock.find(lock_id, places, if_abandoned=if_abandoned)
    if found is None:
        unlock.refuse_free(lock_id, if_abandoned=if_abandoned)
        console.tell(f"packer-fork: lock {lock_id} is not held any more.")
        return
    for line in view.lines(_report(found.place, found.lock)):
        console.tell(line)
    how = unlock.How(kill=kill, allow_live=allow_live, if_abandoned=if_abandoned)
    unlock.check(found, how)
    if not (yes or if_abandoned):
        _confirm(lock_id)
    now = unlock.force_unlock(found, how, show, environ=os.environ)
    console.tell(f"packer-fork: lock {lock_id} is unlocked; the lock is {now.status} now.")


def _report(place: StateRef, status: LockStatus) -> Report:
    from packer_fork.views.locks import Report

    folder = place.folder
    circuit = str(place.circuit_breaker.state())
    return Report.of(folder.label, folder.workspace, place.store.location, status, circuit)


def _confirm(lock_id: str) -> None:
    from packer_fork.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError(
            "Nobody is there to confirm, so nothing was unlocked.",
            hint="In scripts, say so with --yes.",
        )
    if typer.prompt("Type the lock ID to unlock it") != lock_id:
        raise UsageError("That is not its ID; nothing was unlocked.")
