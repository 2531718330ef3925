"""The document of a run: how it begins, and what it comes to by its work items. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct, structs

from packer_fork.codec.builds import decode_build
from packer_fork.manager.build import results
from packer_fork.model import Build, BuildStatus, Run, RunStatus, State, WorkItem
from packer_fork.packer import outcome
from packer_fork.packer.outline import BuildOutline

_WORST_FIRST = (
    RunStatus.INTERRUPTED,
    RunStatus.FAILED,
    RunStatus.UNVERIFIED,
    RunStatus.CANCELLED,
    RunStatus.COMPLETE,
)


class Concluded(Struct, frozen=True):
    """A run with its builds, all of which have an end. ``changed``: those that had none before."""

    run: Run
    builds: tuple[Build, ...]
    changed: dict[str, Build]


def pending_builds(
    run: Run, outlines: Iterable[BuildOutline], state: State | None
) -> dict[str, Build]:
    """The builds of a run that begins, before any work item begins them."""
    builds = {each.name: outcome.pending_build(each, run.number) for each in outlines}
    return results.carried_over(builds, state, directory=run.directory, inputs=run.inputs)


def run_of(state: State | None, number: int) -> Run | None:
    """The document of that run, while no later one has begun."""
    last = state.last_run if state else None
    return last if last is not None and last.number == number else None


def unfinished_run(state: State | None) -> Run | None:
    """The run that nobody has concluded yet."""
    last = state.last_run if state else None
    return last if last is not None and last.status is RunStatus.RUNNING else None


def unfinished_items(state: State | None) -> tuple[WorkItem, ...]:
    """The work items without a recorded end, the oldest first."""
    found = state.items.values() if state else ()
    running = (item for item in found if item.status is RunStatus.RUNNING)
    return tuple(sorted(running, key=lambda item: item.number))


def builds_of(state: State | None, number: int, names: Iterable[str]) -> dict[str, Build]:
    """The builds of run `number` as they stand: `names` first, then those that Packer found."""
    known = state.builds if state else {}
    items = state.items.values() if state else ()
    found = (name for item in items if item.run == number for name in item.sources)
    every = dict.fromkeys((*names, *found))
    builds = (decode_build(known[name]) for name in every if name in known)
    return {build.name: build for build in builds if build.run == number}


def add_newer(builds: dict[str, Build], build: Build) -> None:
    """Put `build` among `builds` of the same run, unless a later item built it."""
    known = builds.get(build.name)
    if known is None or known.item <= build.item:
        builds[build.name] = build


def concluded(
    run: Run,
    items: Iterable[WorkItem],
    builds: Iterable[Build],
    at: datetime,
    why: str = "",
    left: BuildStatus = BuildStatus.CANCELLED,
) -> Concluded:
    """The status on `run`, once no item of it is under way.

    `left`: the status of builds that no item has begun, and of a run that began no item. `why` is
    told where the run is not complete. What a later item made good does not count.
    """
    before = tuple(builds)
    ended = tuple(_ended(build, at, left) for build in before)
    counting = [item for item in items if not _is_made_good(item, ended)]
    statuses = {item.status for item in counting}
    statuses |= {RunStatus(build.status) for build in ended if not build.item}
    status = next((each for each in _WORST_FIRST if each in statuses), RunStatus(left))
    codes = [-1 if item.exit_code is None else item.exit_code for item in counting]
    errors = (item.error for item in counting if item.error)
    whole = structs.replace(
        run,
        status=status,
        ended=at,
        builds=tuple(build.name for build in ended),
        exit_code=None if -1 in codes else max(codes, default=None),
        error="" if status is RunStatus.COMPLETE else why or next(errors, ""),
    )
    changed = {b.name: b for b, old in zip(ended, before, strict=True) if b is not old}
    return Concluded(whole, ended, changed)


def _ended(build: Build, at: datetime, left: BuildStatus) -> Build:
    """A build that no item has begun has changed nothing, so that an earlier result counts on."""
    if build.status.is_final:
        return build
    evidence = structs.replace(build.evidence, never_started=not build.item)
    return structs.replace(build, status=left, ended=at, evidence=evidence)


def _is_made_good(item: WorkItem, builds: Iterable[Build]) -> bool:
    """Whether later items built again all that `item` did not complete."""
    if item.status is RunStatus.COMPLETE:
        return False
    own = [build for build in builds if build.name in item.sources]
    later = [build for build in own if build.item > item.number]
    return bool(later) and all(
        build.status is BuildStatus.COMPLETE for build in own if build not in later
    )
