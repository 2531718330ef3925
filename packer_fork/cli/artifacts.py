"""``packer-fork artifacts``: what was built, for whoever goes on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from packer_fork.cli import options


def artifacts(
    *,
    template: Annotated[
        str | None,
        typer.Argument(metavar="[TEMPLATE]", help="Whose; the only one below this directory."),
    ] = None,
    build: Annotated[
        str | None, typer.Option("--build", metavar="NAME", help="Those of one build.")
    ] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="Of all, only what was finished last.")
    ] = False,
    branch: Annotated[
        str | None, typer.Option("--branch", metavar="B", help="What was built on that branch.")
    ] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="A flat JSON object of texts, as Terraform takes it.")
    ] = False,
    manifest: Annotated[
        Path | None,
        typer.Option("--manifest", metavar="FILE", help="Write Packer's manifest, from the state."),
    ] = None,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """List the artifacts of each build's newest complete run."""
    from packer_fork.manager import made
    from packer_fork.views import states as view
    from packer_fork.views.plain import PlainView

    console = options.console()
    place = options.one_place(template, workspace, state, PlainView(console))
    found = made.of_branch(place, build, branch) if branch else made.of_place(place, build)
    found = made.latest(found) if latest else found
    if flat:
        console.say(view.as_json(made.flat(found)))
        return
    if manifest is not None:
        made.write_manifest(found, manifest)
    if as_json:
        console.say(view.as_json(found))
        return
    made_by = ((each.build, each.run, each.artifacts) for each in found)
    for line in view.artifacts(made_by, console.width):
        console.say(line)
