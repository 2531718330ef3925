"""The commands and their groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from packer_fork import __version__
from packer_fork.cli import (
    artifacts,
    build,
    config,
    handover,
    history,
    lock,
    logs,
    metrics,
    revoke,
    safekeeping,
    state,
    transfer,
    version,
)

app = typer.Typer(
    name="packer-fork",
    help="Packer builds that run once, resume, queue, and are never lost.",
    epilog=handover.EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("build", epilog=build.EPILOG)(build.build)
app.command("plan")(build.plan)
app.command("artifacts")(artifacts.artifacts)
app.command("logs")(logs.logs)
app.command("metrics")(metrics.metrics)
app.command("force-unlock")(lock.force_unlock)
app.command("version")(version.version)
state.app.command("history")(history.history)
state.app.command("list")(history.list_runs)
state.app.command("diff")(history.diff)
state.app.command("rollback")(history.rollback)
state.app.command("prune")(history.prune)
state.app.command("revoke")(revoke.revoke)
state.app.command("backup")(safekeeping.backup)
state.app.command("restore")(safekeeping.restore)
state.app.command("verify")(safekeeping.verify)
state.app.command("repair")(safekeeping.repair)
state.app.command("pull")(transfer.pull)
state.app.command("push")(transfer.push)
state.app.command("migrate")(transfer.migrate)
state.app.command("import")(transfer.import_state)
app.add_typer(state.app, name="state")
app.add_typer(lock.app, name="lock")
app.add_typer(config.app, name="config")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"packer-fork {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Packer builds that run once, resume, queue, and are never lost."""


def run(argv: Sequence[str]) -> None:
    """Run one command line; ends in SystemExit, or raises PackerForkError."""
    arguments, flags = handover.arrange(argv, _names()), None
    if arguments[:1] in (["build"], ["plan"]):
        flags, rest = build.take_packer_flags(arguments[1:])
        arguments = [arguments[0], *rest]
    app(arguments, obj=flags)


def _names() -> set[str]:
    commands = {str(each.name) for each in app.registered_commands}
    return commands | {str(each.name) for each in app.registered_groups}
