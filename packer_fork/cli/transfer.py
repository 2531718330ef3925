"""``packer-fork state pull|push|migrate|import``: a state on its way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from packer_fork.cli import options


def pull(
    *,
    template: options.OneTemplate = None,
    workspace: options.Workspace = None,
    state: options.State = None,
) -> None:
    """Print the state as one JSON document, its key included, for `state push`."""
    from packer_fork.manager import transfer
    from packer_fork.views.document import indented

    console, _, place = options.spoken(template, workspace, state)
    console.say(indented(transfer.pull(place)))


def push(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `state pull` printed.")],
    template: options.TemplateOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Whatever its lineage and serial.")
    ] = False,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Take a document for the state; what is replaced is backed up first."""
    from packer_fork.manager import transfer
    from packer_fork.views import history as view

    console, notify, place = options.spoken(template, workspace, state)
    given = transfer.read(file)
    found = transfer.look(place, given, force=force)
    if found is not None:
        for line in view.difference(found.difference):
            console.tell(line)
    backup, difference = None, found.difference if found else None
    if found is None or not found.is_nothing:
        options.confirm("Push?", yes=yes)
        backup = transfer.push(place, given, found, notify, environ=os.environ)
        console.tell(f"packer-fork: {file} is the state of {place.folder.label} now")
    if as_json:
        options.answer(console, place, "push", backup=backup, difference=difference)


def migrate(
    *,
    template: options.OneTemplate = None,
    to: Annotated[
        str, typer.Option("--to", metavar="DIR|URL", help="Folder or URL of the states there.")
    ],
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Copy state, history and logs to another place, proven; it may be run again."""
    from packer_fork.manager import transfer

    console, notify, source = options.spoken(template, workspace, state)
    target = transfer.target_of(source, template, to, os.environ, notify)
    transfer.migrate(source, target, notify, environ=os.environ)
    console.tell(f"packer-fork: use it with --state {to}, or in packer-fork.toml with")
    lasting = to if target.folder.is_shared else str(Path(to).resolve())
    console.tell(f"  state = {json.dumps(lasting)}")
    console.tell(f"  what is in {source.store.location} stays as it is")
    if as_json:
        options.answer(console, target, "migrate")


def import_state(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The Go program's builder-state.json.")
    ],
    template: options.TemplateOption = None,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Take over the builds that the Go program before packer-fork kept."""
    from packer_fork.manager import ancestor
    from packer_fork.views.plain import PlainView

    console = options.console()
    notify = PlainView(console)
    found = ancestor.read(file)
    chosen = template or ancestor.template_of(found, file)
    place = options.one_place(chosen, workspace, state, notify)
    count = ancestor.take_over(place, found, file, notify, environ=os.environ)
    console.tell(f"packer-fork: {count} builds were taken over into the state of {chosen}")
    if as_json:
        options.answer(console, place, "import")
