"""``packer-fork state revoke``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from packer_fork.cli import options


def revoke(
    *,
    template: options.OneTemplate = None,
    build: Annotated[str, typer.Option("--build", metavar="NAME", help="Whose artifacts.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for all to see.")],
    run: Annotated[
        int | None, typer.Option("--run", metavar="N", help="What that run built; else the newest.")
    ] = None,
    workspace: options.Workspace = None,
    state_folder: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Mark what was built as not to be used: never up to date again, never told of again."""
    from packer_fork.manager import revoke as manager
    from packer_fork.views.plain import PlainView

    console = options.console()
    view = PlainView(console)
    place = options.one_place(template, workspace, state_folder, view)
    number = manager.revoke(place, build, run, reason, view, environ=os.environ)
    console.tell(f"packer-fork: {build} of run {number} is revoked; the next build makes it anew.")
    if as_json:
        options.answer(console, place, "revoke")
