"""``packer-fork state backup|restore|verify|repair``: against loss and damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packer_fork.cli import options

if TYPE_CHECKING:
    from packer_fork.manager.places import Place
    from packer_fork.responses import Backup, Salvage
    from packer_fork.views.console import Console
    from packer_fork.views.history import VerifiedEntry


def backup(
    *,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A new file, which gets the history as well."),
    ] = None,
    template: options.TemplateOption = None,
    list_them: Annotated[bool, typer.Option("--list", help="List those that there are.")] = False,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Back the state up: into FILE with its history, or else beside the state."""
    from packer_fork.manager import backup as manager
    from packer_fork.views import history as view
    from packer_fork.views import words
    from packer_fork.views.document import indented

    console, notify, place = options.spoken(template, workspace, state)
    if file is not None:
        found: tuple[Backup, ...] = (manager.in_file(place, file),)
        size = words.size(found[0].size)
        console.tell(f"packer-fork: {file} holds state and history, {size}, read back")
        if not as_json:
            return
    elif list_them:
        found = place.store.backups()
    else:
        found = (manager.in_store(place, notify, environ=os.environ),)
    console.say(indented(found) if as_json else "\n".join(view.backups(found)))


def restore(
    *,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `state backup` made.")],
    template: options.TemplateOption = None,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Bring the builds of a backup back; what is replaced is backed up first."""
    from packer_fork.manager import backup as manager
    from packer_fork.manager.replacing import Replacement
    from packer_fork.views import history as view

    console, notify, place = options.spoken(template, workspace, state)
    found, backup = manager.look(place, file), None
    difference = found.difference if isinstance(found, Replacement) else None
    if not isinstance(found, Replacement):
        what = f"serial {found.serial} with {len(found.builds)} builds"
        console.tell(f"there is no sound state here: {what} is put in its place")
    for line in view.difference(difference) if difference else ():
        console.tell(line)
    if difference is None or difference.builds:
        options.confirm("Restore?", yes=yes)
        backup = manager.restore(place, file, found, notify, environ=os.environ)
        console.tell(f"packer-fork: restored from {file}")
    if difference is None:
        console.tell(f"  whatever was there before is kept in {place.backups}")
    if as_json:
        options.answer(console, place, "restore", backup=backup, difference=difference)


def verify(
    *,
    template: options.Template = None,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Read everything that is stored, and tell of any damage. Exit code 10 if there is some."""
    from packer_fork.errors import EXIT_DONE, EXIT_STATE
    from packer_fork.views import history as view
    from packer_fork.views.document import indented
    from packer_fork.views.plain import PlainView

    console = options.console()
    places = options.places(template, workspace, state, PlainView(console))
    entries = [_verified(place) for place in places]
    if as_json:
        console.say(indented({"states": entries} if template is None else entries[0]))
    for entry in () if as_json else entries:
        console.say("\n".join(view.verified(entry)))
    if not entries:
        console.tell("packer-fork: there is no state below this directory.")
    damaged = any(entry.found.problems for entry in entries)
    raise typer.Exit(EXIT_STATE if damaged else EXIT_DONE)


def _verified(place: Place) -> VerifiedEntry:
    from packer_fork.views.history import VerifiedEntry

    folder = place.folder
    return VerifiedEntry(
        template=folder.label, workspace=folder.workspace, found=place.store.verify()
    )


def repair(
    *,
    template: options.OneTemplate = None,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Save what can be proven of a damaged state; says first what that is, and what is lost."""
    from packer_fork.manager import repair as manager

    console, notify, place = options.spoken(template, workspace, state)
    found = manager.look(place)
    if found is None:
        console.tell("packer-fork: nothing is damaged, so nothing is repaired.")
        if as_json:
            options.answer(console, place, "repair")
        return
    _tell(console, found)
    options.confirm("Repair?", yes=yes)
    serial = manager.repair(place, notify, environ=os.environ)
    console.tell(f"packer-fork: repaired, serial {serial}; what was damaged is kept in")
    console.tell(f"  {place.backups}")
    if as_json:
        options.answer(console, place, "repair")


def _tell(console: Console, found: Salvage) -> None:
    from packer_fork.errors import StateError

    if found.state is None:
        raise StateError(
            "Nothing that is left of this state can be proven.",
            hint="Restore a backup: packer-fork state restore FILE.",
        )
    builds = len(found.state.builds)
    console.tell(f"can be saved: serial {found.state.serial} with {builds} builds, from")
    for source in found.sources:
        console.tell(f"  {source}")
    for lost in found.lost or ("nothing",):
        console.tell(f"lost: {lost}")
