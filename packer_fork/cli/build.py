"""``packer-fork build``: Packer's own flags are taken out first, Typer sees the rest."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from packer_fork.cli import options

if TYPE_CHECKING:
    from packer_fork.packer.flags import PackerFlags

EPILOG = """\b
Packer's own flags are taken as Packer takes them, with one dash or two, before or
after TEMPLATE: -var -var-file -only -except -on-error -parallel-builds -force -color
-timestamp-ui -machine-readable -warn-on-undeclared-var -ignore-prerelease-plugins
-use-sequential-evaluation -skip-enforcement. What follows -- goes to Packer untouched.

\b
  packer-fork build web.pkr.hcl
  packer-fork build -var region=eu-west-1 -only 'web.*' --workspace staging images/
"""

_OWN_VALUE_OPTIONS = frozenset({"--workspace", "--state", "--lock-timeout"})


def take_packer_flags(argv: list[str]) -> tuple[PackerFlags, list[str]]:
    """Packer's flags for `build`, and what is left for Typer. Raises UsageError."""
    from packer_fork.packer import flags

    return flags.take(argv, _OWN_VALUE_OPTIONS)


def build(
    context: typer.Context,
    *,
    template: Annotated[str, typer.Argument(metavar="TEMPLATE", help="What to build.")],
    workspace: options.Workspace = None,
    state: options.State = None,
    lock_timeout: Annotated[
        str | None,
        typer.Option("--lock-timeout", metavar="TIME", help="Wait so long for the lock: 30m."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print events as JSON, one per line.")
    ] = False,
) -> None:
    """Run `packer build` under the lock, and keep what came of it."""
    from packer_fork.manager.build import BuildRequest
    from packer_fork.manager.build import build as run_build
    from packer_fork.views.jsonlines import JsonLines
    from packer_fork.views.plain import PlainView

    flags: PackerFlags = context.obj
    request = BuildRequest(
        template=template,
        flags=flags,
        settings={"workspace": workspace, "state": state, "lock_timeout": lock_timeout},
        environ=dict(os.environ),
    )
    console = options.console(color=flags.color)
    plain = PlainView(console, machine_readable=flags.machine_readable)
    raise typer.Exit(run_build(request, JsonLines(console) if as_json else plain))
