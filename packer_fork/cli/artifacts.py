"""``packer-fork artifacts``: the artifacts for later steps of a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from packer_fork.cli import options


def artifacts(
    *,
    template: options.OneTemplate = None,
    build: Annotated[
        str | None, typer.Option("--build", metavar="NAME", help="Only this build.")
    ] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="Only the build that ended last.")
    ] = False,
    branch: Annotated[
        str | None, typer.Option("--branch", metavar="NAME", help="The newest of that git branch.")
    ] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="Print a flat JSON object, for Terraform.")
    ] = False,
    manifest: Annotated[
        Path | None,
        typer.Option("--manifest", metavar="FILE", help="Write a manifest like Packer's."),
    ] = None,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """List the artifacts of the newest complete results."""
    from packer_fork.manager.state import artifacts as manager
    from packer_fork.views import states as view

    console, _, ref = options.spoken(template, workspace, state)
    newest = manager.newest_on_branch(ref, build, branch) if branch else manager.newest(ref, build)
    found = manager.latest(newest) if latest else newest
    if flat:
        console.say(view.as_json(manager.flat(found)))
        return
    if manifest is not None:
        manager.write_manifest(found, manifest)
    if as_json:
        console.say(view.as_json(found))
        return
    made_by = ((each.build, each.run, each.artifacts) for each in found)
    for line in view.artifacts(made_by, console.width):
        console.say(line)
