"""``packer-fork logs``: the masked log of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from packer_fork.cli import options


def logs(
    *,
    template: options.OneTemplate = None,
    run: Annotated[
        int | None, typer.Option("--run", metavar="N", help="Number of the run; the last.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log until the run ends.")
    ] = False,
    workspace: options.Workspace = None,
    state: options.State = None,
) -> None:
    """Print the log of a run, secrets masked."""
    from packer_fork.manager.state import logs as manager

    console, _, ref = options.spoken(template, workspace, state)
    for text in manager.read(ref, run, follow=follow):
        console.say(text)
