"""What earlier runs built is kept with each build, so that a new run does not forget it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import structs

from packer_fork.codec.builds import decode_build
from packer_fork.model import Build, BuildStatus, Result, State, possibly_left

KEPT = 20
"""Complete results that are kept of each build, besides its last run's."""


def carried_over(
    builds: Mapping[str, Build],
    state: State | None,
    *,
    directory: str,
    inputs: str,
    observed: str = "",
) -> dict[str, Build]:
    """`builds` at their beginning, each with `inputs` and what the runs before completed."""
    before = state.builds if state else {}
    return {
        name: _continued(
            structs.replace(build, directory=directory, inputs=inputs, observed=observed),
            before.get(name),
        )
        for name, build in builds.items()
    }


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
