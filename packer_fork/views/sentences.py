"""Events in the words of a person, one line each unless they list something."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from packer_fork import events
from packer_fork.locks import Verdict, advice, who
from packer_fork.model import Build, BuildStatus
from packer_fork.views import words

_LISTED = 3
"""What is not tracked, of which one line names so many."""


def planned(event: events.Planned) -> list[str]:
    """What will be built, and why; ``note`` says why no build is known by name."""
    if not event.builds:
        return [f"{event.template}: {event.note}"]
    todo = sum(build.action is events.Action.BUILD for build in event.builds)
    done = len(event.builds) - todo
    head = (
        f"{event.template}: {todo} to build, {done} up to date"
        if todo
        else (f"{event.template}: everything is up to date, nothing to build")
    )
    said = [head, *(f"  {_plan_line(build)}" for build in event.builds)]
    said += [f"  {event.note}"] if event.note else []
    return [*said, f"  {_not_tracked(event)}"] if event.untracked else said


def _not_tracked(event: events.Planned) -> str:
    listed = ", ".join(event.untracked[:_LISTED])
    more = len(event.untracked) - _LISTED
    shown = f"{listed} and {more} more" if more > 0 else listed
    return f"not tracked: {shown}; see `packer-fork inputs {shlex.quote(event.template)}`"


def _plan_line(build: events.BuildPlan) -> str:
    if build.result is None or build.action is events.Action.BUILD:
        return f"{build.name}: build ({'; '.join(build.reasons)})"
    parts = [*build.reasons]
    if build.result.ended:
        parts.append(words.age(build.result.ended))
    if build.expires:
        left = (build.expires - datetime.now(UTC)).total_seconds()
        parts.append(f"expires in {words.duration(left)}")
    made = ", ".join(a.id or a.string for a in build.result.artifacts if a.id or a.string)
    return f"{build.name}: up to date ({', '.join(parts)}){f': {made}' if made else ''}"


def hashing(event: events.Hashing) -> str:
    return f"hashing inputs: {words.size(event.done)} of {words.size(event.total)}"


def waiting(event: events.Waiting) -> str:
    left = words.duration(event.seconds_left)
    queue = f"{event.place} before us" if event.place else "next in the queue"
    said = [
        f"waiting up to {left} for the lock, {event.status.verdict} by {who(event.status)}",
        queue,
    ]
    said += [event.phase] if event.phase else []
    said += [advice(event.status)] if event.status.verdict is Verdict.ORPHANED else []
    said += [f"about {words.duration(event.eta)} to go"] if event.eta is not None else []
    return "; ".join(said)


def recovered(event: events.Recovered) -> str:
    builds = ", ".join(f"{build.name} {build.status}" for build in event.builds)
    return f"recovered run {event.run.number} from its log: {builds or event.run.status}"


def elsewhere(event: events.Elsewhere) -> str:
    build = event.build
    if not build.status.is_final:
        return f"{build.name}: begun by {build.by}"
    return f"{summary(build)} (by {build.by})"


def cancelling(event: events.Cancelling) -> str:
    if event.signals == 1:
        return (
            f"{event.signal}: Packer is told to stop and to clean up, "
            f"and killed if it still runs in {words.duration(event.kill_in)}"
        )
    if event.signals == 2:
        return (
            f"{event.signal}: Packer is still cleaning up; a third signal kills it "
            "and may leave instances behind"
        )
    return f"{event.signal}: killing Packer"


def summary(build: Build) -> str:
    """One build in one line: what became of it, how long it took, what came out."""
    took = ""
    if build.started and build.ended:
        took = f" in {words.duration((build.ended - build.started).total_seconds())}"
    result = ""
    if build.status is BuildStatus.COMPLETE:
        result = ", ".join(a.id or a.string for a in build.artifacts if a.id or a.string)
    elif build.error:
        result = build.error.splitlines()[0]
    return f"{build.name}: {build.status}{took}{f': {result}' if result else ''}"
