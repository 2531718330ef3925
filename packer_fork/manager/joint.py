"""The documents of a run that many machines share: its beginning, and its end. No I/O."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, structs

from packer_fork.codec.builds import decode_build
from packer_fork.errors import EXIT_DONE, EXIT_PACKER_FAILED
from packer_fork.manager import results
from packer_fork.model import Build, BuildStatus, Run, RunStatus, State
from packer_fork.packer import outcome
from packer_fork.packer.outline import BuildOutline


class Ended(Struct, frozen=True):
    """What a shared run came to. ``changed``: builds that had no end before."""

    run: Run
    builds: tuple[Build, ...]
    changed: dict[str, Build]


def pending(
    run: Run, names: tuple[str, ...], outlines: tuple[BuildOutline, ...], state: State
) -> dict[str, Build]:
    """The builds of these names before anybody has taken them."""
    chosen = (each for each in outlines if each.name in names)
    return results.carried_over(outcome.begin(run, chosen), state, run.inputs).builds


def run_of(state: State | None, number: int) -> Run | None:
    """The document of the whole run, while no later one has begun."""
    last = state.last_run if state else None
    return last if last is not None and last.number == number else None


def builds_now(state: State | None, number: int) -> tuple[Build, ...]:
    """The builds of that run as they stand, in its order."""
    run = run_of(state, number)
    return _builds(run.builds, number, state) if run else ()


def _builds(names: tuple[str, ...], number: int, state: State | None) -> tuple[Build, ...]:
    known = state.builds if state else {}
    found = (decode_build(known[name]) for name in names if name in known)
    return tuple(build for build in found if build.run == number)


def ended(run: Run, names: tuple[str, ...], state: State | None, at: datetime, why: str) -> Ended:
    """The verdict on the whole, when no part is under way any more.

    `names`: of its builds. Those that nobody has ended are cancelled. `why` is told where it is
    not complete.
    """
    before = _builds(names, run.number, state)
    builds = tuple(_ended(build, at) for build in before)
    status = _verdict({build.status for build in builds})
    whole = structs.replace(
        run,
        status=status,
        ended=at,
        builds=tuple(build.name for build in builds),
        exit_code=EXIT_DONE if status is RunStatus.COMPLETE else EXIT_PACKER_FAILED,
        error=why if status is not RunStatus.COMPLETE else "",
    )
    changed = {b.name: b for b, old in zip(builds, before, strict=True) if b is not old}
    return Ended(whole, builds, changed)


def _ended(build: Build, at: datetime) -> Build:
    if build.status.is_final:
        return build
    return structs.replace(build, status=BuildStatus.CANCELLED, ended=at)


def _verdict(statuses: set[BuildStatus]) -> RunStatus:
    """The worst of what builds came to."""
    if statuses <= {BuildStatus.COMPLETE}:
        return RunStatus.COMPLETE
    if BuildStatus.INTERRUPTED in statuses:
        return RunStatus.INTERRUPTED
    if statuses <= {BuildStatus.COMPLETE, BuildStatus.CANCELLED}:
        return RunStatus.CANCELLED
    return RunStatus.FAILED
