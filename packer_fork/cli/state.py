"""``packer-fork state``: what is known of the builds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packer_fork.cli import options

if TYPE_CHECKING:
    from packer_fork.manager.show import Shown
    from packer_fork.views.console import Console
    from packer_fork.views.states import Entry

app = typer.Typer(name="state", help="What is known of the builds.", no_args_is_help=True)


@app.callback()
def state() -> None:
    """What is known of the builds."""


@app.command("show")
def show(
    *,
    template: options.Template = None,
    build: Annotated[
        str | None, typer.Option("--build", metavar="NAME", help="Everything about one build.")
    ] = None,
    serial: Annotated[
        int | None, typer.Option("--serial", metavar="N", help="As it was after this change.")
    ] = None,
    run: Annotated[
        int | None, typer.Option("--run", metavar="N", help="As it was after this run.")
    ] = None,
    workspace: options.Workspace = None,
    state_folder: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Show the builds: status, when, how long, artifacts."""
    from packer_fork.manager import show as manager
    from packer_fork.views import states as view
    from packer_fork.views.plain import PlainView

    console = options.console()
    notify = PlainView(console)
    if build is not None or serial is not None or run is not None:
        place = options.one_place(template, workspace, state_folder, notify)
        shown = manager.at(place, serial=serial, run=run)
        if build is None:
            _show([shown], console, as_json=as_json, single=True)
        else:
            document = manager.build(shown, build)
            lines = view.build_lines(document)
            console.say(view.as_json(document) if as_json else "\n".join(lines))
        return
    found = manager.states(options.places(template, workspace, state_folder, notify))
    _show(found, console, as_json=as_json, single=template is not None)
    raise typer.Exit(max((shown.exit_code for shown in found), default=0))


def _show(found: Sequence[Shown], console: Console, *, as_json: bool, single: bool) -> None:
    if as_json:
        _print_json(console, found, single=single)
    else:
        _print(console, found)


def _print(console: Console, found: Sequence[Shown]) -> None:
    from packer_fork.manager import show as manager
    from packer_fork.views import states as view

    for shown in found:
        if shown.error is None:
            builds = manager.builds(shown.state) if shown.state else ()
            for line in view.lines(_entry(shown), builds):
                console.say(line)
        else:
            console.tell(f"packer-fork: {shown.error.message}\n  {shown.error.hint}")
    if not found:
        console.tell("packer-fork: there is no state below this directory.")


def _print_json(console: Console, found: Sequence[Shown], *, single: bool) -> None:
    from packer_fork.views import states as view

    if not single:
        console.say(view.all_as_json([_entry(shown) for shown in found]))
    elif found[0].error is not None:
        raise found[0].error
    else:
        console.say(view.as_json(found[0].state))


def _entry(shown: Shown) -> Entry:
    from msgspec import structs

    from packer_fork.views.states import Entry

    error = shown.error.message if shown.error else None
    return Entry(
        template=shown.label,
        workspace=shown.workspace,
        location=shown.location,
        state=structs.replace(shown.state, key="") if shown.state else None,
        error=error,
    )


@app.command("recover")
def recover(
    *,
    template: options.Template = None,
    workspace: options.Workspace = None,
    state_folder: options.State = None,
) -> None:
    """Finish, from its log, a run whose packer-fork was killed."""
    from packer_fork.manager.build import recovery as manager
    from packer_fork.views.plain import PlainView

    console = options.console()
    view = PlainView(console)
    places = options.places(template, workspace, state_folder, view)
    codes = [manager.recover_place(place, view, environ=os.environ) for place in places]
    if not places:
        console.tell("packer-fork: there is no state below this directory.")
    raise typer.Exit(max(codes, default=0))


@app.command("replay")
def replay(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The late results, as a build kept them.")
    ],
    template: Annotated[
        str | None, typer.Option("--template", metavar="TEMPLATE", help="Whose results they are.")
    ] = None,
    workspace: options.Workspace = None,
    state_folder: options.State = None,
) -> None:
    """Bring results into the history that came after their lock had been closed."""
    from packer_fork.manager import replay as manager
    from packer_fork.views.plain import PlainView

    view = PlainView(options.console())
    place = options.one_place(template, workspace, state_folder, view)
    manager.replay(place, file, view, environ=os.environ)


@app.command("rm")
def rm(
    *,
    template: options.OneTemplate = None,
    instance: Annotated[
        str | None,
        typer.Option("--instance", metavar="ID", help="An instance that is gone by now."),
    ] = None,
    build: Annotated[
        str | None, typer.Option("--build", metavar="NAME", help="A build that is no more.")
    ] = None,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    state_folder: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Take a build out of the state, or an instance that a failed run may have left behind."""
    from packer_fork.errors import UsageError
    from packer_fork.manager import leftovers, removal
    from packer_fork.views.plain import PlainView

    console = options.console()
    view = PlainView(console)
    place = options.one_place(template, workspace, state_folder, view)
    if (instance is None) == (build is None):
        raise UsageError("Give one of --instance ID and --build NAME.")
    backup = None
    if instance is not None:
        leftovers.strike(place, instance, view, environ=os.environ)
    elif build is not None:
        removal.check(place, build)
        options.confirm(f"Take {build} out of the state?", yes=yes)
        backup = removal.remove(place, build, view, environ=os.environ)
        console.tell(f"packer-fork: {build} is out of the state; it is in {backup.path}")
    if as_json:
        options.answer(console, place, "rm", backup=backup)
