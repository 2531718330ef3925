"""``packer-fork build`` and ``plan``."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from packer_fork.cli import arguments

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from packer_fork.events import Notify
    from packer_fork.manager.build.prepare import BuildRequest
    from packer_fork.manager.build.shared_run import Sharing
    from packer_fork.packer.flags import PackerFlags
    from packer_fork.views.verbosity import Verbosity


def build(options: arguments.BuildOptions, flags: PackerFlags) -> int:
    """Run `packer build` for what is not up to date."""
    from packer_fork.errors import UsageError
    from packer_fork.manager.build.invocation import build as run_build
    from packer_fork.views.ci import combined, reported

    of_share = options.no_wait or options.cancel_all or options.max_sources is not None
    if of_share and not options.share:
        what = "--max-sources, --no-wait, --cancel-all: these are for --share alone."
        raise UsageError(what, hint="Add --share, or leave them out.")
    sharing = _sharing(options) if options.share else None
    verbosity = _verbosity(options)
    with (
        reported(os.environ, sys.stderr) as reports,
        _watched(options, flags, verbosity) as view,
    ):
        request = _request(options, flags, rebuild=options.rebuild)
        return run_build(request, combined(reports, view), sharing)


def plan(options: arguments.PlanOptions, flags: PackerFlags) -> int:
    """Show what `build` would do, and why.

    Takes no lock and changes no state.
    """
    from packer_fork.errors import EXIT_DONE, EXIT_TO_BUILD
    from packer_fork.manager.build import planning

    view = _view(flags, as_json=options.json, answer=True)
    to_build = planning.show(_request(options, flags), view)
    return EXIT_TO_BUILD if options.detailed_exitcode and to_build else EXIT_DONE


def _request(
    options: arguments.StateOptions, flags: PackerFlags, *, rebuild: bool = False
) -> BuildRequest:
    from packer_fork.manager.build.prepare import BuildRequest
    from packer_fork.views import hints

    hints.choose_state(options.template, options.workspace, options.state)
    return BuildRequest(
        template=options.template,
        flags=flags,
        settings=arguments.settings(options),
        environ=dict(os.environ),
        rebuild=rebuild,
    )


def _state_arguments(options: arguments.StateOptions) -> list[str]:
    """The arguments with which another command finds this state."""
    given = (("--workspace", options.workspace), ("--state", options.state))
    return [options.template, *(word for name, value in given if value for word in (name, value))]


def _verbosity(options: arguments.BuildOptions) -> Verbosity | None:
    """How much to show, None if no option says so. Raises UsageError."""
    from packer_fork.errors import UsageError
    from packer_fork.views.verbosity import Verbosity

    if options.verbose and options.quiet:
        raise UsageError("--verbose and --quiet contradict each other.", hint="Give one of them.")
    if options.verbose:
        return Verbosity.ALL
    return Verbosity.QUIET if options.quiet else None


def _sharing(options: arguments.BuildOptions) -> Sharing:
    from packer_fork.manager.build.shared_run import Sharing

    return Sharing(waits=not options.no_wait, cancel_all=options.cancel_all)


def _watched(
    options: arguments.BuildOptions, flags: PackerFlags, verbosity: Verbosity | None
) -> AbstractContextManager[Notify]:
    """The live view on a terminal that Packer itself does not need."""
    from packer_fork.views import ci

    plain = _view(flags, as_json=options.json, verbosity=verbosity)
    for_programs = options.json or flags.machine_readable
    if for_programs or not ci.is_watched(os.environ):
        return contextlib.nullcontext(plain)
    from packer_fork.manager.build.supervisor import is_interactive
    from packer_fork.views.verbosity import Verbosity

    if is_interactive(flags):
        return contextlib.nullcontext(plain)
    from packer_fork.views.live.view import live_view

    color = ci.console(os.environ, color=flags.color).color
    place = _state_arguments(options)
    return live_view(sys.stdout, plain, verbosity or Verbosity.IMPORTANT, place, color=color)


def _view(
    flags: PackerFlags, *, as_json: bool, answer: bool = False, verbosity: Verbosity | None = None
) -> Notify:
    """`answer`: the plan itself was asked for, so that it goes to stdout."""
    from packer_fork.views import ci
    from packer_fork.views.document import JsonLines
    from packer_fork.views.plain import PlainView
    from packer_fork.views.verbosity import Verbosity

    console = ci.console(os.environ, color=flags.color)
    if as_json:
        return JsonLines(console, is_answer=answer)
    return PlainView(
        console,
        verbosity=verbosity or Verbosity.ALL,
        machine_readable=flags.machine_readable,
        plan_is_answer=answer,
    )
