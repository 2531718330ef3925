"""``packer-fork metrics``: what Prometheus is to know of the states."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from packer_fork.cli import options


def metrics(
    *,
    template: options.Template = None,
    textfile: Annotated[
        Path | None,
        typer.Option(
            "--textfile",
            metavar="PATH",
            help="Write a file for node_exporter instead; in a folder, one for each state.",
        ),
    ] = None,
    workspace: options.Workspace = None,
    state: options.State = None,
) -> None:
    """Print metrics in the text format of Prometheus.

    A state that cannot be read is reported and sets the exit code.
    """
    from packer_fork.manager.reports import metrics as measured
    from packer_fork.manager.reports import prometheus
    from packer_fork.views.plain import PlainView

    console = options.console()
    found = measured.of(options.places(template, workspace, state, PlainView(console)))
    if textfile is None:
        console.say(prometheus.text([each.measures for each in found]).decode().removesuffix("\n"))
    else:
        prometheus.write(found, textfile)
    options.end(console, [each.error for each in found])
