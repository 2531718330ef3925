"""``packer-fork state pull|push|migrate|import``: moving a state."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from packer_fork.cli import options, positional

OptionalTemplate = Annotated[
    str | None, typer.Argument(metavar="[TEMPLATE]", help="The only state below, if left out.")
]


def pull(
    *,
    template: options.OneTemplate = None,
    workspace: options.Workspace = None,
    state: options.State = None,
) -> None:
    """Print the state as one JSON document, key included."""
    from packer_fork.manager.state import transfer
    from packer_fork.views.document import indented

    console, _, ref = options.spoken(template, workspace, state)
    console.say(indented(transfer.pull(ref)))


def push(
    *,
    template: OptionalTemplate = None,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A document that `state pull` printed.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Ignore lineage and serial of the document.")
    ] = False,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Replace the state by a document, after a backup."""
    from packer_fork.manager.state import transfer
    from packer_fork.views import history as view

    template, (path,) = positional.after_template(template, file, names="FILE")
    console, notify, ref = options.spoken(template, workspace, state)
    document = transfer.read(Path(path))
    found = transfer.compare(ref, document, force=force)
    if found is not None:
        for line in view.difference(found.difference):
            console.tell(line)
    backup, difference = None, found.difference if found else None
    if found is None or not found.is_empty:
        options.confirm("Push?", yes=yes)
        backup = transfer.push(ref, document, found, notify, environ=os.environ)
        console.tell(f"packer-fork: pushed {path} to {ref.folder.label}")
    if as_json:
        options.answer(console, ref, "push", backup=backup, difference=difference)


def migrate(
    *,
    template: options.OneTemplate = None,
    to: Annotated[
        str, typer.Option("--to", metavar="DIR|URL", help="Folder or URL of the new store.")
    ],
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Copy state, history and logs to another store."""
    from packer_fork.manager.state import transfer

    console, notify, source = options.spoken(template, workspace, state)
    target = transfer.resolve_target(source, template, to, os.environ, notify)
    transfer.migrate(source, target, notify, environ=os.environ)
    lasting = to if target.folder.is_shared else str(Path(to).resolve())
    console.tell(f"packer-fork: migrated; {source.store.location} keeps its copy")
    console.tell(f"  use --state {to}, or in packer-fork.toml: state = {json.dumps(lasting)}")
    if as_json:
        options.answer(console, target, "migrate")


def import_state(
    *,
    template: OptionalTemplate = None,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The Go program's builder-state.json.")
    ] = None,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Import builds from the Go program before packer-fork."""
    from packer_fork.manager.state import go_import

    template, (given,) = positional.after_template(template, file, names="FILE")
    path = Path(given)
    found = go_import.read(path)
    chosen = template or go_import.template_of(found, path)
    console, notify, ref = options.spoken(chosen, workspace, state)
    count = go_import.import_builds(ref, found, path, notify, environ=os.environ)
    console.tell(f"packer-fork: imported {count} builds into the state of {chosen}")
    if as_json:
        options.answer(console, ref, "import")
