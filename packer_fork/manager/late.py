"""Late results: of a run whose lock was closed under it. Kept in a file, replayed when wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from packer_fork import durable
from packer_fork.codec.builds import decode_build
from packer_fork.errors import MALFORMED, StateError, UsageError
from packer_fork.events import Notice, Notify
from packer_fork.manager import given
from packer_fork.manager.changing import Command, changing
from packer_fork.manager.places import Place
from packer_fork.model import Build, Draft, Late, State
from packer_fork.packer.outcome import Outcome
from packer_fork.stores.base import Store

_MAX_FILE = 1 << 30


def keep(store: Store, outcome: Outcome, notify: Notify) -> None:
    """Write what a run came to into a file of its own, and tell how it gets into the state."""
    state = store.read()
    late = Late(
        lineage=state.lineage if state else "", run=outcome.run, builds=dict(outcome.builds)
    )
    path = store.logs / f"{outcome.run.number}-{outcome.run.tenure}.late.json"
    durable.replace(path, msgspec.json.encode(late))
    notify(
        Notice(
            level="error",
            text=f"The lock was closed while Packer ran; the results are kept in {path}.",
            hint=f"Bring them into the history with: packer-fork state replay {path}",
        )
    )


def replay(place: Place, path: Path, notify: Notify, *, environ: Mapping[str, str]) -> None:
    """Bring late results into the history; what was built since is not replaced.

    Raises UsageError for a file that is not of this state, LockedError, or StoreError.
    """
    late = _read(path)
    words = ("state", "replay", path.name)
    command = Command(operation="replay", words=words, environ=environ, recovers=False)
    with changing(place, command, notify) as tenure:
        draft = _draft(place.store.read(), late, path)
        tenure.commit(draft)
    path.rename(path.with_name(f"{path.name}.replayed"))
    taken = ", ".join(draft.builds) or "none: all were built again since"
    text = f"Run {late.run.number} is in the history; builds that it now stands for: {taken}."
    notify(Notice(level="info", text=text))


def _read(path: Path) -> Late:
    data = given.read(path, _MAX_FILE)
    try:
        return msgspec.json.decode(data, type=Late)
    except MALFORMED as error:
        raise UsageError(f"{path} holds no late results ({error}).") from error


def _draft(state: State | None, late: Late, path: Path) -> Draft:
    if state is None or state.lineage != late.lineage:
        raise StateError(
            f"{path} belongs to another state (lineage {late.lineage}).",
            hint="Name the template and workspace that it was built from.",
        )
    last = state.last_run
    return Draft(
        operation="replay",
        why=f"late results of run {late.run.number}",
        late=late,
        last_run=late.run if last and last.number == late.run.number else None,
        builds={name: build for name, build in late.builds.items() if _stands(state, build)},
    )


def _stands(state: State, build: Build) -> bool:
    """Whether nothing newer was built since."""
    known = state.builds.get(build.name)
    return known is None or decode_build(known).run <= build.run
