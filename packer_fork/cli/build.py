"""``packer-fork build``: Packer's own flags are taken out first, Typer sees the rest."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from packer_fork.cli import options

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from packer_fork.events import Notify
    from packer_fork.manager.build.shared_run import Sharing
    from packer_fork.packer.flags import PackerFlags
    from packer_fork.views.amount import Amount

_OWN_VALUE_OPTIONS = frozenset(
    {
        "--build",
        "--workspace",
        "--state",
        "--lock-timeout",
        "--retries",
        "--max-sources",
        "--input",
        "--input-env",
        "--input-command",
        "--ignore-var",
        "--assume-unchanged",
        "--max-age",
    }
)

Template = Annotated[str, typer.Argument(metavar="TEMPLATE", help="What to build.")]
Input = Annotated[
    list[str] | None, typer.Option("--input", metavar="GLOB", help="More files that count.")
]
InputEnv = Annotated[
    list[str] | None,
    typer.Option("--input-env", metavar="NAME", help="Environment variables that count."),
]
InputCommand = Annotated[
    list[str] | None,
    typer.Option("--input-command", metavar="CMD", help="Commands whose output counts."),
]
IgnoreVar = Annotated[
    list[str] | None,
    typer.Option("--ignore-var", metavar="NAME", help="Variables that do not count."),
]
Assume = Annotated[
    list[str] | None,
    typer.Option(
        "--assume-unchanged", metavar="NAME", help="What cannot be known, and is trusted: data.X."
    ),
]
MaxAge = Annotated[
    str | None,
    typer.Option("--max-age", metavar="TIME", help="How long a build is up to date: 30d."),
]


def take_packer_flags(argv: list[str]) -> tuple[PackerFlags, list[str]]:
    """Packer's flags for a command that takes them, and what is left for Typer.

    Raises UsageError.
    """
    from packer_fork.packer import flags

    return flags.take(argv, _OWN_VALUE_OPTIONS)


def build(
    context: typer.Context,
    *,
    template: Template,
    workspace: options.Workspace = None,
    state: options.State = None,
    lock_timeout: Annotated[
        str | None,
        typer.Option("--lock-timeout", metavar="TIME", help="Wait so long for the lock: 30m."),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build also what is up to date.")
    ] = False,
    retries: Annotated[
        int | None, typer.Option("--retries", metavar="N", help="Build failed sources again.")
    ] = None,
    fail_fast: Annotated[
        bool | None, typer.Option("--fail-fast", help="When one fails, cancel the others.")
    ] = None,
    isolate: Annotated[
        bool | None, typer.Option("--isolate", help="A Packer of its own for each source.")
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Build together with other machines.")
    ] = False,
    max_sources: Annotated[
        int | None,
        typer.Option("--max-sources", metavar="N", help="With --share: so many here at a time."),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="With --share: leave when nothing is left to take.")
    ] = False,
    cancel_all: Annotated[
        bool, typer.Option("--cancel-all", help="With --share: who ends this ends it for all.")
    ] = False,
    max_age: MaxAge = None,
    inputs: Input = None,
    input_env: InputEnv = None,
    input_command: InputCommand = None,
    ignore_var: IgnoreVar = None,
    assume_unchanged: Assume = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="On a terminal, show all that Packer says.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Show what is wrong, and what came of it.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print events as JSON, one per line.")
    ] = False,
) -> None:
    """Run `packer build`, under the lock, for what is not up to date; keep what came of it."""
    from packer_fork.errors import UsageError
    from packer_fork.manager.build.invocation import build as run_build
    from packer_fork.manager.prepare import BuildRequest
    from packer_fork.views.ci import reported
    from packer_fork.views.several import several

    flags: PackerFlags = context.obj
    request = BuildRequest(
        template=template,
        flags=flags,
        settings={
            "workspace": workspace,
            "state": state,
            "lock_timeout": lock_timeout,
            "retries": retries,
            "fail_fast": fail_fast,
            "isolate": isolate,
            "max_sources": max_sources,
            "max_age": max_age,
            "inputs": inputs,
            "input_env": input_env,
            "input_commands": input_command,
            "ignore_vars": ignore_var,
            "assume_unchanged": assume_unchanged,
        },
        environ=dict(os.environ),
        rebuild=rebuild,
    )
    if not share and (no_wait or cancel_all or max_sources is not None):
        what = "--max-sources, --no-wait, --cancel-all: these are for --share alone."
        raise UsageError(what, hint="Add --share, or leave them out.")
    sharing = _sharing(no_wait=no_wait, cancel_all=cancel_all) if share else None
    place = _arguments(template, workspace, state)
    amount = _amount(verbose=verbose, quiet=quiet)
    with (
        reported(os.environ, sys.stderr) as reports,
        _watched(flags, place, amount, as_json=as_json) as view,
    ):
        code = run_build(request, several(reports, view), sharing)
    raise typer.Exit(code)


def _arguments(template: str, workspace: str | None, state: str | None) -> list[str]:
    """By which another command finds this state."""
    given = (("--workspace", workspace), ("--state", state))
    return [template, *(word for name, value in given if value for word in (name, value))]


def _amount(*, verbose: bool, quiet: bool) -> Amount | None:
    """How much was asked for, None if nothing was said. Raises UsageError."""
    from packer_fork.errors import UsageError
    from packer_fork.views.amount import Amount

    if verbose and quiet:
        raise UsageError("--verbose and --quiet contradict each other.", hint="Give one of them.")
    if verbose:
        return Amount.ALL
    return Amount.QUIET if quiet else None


def _sharing(*, no_wait: bool, cancel_all: bool) -> Sharing:
    from packer_fork.manager.build.shared_run import Sharing

    return Sharing(waits=not no_wait, cancel_all=cancel_all)


def plan(
    context: typer.Context,
    *,
    template: Template,
    workspace: options.Workspace = None,
    state: options.State = None,
    max_age: MaxAge = None,
    inputs: Input = None,
    input_env: InputEnv = None,
    input_command: InputCommand = None,
    ignore_var: IgnoreVar = None,
    assume_unchanged: Assume = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 20 if there is something to build.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Tell what `build` would do, and why. Takes no lock, changes no state."""
    from packer_fork.errors import EXIT_DONE, EXIT_TO_BUILD
    from packer_fork.manager import planning

    flags: PackerFlags = context.obj
    settings = {
        "workspace": workspace,
        "state": state,
        "max_age": max_age,
        "inputs": inputs,
        "input_env": input_env,
        "input_commands": input_command,
        "ignore_vars": ignore_var,
        "assume_unchanged": assume_unchanged,
    }
    view = _view(flags, as_json=as_json, answer=True)
    to_build = planning.show(template, flags, settings, dict(os.environ), view)
    raise typer.Exit(EXIT_TO_BUILD if detailed_exitcode and to_build else EXIT_DONE)


def _watched(
    flags: PackerFlags, place: list[str], amount: Amount | None, *, as_json: bool
) -> AbstractContextManager[Notify]:
    """The live view where somebody looks, and Packer itself does not need the terminal."""
    from packer_fork.views import ci
    from packer_fork.views.amount import Amount

    plain = _view(flags, as_json=as_json, amount=amount)
    for_programs = as_json or flags.machine_readable
    if for_programs or not ci.is_watched(os.environ):
        return contextlib.nullcontext(plain)
    from packer_fork.manager.build.supervisor import is_interactive

    if is_interactive(flags):
        return contextlib.nullcontext(plain)
    from packer_fork.views.live.view import live_view

    color = ci.console(os.environ, color=flags.color).color
    return live_view(sys.stdout, plain, amount or Amount.IMPORTANT, place, color=color)


def _view(
    flags: PackerFlags, *, as_json: bool, answer: bool = False, amount: Amount | None = None
) -> Notify:
    """`answer`: the plan itself was asked for, so that it goes to stdout."""
    from packer_fork.views import ci
    from packer_fork.views.amount import Amount
    from packer_fork.views.jsonlines import JsonLines
    from packer_fork.views.plain import PlainView

    console = ci.console(os.environ, color=flags.color)
    if as_json:
        return JsonLines(console, is_answer=answer)
    return PlainView(
        console,
        amount=amount or Amount.ALL,
        machine_readable=flags.machine_readable,
        plan_is_answer=answer,
    )
