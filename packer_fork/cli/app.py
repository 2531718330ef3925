"""The commands and their groups; only what a command line asks for is imported and made."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated

import typer

from packer_fork import __version__
from packer_fork.cli import completing, examples, handover, refusals


def _build(app: typer.Typer) -> None:
    from packer_fork.cli import build

    app.command("build")(build.build)


def _plan(app: typer.Typer) -> None:
    from packer_fork.cli import build

    app.command("plan")(build.plan)


def _inputs(app: typer.Typer) -> None:
    from packer_fork.cli import inputs

    app.command("inputs")(inputs.inputs)


def _artifacts(app: typer.Typer) -> None:
    from packer_fork.cli import artifacts

    app.command("artifacts")(artifacts.artifacts)


def _logs(app: typer.Typer) -> None:
    from packer_fork.cli import logs

    app.command("logs")(logs.logs)


def _metrics(app: typer.Typer) -> None:
    from packer_fork.cli import metrics

    app.command("metrics")(metrics.metrics)


def _stats(app: typer.Typer) -> None:
    from packer_fork.cli import stats

    app.command("stats")(stats.stats)


def _completion(app: typer.Typer) -> None:
    from packer_fork.cli import completion

    app.command("completion")(completion.completion)


def _force_unlock(app: typer.Typer) -> None:
    from packer_fork.cli import lock

    app.command("force-unlock")(lock.force_unlock)


def _version_command(app: typer.Typer) -> None:
    from packer_fork.cli import version

    app.command("version")(version.version)


_STATE_COMMANDS: Mapping[str, tuple[str, str]] = {
    "history": ("history", "history"),
    "list": ("history", "list_runs"),
    "diff": ("history", "diff"),
    "rollback": ("history", "rollback"),
    "prune": ("history", "prune"),
    "revoke": ("revoke", "revoke"),
    "backup": ("safekeeping", "backup"),
    "restore": ("safekeeping", "restore"),
    "verify": ("safekeeping", "verify"),
    "repair": ("safekeeping", "repair"),
    "pull": ("transfer", "pull"),
    "push": ("transfer", "push"),
    "migrate": ("transfer", "migrate"),
    "import": ("transfer", "import_state"),
}
"""Module and function of those that are not in ``cli.state`` itself, in the order of ``--help``."""


def _state(app: typer.Typer, name: str = "") -> None:
    """The group with all its commands, or at least with the one of that name."""
    from packer_fork.cli import state

    known = {each.name for each in state.app.registered_commands}
    if name not in known:
        for each in [name] if name in _STATE_COMMANDS else _STATE_COMMANDS:
            if each not in known:
                module, function = _STATE_COMMANDS[each]
                found = importlib.import_module(f"packer_fork.cli.{module}")
                state.app.command(each)(getattr(found, function))
    app.add_typer(state.app, name="state")


def _lock(app: typer.Typer) -> None:
    from packer_fork.cli import lock

    app.add_typer(lock.app, name="lock")


def _config(app: typer.Typer) -> None:
    from packer_fork.cli import config

    app.add_typer(config.app, name="config")


COMMANDS: Mapping[str, Callable[[typer.Typer], None]] = {
    "build": _build,
    "plan": _plan,
    "inputs": _inputs,
    "artifacts": _artifacts,
    "logs": _logs,
    "metrics": _metrics,
    "stats": _stats,
    "force-unlock": _force_unlock,
    "completion": _completion,
    "version": _version_command,
    "state": _state,
    "lock": _lock,
    "config": _config,
}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"packer-fork {__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Packer builds that run once, resume, queue, and are never lost."""


def made(names: Iterable[str] = tuple(COMMANDS), within: str = "") -> typer.Typer:
    """The program with these commands: each costs time to import and to make.

    `within` the group "state", if it is one of `names`, only the command of that name is needed.
    """
    app = typer.Typer(
        name="packer-fork",
        help="Packer builds that run once, resume, queue, and are never lost.",
        epilog=examples.epilog(""),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name in names:
        if name == "state":
            _state(app, within)
        else:
            COMMANDS[name](app)
    examples.add(app)
    return app


def run(argv: Sequence[str]) -> None:
    """Run one command line; ends in SystemExit, or raises PackerForkError."""
    if argv[:1] == [completing.REQUEST]:
        completing.answer(argv[1:], made)
        return
    arguments, flags = handover.arrange(_take_color(argv), COMMANDS), None
    if arguments[:1] in (["build"], ["plan"], ["inputs"]):
        from packer_fork.cli import build

        flags, rest = build.take_packer_flags(arguments[1:])
        arguments = [arguments[0], *rest]
    program = made(_needed(arguments), arguments[1] if arguments[1:] else "")
    with refusals.told(arguments):
        code = program(arguments, "packer-fork", obj=flags, standalone_mode=False)
    raise SystemExit(code)


_COLOR = "--color="


def _take_color(argv: Sequence[str]) -> list[str]:
    """`argv` without ``--color=always|never|auto``, which any command takes at any place.

    Packer's own flag, ``-color=false``, stays.
    """
    chosen = [word for word in argv if word in (f"{_COLOR}always", f"{_COLOR}never")]
    if chosen:
        from packer_fork.views.console import Color, choose_color

        choose_color(Color(chosen[-1].removeprefix(_COLOR)))
    taken = {*chosen, f"{_COLOR}auto"}
    return [word for word in argv if word not in taken]


def _needed(arguments: Sequence[str]) -> Iterable[str]:
    """All for whoever asks for help, or is wrong."""
    if arguments == ["--version"]:
        return ()
    name = arguments[0] if arguments else ""
    return (name,) if name in COMMANDS else COMMANDS
