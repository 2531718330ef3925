"""``packer-fork config``: the settings and their origin."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from packer_fork.cli import options

_HIDDEN = "***"


def show(
    *,
    template: Annotated[
        str | None,
        typer.Argument(metavar="[TEMPLATE]", help="The template; else the working directory."),
    ] = None,
    workspace: options.Workspace = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Show each setting, its value and its origin."""
    from packer_fork import config as known
    from packer_fork.manager import state_ref
    from packer_fork.views import settings as view

    flags = {"workspace": workspace, "state": state}
    found = state_ref.load_settings(template, flags, os.environ)
    shown = {
        name: view.Shown(
            _HIDDEN if each.value and name in known.SECRET else each.value, each.origin
        )
        for name, each in found.origins.items()
    }
    console = options.console()
    if as_json:
        console.say(view.as_json(str(found.file) if found.file else None, shown))
        return
    for line in view.lines(shown):
        console.say(line)
