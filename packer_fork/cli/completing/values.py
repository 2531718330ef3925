"""What there is here and now of each thing that a command line names.

Of servers as of folders, but none is asked twice; see SECONDS for how long at the most.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from packer_fork.cli.completing.position import Candidate, Wanted

if TYPE_CHECKING:
    from packer_fork.events import Event
    from packer_fork.manager.state_ref import StateRef
    from packer_fork.responses import RunEntry

_MOST = 50
"""Of what a history has: the newest are those that are asked for."""

TEMPLATES = ("*.pkr.hcl", "*.json")
VARIABLES = ("*.hcl", "*.json")


class Files(NamedTuple):
    """That a shell shall complete files that match one of ``patterns``, and folders."""

    patterns: tuple[str, ...] = ()


class Offer(NamedTuple):
    candidates: tuple[Candidate, ...] = ()
    files: Files | None = None


def of(wanted: Wanted) -> Offer:
    """What the word may become. What no shell could take as one word is left out."""
    named = (f"{wanted.command} {wanted.value}", wanted.value)
    found = wanted.words if not wanted.value else _found(wanted, named)
    fitting = {
        each.text: each
        for each in found
        if each.text.startswith(wanted.text) and each.text.isprintable()
    }
    files = next((FILES[name] for name in named if name in FILES), None)
    return Offer(tuple(fitting.values()), files)


def _found(wanted: Wanted, named: Iterable[str]) -> Iterable[Candidate]:
    find = next((VALUES[name] for name in named if name in VALUES), _nothing)
    return find(wanted)


def _nothing(_: Wanted) -> Iterable[Candidate]:
    return ()


def _places(wanted: Wanted, *, everywhere: bool = False) -> list[StateRef]:
    """The states that the line speaks of so far; `everywhere`: whatever their workspace."""
    from packer_fork.cli import options

    given = {name: os.path.expanduser(value) for name, value in wanted.given.items()}  # noqa: PTH111
    state = given.get("state") or given.get("state_folder")
    workspace = None if everywhere else given.get("workspace")
    template = given.get("template")
    if wanted.command in WITHOUT_TEMPLATE and template and not os.path.exists(template):  # noqa: PTH110
        template = None
    return options.places(template, workspace, state, _silent, {"store_patience": 0})


def _silent(_: Event) -> None:
    """A warning has no place behind a TAB."""


def _of_each(
    wanted: Wanted, tell: Callable[[StateRef], Iterable[Candidate]]
) -> Iterator[Candidate]:
    """A state that is damaged or away does not keep the others from being told."""
    from packer_fork.errors import PackerForkError

    for place in _places(wanted):
        try:
            yield from tell(place)
        except PackerForkError:
            continue


def builds(wanted: Wanted) -> Iterator[Candidate]:
    from packer_fork.manager.state import show

    for shown in show.states(_places(wanted)):
        for build in show.builds(shown.state) if shown.state else ():
            yield Candidate(build.name, str(build.status))


def workspaces(wanted: Wanted) -> Iterator[Candidate]:
    from packer_fork.manager import state_ref

    for place in _places(wanted, everywhere=True):
        names = state_ref.workspaces(place) if "template" in wanted.given else ()
        for name in (*names, place.folder.workspace):
            yield Candidate(name)


def locks(wanted: Wanted) -> Iterator[Candidate]:
    return _of_each(wanted, _locks)


def _locks(place: StateRef) -> Iterator[Candidate]:
    from packer_fork.locks import Status, who

    status = place.store.status()
    if status.status is not Status.FREE:
        yield Candidate(status.id, f"{status.status}, {place.folder.label}: {who(status)}")
    for each in status.participants if len(status.participants) > 1 else ():
        text = f"{each.status}, one of several: {each.participant.holder.by}"
        yield Candidate(each.participant.id, text)


def runs(wanted: Wanted) -> Iterator[Candidate]:
    return _of_each(wanted, lambda place: map(_run, _runs(place)))


def _runs(place: StateRef) -> Iterator[RunEntry]:
    from packer_fork.manager.state import history as manager

    return islice(manager.runs(place.store, manager.RunFilter()), _MOST)


def _run(entry: RunEntry) -> Candidate:
    from packer_fork.views import words

    names = ", ".join(each.name for each in entry.builds)
    return Candidate(
        str(entry.run.number), f"{entry.run.status} {words.age(entry.run.started)}: {names}"
    )


def branches(wanted: Wanted) -> Iterator[Candidate]:
    return _of_each(wanted, _branches)


def _branches(place: StateRef) -> Iterator[Candidate]:
    return (Candidate(each.run.git.branch) for each in _runs(place) if each.run.git)


def serials(wanted: Wanted) -> Iterator[Candidate]:
    return _of_each(wanted, _serials)


def _serials(place: StateRef) -> Iterator[Candidate]:
    from packer_fork.manager.state import history
    from packer_fork.views import words

    for change in islice(history.changes(place.store), _MOST):
        run = f", run {change.run}" if change.run else ""
        yield Candidate(str(change.serial), f"{change.operation}{run}, {words.age(change.at)}")


def points(wanted: Wanted) -> Iterator[Candidate]:
    yield from serials(wanted)
    for each in runs(wanted):
        yield Candidate(f"run:{each.text}", each.about)


def backups(wanted: Wanted) -> Iterator[Candidate]:
    return _of_each(wanted, _backups)


def _backups(place: StateRef) -> Iterator[Candidate]:
    from packer_fork.views import words

    for each in reversed(place.store.backups()):
        about = f"serial {each.serial}, {each.reason}, {words.age(each.at)}"
        yield Candidate(each.path, about)


def restorable(wanted: Wanted) -> Iterator[Candidate]:
    yield from points(wanted)
    yield from backups(wanted)


def instances(wanted: Wanted) -> Iterator[Candidate]:
    return _of_each(wanted, _instances)


def _instances(place: StateRef) -> Iterator[Candidate]:
    from packer_fork.manager.build import leftovers

    state = place.store.read()
    for build, instance in leftovers.of_state(state) if state else ():
        yield Candidate(instance.id, f"{build}: {leftovers.describe(instance)}")


def statuses(_: Wanted) -> Iterator[Candidate]:
    from packer_fork.model import BuildStatus, RunStatus

    return map(Candidate, sorted({str(each) for each in (*BuildStatus, *RunStatus)}))


def variables(_: Wanted) -> Iterator[Candidate]:
    return map(Candidate, sorted(os.environ))


def on_error(_: Wanted) -> Iterator[Candidate]:
    from packer_fork.packer.flags import ON_ERROR

    return map(Candidate, ON_ERROR)


def the_shells(_: Wanted) -> Iterator[Candidate]:
    from packer_fork.cli.completion import Shell

    return map(Candidate, Shell)


def topics(_: Wanted) -> Iterator[Candidate]:
    from packer_fork.cli.help import TOPICS

    return (Candidate(name, group) for group, names in TOPICS.items() for name in names)


WITHOUT_TEMPLATE = frozenset({"state diff", "state restore", "state rollback"})
"""Commands whose first word may be another argument, as TEMPLATE may be left out."""

VALUES: Mapping[str, Callable[[Wanted], Iterable[Candidate]]] = {
    "build": builds,
    "-only": builds,
    "-except": builds,
    "workspace": workspaces,
    "lock_id": locks,
    "run": runs,
    "serial": serials,
    "state diff template": points,
    "before": points,
    "after": points,
    "state restore template": restorable,
    "state restore source": restorable,
    "state rollback template": restorable,
    "state rollback source": restorable,
    "branch": branches,
    "instance": instances,
    "status": statuses,
    "input_env": variables,
    "-on-error": on_error,
    "shell": the_shells,
    "topic": topics,
}
"""By the name of the parameter, which for some commands stands behind theirs."""

FILES: Mapping[str, Files] = {
    "template": Files(TEMPLATES),
    "-var-file": Files(VARIABLES),
    "state": Files(),
    "state_folder": Files(),
    "state migrate to": Files(),
    "state backup to": Files(("*",)),
    "state restore template": Files(("*",)),
    "state restore source": Files(("*",)),
    "state rollback template": Files(("*",)),
    "state rollback source": Files(("*",)),
    "state push template": Files(("*",)),
    "state import template": Files(("*",)),
    "file": Files(("*",)),
    "html": Files(("*",)),
    "manifest": Files(("*",)),
    "textfile": Files(("*",)),
    "inputs": Files(("*",)),
}
