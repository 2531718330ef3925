"""Observations in a state: what runs were seen to read, against what is there now."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import msgspec
from msgspec import structs

from packer_fork import host
from packer_fork.codec.builds import decode_build
from packer_fork.inputs.declared import Declared
from packer_fork.inputs.observation import Names, Observation, Past, Project, differences
from packer_fork.malformed import MALFORMED
from packer_fork.model import Build, Result, State

_WHOLE_SECOND = 1.0
"""Packer tells times in whole seconds."""


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


def past(state: State | None, root: Path | None = None) -> Past:
    """What runs are known to have written, whichever build they were of.

    `root`: of the project, whose files are no products once written since the last run.
    """
    builds = [decode_build(raw) for raw in state.builds.values()] if state else []
    digests = {digest for build in builds for digest in digests_of(build)}
    known = {digest: found for digest in digests if (found := stored(state, digest)) is not None}
    last = {digest for build in builds for digest in [*digests_of(build)][:2]}
    every = _all(each.products for each in known.values())
    products = Names(every if root is None else sorted(products_of(state, root)))
    written = Names(_all(known[digest].written for digest in last & known.keys()))
    unsettled = Names(_all(known[digest].unsettled for digest in last & known.keys()))
    made = products | Names(_all(each.written for each in known.values()))
    return Past(products, written, made, unsettled)


def products_of(state: State | None, root: Path) -> frozenset[str]:
    """Names of the files that were born in runs, as the last of each build knows them.

    One that was written since the last run ended is no longer what a run made of it: it may be
    a user's own, saved while a build ran, and edited since.
    """
    found: set[str] = set()
    for build in map(decode_build, state.builds.values() if state else ()):
        observation = stored(state, next(digests_of(build), ""))
        ends = (build.ended, *(result.ended for result in build.results))
        ended = max((each.timestamp() for each in ends if each), default=math.inf)
        if observation is not None:
            moment = ended + _WHOLE_SECOND
            found.update(n for n in observation.products if not _is_newer(root / n, moment))
    return frozenset(found)


def _is_newer(path: Path, moment: float) -> bool:
    """Whether it is a file written after `moment`, in seconds since 1970."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_mtime > moment


def _all(several: Iterable[tuple[str, ...]]) -> set[str]:
    return {name for names in several for name in names}


class Comparison:
    """Asks of results whether what their runs read is still the same."""

    def __init__(self, state: State | None, project: Project, *, is_off: bool) -> None:
        """`is_off`: reads do not count, by the setting; what changed during a run does."""
        self._state = state
        self._project = project
        self._is_off = is_off
        self._host = host.this_actor().host
        self._known: dict[tuple[int, str], tuple[str, ...]] = {}

    def problems(self, result: Result) -> tuple[str, ...]:
        """Why what a run read does not equal now, in sentences; empty if it does."""
        key = (result.run, result.observed)
        if key not in self._known:
            self._known[key] = tuple(self._problems(result)) if result.observed else ()
        return self._known[key]

    def _problems(self, result: Result) -> Iterator[str]:
        observation = stored(self._state, result.observed)
        if observation is None:
            yield from () if self._is_off else (f"what run {result.run} read is not known",)
            return
        if self._is_off:
            if observation.status == "incomplete":
                return
            observation = structs.replace(observation, reads={}, listings={}, folders={})
        yield from differences(
            observation, result.run, self._project, lambda: self._made, self._host
        )

    @cached_property
    def _made(self) -> Names:
        return past(self._state).made
