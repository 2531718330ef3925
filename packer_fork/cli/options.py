"""Options that several commands share, and what commands do with them."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import typer

from packer_fork.cli.arguments import JSON, STATE, WORKSPACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packer_fork.errors import PackerForkError
    from packer_fork.events import Notify
    from packer_fork.manager.state_ref import StateRef
    from packer_fork.responses import Backup, Difference
    from packer_fork.views.console import Console

Template = Annotated[
    str | None,
    typer.Argument(
        metavar="[TEMPLATE]", help="Template; without it, every state below this directory."
    ),
]
Workspace = Annotated[str | None, typer.Option("--workspace", **WORKSPACE.shown)]
State = Annotated[str | None, typer.Option("--state", **STATE.shown)]
Json = Annotated[bool, typer.Option("--json", **JSON.shown)]

OneTemplate = Annotated[
    str | None,
    typer.Argument(metavar="[TEMPLATE]", help="Whose state; the only one below this directory."),
]
TemplateOption = Annotated[
    str | None, typer.Option("--template", metavar="TEMPLATE", help="Whose state.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def confirm(question: str, *, yes: bool) -> None:
    """Raises UsageError unless somebody says so, on a terminal or with ``--yes``."""
    from packer_fork.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "Nobody is there to confirm, so nothing was done.",
            hint="In scripts, say so with --yes.",
        )
    if not typer.confirm(question, err=True):
        raise UsageError("Nothing was done.")


def console(*, color: bool = True) -> Console:
    from packer_fork.views import ci

    return ci.console(os.environ, color=color)


def places(
    template: str | None,
    workspace: str | None,
    state: str | None,
    notify: Notify,
    more: Mapping[str, Any] | None = None,
) -> list[StateRef]:
    """The place of `template`, or all below the working directory; `more` flags that set."""
    from packer_fork.manager import state_ref
    from packer_fork.manager import state_ref as manager
    from packer_fork.views import hints

    hints.choose_state(template, workspace, state)
    flags = {"workspace": workspace, "state": state, **(more or {})}
    if template is not None:
        place = manager.resolve(state_ref.find_template(template), flags, os.environ, notify)
        _look_at_workspace(place, workspace, notify)
        return [place]
    found = list(manager.resolve_all(flags, os.environ, notify))
    if workspace is not None and not found:
        everywhere = manager.resolve_all({**flags, "workspace": None}, os.environ, notify)
        _refuse_misspelt(workspace, [place.folder.workspace for place in everywhere])
    return found


def _look_at_workspace(place: StateRef, workspace: str | None, notify: Notify) -> None:
    """A new one is fine; but the name may also be meant for one that there is."""
    from packer_fork.events import Notice
    from packer_fork.manager import state_ref

    if workspace is None or place.folder.is_shared:
        return
    known = state_ref.local_workspaces(place.folder)
    if workspace not in known and (hint := _nearest_workspace(workspace, known)):
        text = f"There is nothing yet in workspace {workspace!r} of {place.folder.label}."
        notify(Notice(level="warning", text=text, hint=hint))


def _refuse_misspelt(workspace: str, known: Sequence[str]) -> None:
    """Raises UsageError if one that there is may have been meant."""
    from packer_fork.errors import UsageError

    if hint := _nearest_workspace(workspace, known):
        raise UsageError(f"No state below this directory is in workspace {workspace!r}.", hint=hint)


def _nearest_workspace(workspace: str, known: Iterable[str]) -> str:
    """The one that was meant, or "": pr-12 is new, and no pr-11 misspelt."""
    from packer_fork.errors import nearest

    def unnumbered(name: str) -> str:
        return re.sub(r"\d+", "0", name)

    others = (each for each in known if unnumbered(each) != unnumbered(workspace))
    return nearest(workspace, others, "")


def one_place(
    template: str | None,
    workspace: str | None,
    state: str | None,
    notify: Notify,
    more: Mapping[str, Any] | None = None,
) -> StateRef:
    """The place of `template`, or the only one below. Raises UsageError if that is not one."""
    from packer_fork.errors import UsageError

    found = places(template, workspace, state, notify, more)
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{place.folder.label} ({place.folder.workspace})" for place in found)
    raise UsageError(
        f"There are {len(found)} states below this directory{f': {names}' if names else ''}.",
        hint="Name the template, and with --workspace the workspace.",
    )


class Spoken(NamedTuple):
    """What a command about one state works with."""

    console: Console
    notify: Notify
    place: StateRef


def spoken(
    template: str | None,
    workspace: str | None,
    state: str | None,
    more: Mapping[str, Any] | None = None,
) -> Spoken:
    """The console, plain lines on it, and the place of `template` as `one_place` finds it."""
    from packer_fork.views.plain import PlainView

    out = console()
    notify = PlainView(out)
    return Spoken(out, notify, one_place(template, workspace, state, notify, more))


def end(console: Console, errors: Sequence[PackerForkError | None]) -> NoReturn:
    """Tell what kept each state from being read, None for nothing; the worst is the exit code."""
    for error in filter(None, errors):
        console.problem(error.message, error.hint)
    if not errors:
        console.tell("packer-fork: there is no state below this directory.")
    raise typer.Exit(max((error.exit_code for error in errors if error), default=0))


def answer(
    console: Console,
    place: StateRef,
    operation: str,
    *,
    backup: Backup | None = None,
    difference: Difference | None = None,
) -> None:
    """Say in JSON what `operation` did to the state of `place`."""
    from packer_fork.responses import Done
    from packer_fork.views.document import indented

    state = place.store.read()
    done = Done(
        operation=operation,
        template=place.folder.label,
        workspace=place.folder.workspace,
        serial=state.serial if state else 0,
        backup=backup,
        difference=difference,
    )
    console.say(indented(done))
