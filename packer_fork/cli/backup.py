"""``packer-fork state backup|restore|check``: against loss and damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packer_fork.cli import options, positional

if TYPE_CHECKING:
    from packer_fork.manager.state_ref import StateRef
    from packer_fork.responses import Backup, RecoverableState
    from packer_fork.views.console import Console
    from packer_fork.views.history import VerifiedEntry


def backup(
    *,
    template: options.OneTemplate = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Write state and history to a new file."),
    ] = None,
    list_backups: Annotated[bool, typer.Option("--list", help="List the backups.")] = False,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Back up the state, beside it or to a file."""
    from packer_fork.errors import UsageError
    from packer_fork.manager.state import backup as manager
    from packer_fork.views import history as view
    from packer_fork.views import words
    from packer_fork.views.document import indented

    if list_backups and to is not None:
        raise UsageError("--list and --to exclude each other", hint="give one of them")
    console, notify, ref = options.spoken(template, workspace, state)
    if to is not None:
        found: tuple[Backup, ...] = (manager.in_file(ref, to),)
        size = words.size(found[0].size)
        console.tell(f"packer-fork: wrote state and history to {to} ({size}, read back)")
        if not as_json:
            return
    elif list_backups:
        found = ref.store.backups()
    else:
        found = (manager.in_store(ref, notify, environ=os.environ),)
    console.say(indented(found) if as_json else "\n".join(view.backups(found)))


def restore(
    *,
    template: Annotated[
        str | None, typer.Argument(metavar="[TEMPLATE]", help="The only state below, if left out.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SERIAL|run:N|FILE", help="A change, a run, or what `state backup` made."
        ),
    ] = None,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Restore the builds of an earlier state or a backup.

    A new change restores them, after a backup; the history stays.
    """
    from packer_fork.manager.state import restore as manager
    from packer_fork.views import history as view

    template, (chosen,) = positional.after_template(template, source, names="SERIAL|run:N|FILE")
    console, notify, ref = options.spoken(template, workspace, state)
    found = manager.find(ref, chosen)
    if not isinstance(found, manager.Replacement):
        what = f"serial {found.serial} with {len(found.builds)} builds"
        console.tell(f"no sound state here; to be restored: {what}")
        options.confirm("Restore?", yes=yes)
        manager.restore(ref, chosen, found, notify, environ=os.environ)
        console.tell(f"packer-fork: restored {what} from {chosen}")
        console.tell(f"  any damaged file is kept in {ref.backups}")
        if as_json:
            options.answer(console, ref, "restore")
        return
    for line in view.difference(found.difference):
        console.tell(line)
    replaced = None
    if not found.is_empty:
        options.confirm("Restore?", yes=yes)
        replaced = manager.restore(ref, chosen, found, notify, environ=os.environ)
        console.tell(f"packer-fork: restored serial {found.then.serial} from {chosen}")
        if replaced is not None:
            console.tell(f"  the replaced state is in the history and in {replaced.path}")
    if as_json:
        options.answer(console, ref, "restore", backup=replaced, difference=found.difference)


def check(
    *,
    template: options.Template = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Save what is recoverable of one damaged state.")
    ] = False,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Read all that is stored and report damage.

    Exit code 10 if anything is damaged. --repair first shows what is recoverable and what is
    lost; damaged files are kept among the backups.
    """
    if repair:
        _repair(template, workspace, state, yes=yes, as_json=as_json)
    else:
        _check(template, workspace, state, as_json=as_json)


def _check(
    template: str | None, workspace: str | None, state: str | None, *, as_json: bool
) -> None:
    from packer_fork.errors import EXIT_DONE, EXIT_STATE
    from packer_fork.views import history as view
    from packer_fork.views.document import indented
    from packer_fork.views.plain import PlainView

    console = options.console()
    refs = options.places(template, workspace, state, PlainView(console))
    entries = [_verified(ref) for ref in refs]
    if as_json:
        console.say(indented({"states": entries} if template is None else entries[0]))
    for entry in () if as_json else entries:
        console.say("\n".join(view.verified(entry)))
    if not entries:
        console.tell("packer-fork: there is no state below this directory.")
    damaged = any(entry.found.problems for entry in entries)
    raise typer.Exit(EXIT_STATE if damaged else EXIT_DONE)


def _verified(ref: StateRef) -> VerifiedEntry:
    from packer_fork.views.history import VerifiedEntry

    folder = ref.folder
    return VerifiedEntry(
        template=folder.label, workspace=folder.workspace, found=ref.store.verify()
    )


def _repair(
    template: str | None, workspace: str | None, state: str | None, *, yes: bool, as_json: bool
) -> None:
    from packer_fork.manager.state import check as manager

    console, notify, ref = options.spoken(template, workspace, state)
    found = manager.find_damage(ref)
    if found is None:
        console.tell("packer-fork: nothing is damaged")
    else:
        _print_recoverable(console, found)
        options.confirm("Repair?", yes=yes)
        serial = manager.repair(ref, notify, environ=os.environ)
        console.tell(f"packer-fork: repaired, serial {serial}")
        console.tell(f"  the damaged files are kept in {ref.backups}")
    if as_json:
        options.answer(console, ref, "repair")


def _print_recoverable(console: Console, found: RecoverableState) -> None:
    from packer_fork.errors import StateError

    if found.state is None:
        raise StateError(
            "no part of this state is recoverable",
            hint="restore a backup: packer-fork state restore FILE",
        )
    builds = len(found.state.builds)
    console.tell(f"recoverable: serial {found.state.serial} with {builds} builds, from")
    for source in found.sources:
        console.tell(f"  {source}")
    for lost in found.lost or ("nothing",):
        console.tell(f"lost: {lost}")
