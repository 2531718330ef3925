"""The next change of a state, made from a pending one: number, time, link of the chain."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime

from msgspec import Raw

from packer_fork.changes import new_state
from packer_fork.codec.builds import check_build, check_depth, encode_build
from packer_fork.codec.witness import Witness
from packer_fork.model import REMOVED, Actor, Build, Change, PendingChange, Project, State, Template
from packer_fork.stores.archive.ownership import claimed


def first_state(template: str, workspace: str, project: Project | None = None) -> State:
    """An empty state of `project`, with a new lineage and a new key."""
    return new_state(
        lineage=str(uuid.uuid4()),
        key=os.urandom(32).hex(),
        template=claimed(Template(path=template), project),
        workspace=workspace,
    )


def last_of(state: State) -> Witness:
    """The high-water mark of `state`."""
    return Witness(state.serial, state.prev)


def change_of(draft: PendingChange, last: Witness, token: int, by: Actor) -> Change:
    """The change that follows `last`. Raises StateError for a document that no state may hold."""
    for build in draft.late.builds.values() if draft.late else ():
        check_depth(build)
    return Change(
        serial=last.serial + 1,
        id=uuid.uuid4().hex,
        at=datetime.now(UTC),
        token=token,
        by=by,
        operation=draft.operation,
        why=draft.why,
        run=_run_of(draft),
        builds={name: _document(name, build) for name, build in draft.builds.items()},
        inputs={name: REMOVED if raw is None else raw for name, raw in draft.inputs.items()},
        last_run=draft.last_run,
        items={item.key: item for item in draft.items},
        late=draft.late,
        gaps=draft.gaps,
        skip=draft.skip,
        template=draft.template,
        prev=last.digest,
    )


def _run_of(draft: PendingChange) -> int | None:
    """The number of the run that it is about."""
    if draft.last_run is not None:
        return draft.last_run.number
    return draft.items[0].run if draft.items else None


def _document(name: str, build: Build | Raw | None) -> Raw:
    if build is None:
        return REMOVED
    if not isinstance(build, Raw):
        return encode_build(build)
    check_build(name, build)
    return build
