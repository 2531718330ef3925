"""``packer-fork state show|list|recover|rm|adopt|revoke``: the recorded builds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packer_fork.cli import options

if TYPE_CHECKING:
    from packer_fork.manager.state.show import Shown
    from packer_fork.views.console import Console
    from packer_fork.views.states import Entry


def show(
    *,
    template: options.Template = None,
    build: Annotated[
        str | None, typer.Option("--build", metavar="NAME", help="Show all details of one build.")
    ] = None,
    serial: Annotated[
        int | None, typer.Option("--serial", metavar="N", help="The state after change N.")
    ] = None,
    run: Annotated[
        int | None, typer.Option("--run", metavar="N", help="The state after run N.")
    ] = None,
    workspace: options.Workspace = None,
    state_folder: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Show the builds: status, time, duration, artifacts."""
    from packer_fork.manager.state import show as manager
    from packer_fork.views import states as view
    from packer_fork.views.plain import PlainView

    console = options.console()
    notify = PlainView(console)
    if build is not None or serial is not None or run is not None:
        ref = options.one_place(template, workspace, state_folder, notify)
        shown = manager.at(ref, serial=serial, run=run)
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
    from packer_fork.manager.state import show as manager
    from packer_fork.views import states as view

    for shown in found:
        if shown.error is None:
            builds = manager.builds(shown.state) if shown.state else ()
            for line in view.lines(_entry(shown), builds, console.width):
                console.say(line)
        else:
            console.problem(shown.error.message, shown.error.hint)
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


def list_builds(
    *,
    template: options.OneTemplate = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="Only builds of this status.")
    ] = None,
    workspace: options.Workspace = None,
    state_folder: options.State = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of names.")] = False,
) -> None:
    """List the names of the builds, one a line."""
    from packer_fork.cli import statuses
    from packer_fork.manager.state import show as manager
    from packer_fork.views.document import indented

    statuses.check(status)
    console, _, ref = options.spoken(template, workspace, state_folder)
    found = ref.store.read()
    builds = manager.builds(found) if found else ()
    names = [build.name for build in builds if status in (None, str(build.status))]
    for line in [indented(names)] if as_json else names:
        console.say(line)


def recover(
    *,
    template: options.Template = None,
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="Results that a build spooled or printed."),
    ] = None,
    workspace: options.Workspace = None,
    state_folder: options.State = None,
) -> None:
    """Recover unfinished runs and spooled results.

    Finishes, from its log, a run whose packer-fork process was killed, and merges spooled and
    late results into the state; results of later runs stay. FILE: merge these results alone.
    """
    from packer_fork.manager.state import merge_results
    from packer_fork.views.plain import PlainView

    console = options.console()
    view = PlainView(console)
    if file is None and template is not None and merge_results.is_results_file(template):
        template, file = None, template
    if file is not None:
        ref = options.one_place(template, workspace, state_folder, view)
        merge_results.merge(ref, Path(file), view, environ=os.environ)
        return
    refs = options.places(template, workspace, state_folder, view)
    codes = [merge_results.recover_all(ref, view, environ=os.environ) for ref in refs]
    if not refs:
        console.tell("packer-fork: there is no state below this directory.")
    raise typer.Exit(max(codes, default=0))


def rm(
    *,
    template: options.OneTemplate = None,
    instance: Annotated[
        str | None,
        typer.Option("--instance", metavar="ID", help="A leaked instance that is gone now."),
    ] = None,
    build: Annotated[
        str | None, typer.Option("--build", metavar="NAME", help="A build to forget.")
    ] = None,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    state_folder: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Remove a build or a leaked instance."""
    from packer_fork.errors import UsageError
    from packer_fork.manager.build import leftovers
    from packer_fork.manager.state import edit

    console, notify, ref = options.spoken(template, workspace, state_folder)
    if (instance is None) == (build is None):
        raise UsageError("nothing to remove is named", hint="give --instance ID or --build NAME")
    backup = None
    if instance is not None:
        leftovers.strike(ref, instance, notify, environ=os.environ)
    elif build is not None:
        edit.check_removal(ref, build)
        options.confirm(f"Remove {build} from the state?", yes=yes)
        backup = edit.remove_build(ref, build, notify, environ=os.environ)
        console.tell(f"packer-fork: removed {build} from the state; backup: {backup.path}")
    if as_json:
        options.answer(console, ref, "rm", backup=backup)


def adopt(
    *,
    template: options.OneTemplate = None,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    state_folder: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Let this project use a state of another project.

    For one project with two names or remotes: a fork, or a repository that moved.
    """
    from packer_fork.manager.state import edit

    console, notify, ref = options.spoken(template, workspace, state_folder)
    options.confirm(f"Use the state of {ref.folder.label} in {ref.store.location}?", yes=yes)
    adopted = edit.adopt(ref, notify, environ=os.environ)
    done = "adopted the state of" if adopted else "this project already uses the state of"
    console.tell(f"packer-fork: {done} {ref.folder.label}")
    if as_json:
        options.answer(console, ref, "adopt")


def revoke(
    *,
    template: options.OneTemplate = None,
    build: Annotated[str, typer.Option("--build", metavar="NAME", help="The build to revoke.")],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="The reason, recorded for all.")
    ],
    run: Annotated[
        int | None, typer.Option("--run", metavar="N", help="Its result of run N; the newest.")
    ] = None,
    workspace: options.Workspace = None,
    state_folder: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Revoke a result, so that nothing uses its artifacts."""
    from packer_fork.manager.state import edit

    console, notify, ref = options.spoken(template, workspace, state_folder)
    number = edit.revoke(ref, build, run, reason, notify, environ=os.environ)
    console.tell(f"packer-fork: revoked {build} of run {number}; the next build rebuilds it")
    if as_json:
        options.answer(console, ref, "revoke")
