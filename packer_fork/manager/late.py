"""Late results: of a run whose lock or store was gone at its end, on their way into the state."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import structs

from packer_fork.codec.builds import decode_build
from packer_fork.errors import PackerForkError, StateError, UsageError
from packer_fork.events import Notice, Notify
from packer_fork.malformed import MALFORMED
from packer_fork.manager import outbox
from packer_fork.manager.state import history, user_file
from packer_fork.manager.state_ref import StateRef as Place
from packer_fork.model import Build, Draft, Late, Run, State
from packer_fork.stores.base import Store, Tenure

_MAX_FILE = 1 << 30


def replay_waiting(place: Place, tenure: Tenure, notify: Notify) -> None:
    """Bring in what waits in the outbox, under a tenure that is held already.

    What is of another lineage stays where it is, and is told.
    """
    for path in outbox.waiting(place.outbox) if place.outbox else ():
        try:
            late = read(path)
            draft = draft_of(place.store, late, path)
        except PackerForkError as error:
            notify(Notice(level="warning", text=error.message, hint=error.hint))
        else:
            bring_in(tenure, path, late, draft, notify)


def bring_in(tenure: Tenure, path: Path, late: Late, draft: Draft | None, notify: Notify) -> None:
    """Commit `draft`, if there is anything to commit: then the file is done with."""
    text = f"Run {late.run.key} is in the history already."
    if draft is not None:
        tenure.commit(draft)
        taken = ", ".join(draft.builds) or "none: all were built again since"
        text = f"Run {late.run.key} is in the history; builds that it now stands for: {taken}."
    outbox.done(path)
    notify(Notice(level="info", text=text))


def read(path: Path) -> Late:
    """Raises UsageError for a file that holds none."""
    data = user_file.read(path, _MAX_FILE)
    try:
        return msgspec.json.decode(data, type=Late)
    except MALFORMED as error:
        raise UsageError(f"{path} holds no late results ({error}).") from error


def draft_of(store: Store, late: Late, path: Path) -> Draft | None:
    """The change that brings `late` in, where what was built since is not replaced.

    None if it is in the history already: results may come in a file, and on stdout. Raises
    StateError if it is of another state. `path` is only for the message.
    """
    state = store.read()
    if state is None or state.lineage != late.lineage:
        raise StateError(
            f"{path} belongs to another state (lineage {late.lineage}).",
            hint="Name the template and workspace that it was built from.",
        )
    if _is_known(store, late.run):
        return None
    last = state.last_run
    return Draft(
        operation="replay",
        why=f"late results of run {late.run.key}",
        late=structs.replace(late, inputs={}),
        last_run=late.run if last and last.key == late.run.key else None,
        builds={name: build for name, build in late.builds.items() if _stands(state, build)},
        inputs=late.inputs,
    )


def _is_known(store: Store, run: Run) -> bool:
    for change in history.changes(store):
        if change.late is not None and change.late.run == run:
            return True
        if change.operation == "start" and change.run == run.number:
            return False
    return False


def _stands(state: State, build: Build) -> bool:
    """Whether nothing newer was built since."""
    raw = state.builds.get(build.name)
    known = decode_build(raw) if raw is not None else build
    return (known.run, known.part) <= (build.run, build.part)
