"""The difference between two states of one template, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from packer_fork.codec.builds import decode_once
from packer_fork.inputs.record import Inputs, TemplateInputs, difference
from packer_fork.malformed import MALFORMED
from packer_fork.model import Artifact, Build, State
from packer_fork.responses import BuildDifference, Difference


def between(before: State, after: State) -> Difference:
    names = dict.fromkeys((*before.builds, *after.builds))
    found = (_build_difference(name, before, after) for name in names)
    return Difference(
        before=before.serial,
        after=after.serial,
        builds=tuple(each for each in found if each is not None),
    )


def _build_difference(name: str, before: State, after: State) -> BuildDifference | None:
    old, new = before.builds.get(name), after.builds.get(name)
    if old == new:
        return None
    if old is None or new is None:
        return _one_sided(name, old, new)
    what = tuple(_build_changes(decode_once(old), decode_once(new), before, after))
    return BuildDifference(name=name, kind="changed", what=what or ("details",))


def _one_sided(name: str, old: msgspec.Raw | None, new: msgspec.Raw | None) -> BuildDifference:
    if new is not None:
        return BuildDifference(name=name, kind="added", what=(str(decode_once(new).status),))
    was = f"was {decode_once(old).status}" if old is not None else ""
    return BuildDifference(name=name, kind="removed", what=(was,))


def _build_changes(old: Build, new: Build, before: State, after: State) -> Iterator[str]:
    if old.status != new.status:
        yield f"{old.status} -> {new.status}"
    if old.run != new.run:
        yield f"run {old.run} -> {new.run}"
    before_ids, after_ids = _artifact_ids(old.artifacts), _artifact_ids(new.artifacts)
    if before_ids != after_ids:
        yield f"artifacts {before_ids or '-'} -> {after_ids or '-'}"
    elif old.artifacts != new.artifacts:
        yield "artifact contents changed"
    if old.inputs != new.inputs:
        yield from _input_build_changes(old, before, new, after)
    if old.error != new.error and new.error:
        yield f"error: {new.error.splitlines()[0]}"


def _input_build_changes(old: Build, before: State, new: Build, after: State) -> Iterator[str]:
    known = _inputs(before, old), _inputs(after, new)
    if known[0] is None or known[1] is None:
        yield "inputs changed"
    else:
        yield from difference(known[0], known[1])


def _inputs(state: State, build: Build) -> Inputs | None:
    raw = state.inputs.get(build.inputs)
    try:
        found = None if raw is None else msgspec.json.decode(raw, type=TemplateInputs)
    except MALFORMED:
        return None
    return found.of(build.name) if found else None


def _artifact_ids(artifacts: tuple[Artifact, ...]) -> str:
    return ", ".join(dict.fromkeys(a.id or a.string for a in artifacts if a.id or a.string))
