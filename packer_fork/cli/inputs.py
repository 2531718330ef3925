"""``packer-fork inputs``: what counts for each build, and how that is known."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from packer_fork.cli import build as of_build
from packer_fork.cli import options

if TYPE_CHECKING:
    from packer_fork.packer.flags import PackerFlags


def inputs(
    context: typer.Context,
    *,
    template: Annotated[str, typer.Argument(metavar="TEMPLATE", help="The template to inspect.")],
    build: Annotated[
        str | None, typer.Option("--build", metavar="NAME", help="Only the inputs of one build.")
    ] = None,
    workspace: options.Workspace = None,
    state: options.State = None,
    inputs: of_build.Input = None,
    input_env: of_build.InputEnv = None,
    input_command: of_build.InputCommand = None,
    ignore_var: of_build.IgnoreVar = None,
    assume_unchanged: of_build.Assume = None,
    as_json: options.Json = False,
) -> None:
    """List what counts for each build, and what is not tracked."""
    from packer_fork.manager import input_report
    from packer_fork.views import inputs as view
    from packer_fork.views.document import indented
    from packer_fork.views.plain import PlainView

    flags: PackerFlags = context.obj
    settings = {
        "workspace": workspace,
        "state": state,
        "inputs": inputs,
        "input_env": input_env,
        "input_commands": input_command,
        "ignore_vars": ignore_var,
        "assume_unchanged": assume_unchanged,
    }
    console = options.console(color=flags.color)
    notify = PlainView(console)
    found = input_report.report(template, flags, settings, dict(os.environ), build, notify)
    if as_json:
        console.say(indented(found))
        return
    for line in view.lines(found):
        console.say(line)
