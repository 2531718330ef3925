"""How a state changes: pure functions from state to state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import structs

from packer_fork.model import (
    FORMAT_VERSION,
    REMOVED,
    Change,
    Run,
    SegmentRef,
    State,
    Template,
    WorkItem,
)


def new_state(*, lineage: str, key: str, template: Template, workspace: str) -> State:
    """The empty state, serial 0, that a first change is applied to."""
    return State(
        version=FORMAT_VERSION,
        serial=0,
        lineage=lineage,
        template=template,
        workspace=workspace,
        key=key,
        builds={},
        prev=root_of(lineage),
    )


def root_of(lineage: str) -> str:
    """What the first change names as the one before it, so that no other state's can follow."""
    return hashlib.sha256(lineage.encode()).hexdigest()


def follows(change: Change, serial: int, token: int) -> bool:
    """Whether `change` may come next after that serial, written last by that token."""
    return change.serial == serial + 1 and change.token >= token


def apply_changes(state: State, changes: Iterable[tuple[Change, str]]) -> State:
    """The state after `changes`, each given with the digest of its stored line.

    Raises ValueError at the first that does not follow: a wrong serial or
    predecessor, or a token older than one that has already written.
    """
    builds, inputs = dict(state.builds), dict(state.inputs)
    items, run, template = dict(state.items), state.last_run, state.template
    gaps: Mapping[str, SegmentRef | None] = state.gaps
    serial, token, prev = state.serial, state.token, state.prev
    for change, digest in changes:
        if not follows(change, serial, token):
            came, last = f"{change.serial} (token {change.token})", f"{serial} ({token})"
            msg = f"serial {came} does not follow {last}"
            raise ValueError(msg)
        _update(builds, change.builds)
        _update(inputs, change.inputs)
        run = _begun(items, run, change.last_run)
        items |= {key: item for key, item in change.items.items() if run and item.run == run.number}
        template = change.template or template
        gaps = gaps if change.gaps is None else change.gaps
        serial, token, prev = change.serial, change.token, digest
    return structs.replace(
        state,
        serial=serial,
        token=token,
        builds=builds,
        inputs=inputs,
        last_run=run,
        items=items,
        template=template,
        gaps=dict(gaps),
        prev=prev,
    )


def steps(
    now: Mapping[str, msgspec.Raw], wanted: Mapping[str, msgspec.Raw]
) -> dict[str, msgspec.Raw | None]:
    """What makes `wanted` of `now`: documents that differ, and None for those that go."""
    gone: dict[str, msgspec.Raw | None] = dict.fromkeys(now.keys() - wanted.keys())
    return gone | {name: raw for name, raw in wanted.items() if now.get(name) != raw}


def _update(documents: dict[str, msgspec.Raw], changes: dict[str, msgspec.Raw]) -> None:
    for name, document in changes.items():
        if document == REMOVED:
            documents.pop(name, None)
        else:
            documents[name] = document


def _begun(items: dict[str, WorkItem], known: Run | None, run: Run | None) -> Run | None:
    """The run with the highest number; the items of an earlier one are let go of."""
    if run is None or (known is not None and known.number > run.number):
        return known
    if known is None or known.number < run.number:
        items.clear()
    return run
