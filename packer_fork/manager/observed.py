"""Observations in a state: what runs were seen to read, against what is there now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from packer_fork import host
from packer_fork.codec.builds import decode_build
from packer_fork.inputs.collect import Declared
from packer_fork.inputs.observation import Names, Observation, Project, differences
from packer_fork.inputs.recording import Past
from packer_fork.malformed import MALFORMED
from packer_fork.model import Build, Result, State


def project_of(declared: Declared, key: str, states: Path) -> Project:
    """The checkout that `declared` was found in; nothing in the folder `states` counts."""
    own = str(states.resolve())

    def is_ignored(path: str) -> bool:
        if path in declared.loaded or declared.is_ignored(path):
            return True
        return path == own or path.startswith(f"{own}/")

    return Project(declared.root, bytes.fromhex(key), declared.cache, is_ignored)


def stored(state: State | None, digest: str) -> Observation | None:
    """The observation of that digest, if the state has it."""
    raw = state.inputs.get(digest) if state else None
    try:
        return None if raw is None else msgspec.json.decode(raw, type=Observation)
    except MALFORMED:
        return None


def digests_of(build: Build) -> Iterator[str]:
    """Of all observations that a build rests on, the last run's first."""
    found = (build.observed, *(result.observed for result in reversed(build.results)))
    return (digest for digest in found if digest)


def past(state: State | None) -> Past:
    """What runs are known to have written, whichever build they were of."""
    builds = [decode_build(raw) for raw in state.builds.values()] if state else []
    every = {digest for build in builds for digest in digests_of(build)}
    known = {digest: found for digest in every if (found := stored(state, digest)) is not None}
    last = {digest for build in builds for digest in [*digests_of(build)][:2]}
    products = Names(_all(each.products for each in known.values()))
    written = Names(_all(known[digest].written for digest in last & known.keys()))
    return Past(products, written, products | Names(_all(e.written for e in known.values())))


def _all(several: Iterable[tuple[str, ...]]) -> set[str]:
    return {name for names in several for name in names}


class Comparison(Struct, frozen=True):
    """Asks of results whether what their runs read is still the same.

    `is_off`: reads do not count, by the setting; what changed during a run does.
    """

    state: State | None
    project: Project
    is_off: bool
    made: Names

    def problems(self, result: Result) -> Iterator[str]:
        """Why what a run read does not equal now, in sentences; nothing if it does."""
        if not result.observed:
            return
        observation = stored(self.state, result.observed)
        if observation is None:
            yield from () if self.is_off else (f"what run {result.run} read is not known",)
            return
        if self.is_off:
            if observation.status == "incomplete":
                return
            observation = structs.replace(observation, reads={}, listings={}, folders={})
        here = host.this_actor().host
        yield from differences(observation, result.run, self.project, self.made, here)


def comparison(state: State | None, project: Project, *, is_off: bool) -> Comparison:
    return Comparison(state, project, is_off, past(state).made)
