"""``packer-fork logs``: the masked log of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from packer_fork.cli import options


def logs(
    *,
    run: Annotated[
        int | None, typer.Argument(metavar="[RUN]", help="Number of the run; the last one.")
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", metavar="TEMPLATE", help="Whose run.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends.")
    ] = False,
    workspace: options.Workspace = None,
    state: options.State = None,
) -> None:
    """Print the log of a run, secrets masked."""
    from packer_fork.manager import logs as manager
    from packer_fork.views.plain import PlainView

    console = options.console()
    place = options.one_place(template, workspace, state, PlainView(console))
    for text in manager.read(place, run, follow=follow):
        console.say(text)
