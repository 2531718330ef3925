"""What earlier runs built is kept with each build, so that a new run does not forget it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from packer_fork.codec.builds import decode_build
from packer_fork.model import Build, BuildStatus, Result, State, possibly_left

if TYPE_CHECKING:
    from packer_fork.packer.outcome import Outcome

KEPT = 20
"""Complete results that are kept of each build, besides its last run's."""


def carried_over(outcome: Outcome, state: State | None, inputs: str, observed: str = "") -> Outcome:
    """`outcome` at its beginning, each build with `inputs` and what the runs before completed."""
    before, directory = state.builds if state else {}, outcome.run.directory
    builds = {
        name: _continued(
            structs.replace(build, directory=directory, inputs=inputs, observed=observed),
            before.get(name),
        )
        for name, build in outcome.builds.items()
    }
    return structs.replace(outcome, builds=builds)


def in_part(outcome: Outcome) -> Outcome:
    """The same, with each build told which part of a shared run it is of, and whose."""
    run = outcome.run
    builds = {
        name: structs.replace(build, part=run.part, by=run.by)
        for name, build in outcome.builds.items()
    }
    return structs.replace(outcome, builds=builds)


def _continued(build: Build, raw: msgspec.Raw | None) -> Build:
    if raw is None:
        return build
    before = decode_build(raw)
    return structs.replace(
        build,
        results=complete(before),
        leftovers=possibly_left(before),
        revoked=before.revoked,
    )


def complete(build: Build) -> tuple[Result, ...]:
    """Every complete run of `build` that is known and was not revoked, the newest last."""
    return tuple(result for result in _complete(build) if str(result.run) not in build.revoked)


def _complete(build: Build) -> tuple[Result, ...]:
    if build.status is not BuildStatus.COMPLETE:
        return build.results
    last = Result(
        run=build.run,
        started=build.started,
        ended=build.ended,
        directory=build.directory,
        inputs=build.inputs,
        observed=build.observed,
        artifacts=build.artifacts,
    )
    return (*build.results, last)[-KEPT:]
