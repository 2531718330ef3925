"""What became of builds and work item, once Packer has ended. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct, structs

from packer_fork.model import Build, BuildStatus, Evidence, RunStatus, Step, StepStatus, WorkItem
from packer_fork.packer import diagnostics, steps
from packer_fork.packer.proof import bounded, without_artifacts

Ended = Literal["normal", "cancelled", "interrupted"]
"""By itself, after we cancelled it, or by something that killed it, or us."""

NOTHING_BUILT = "Nothing was built: -only matched no build, or -except left none."

_NOTHING_TO_RUN = "Error: No builds to run"
"""Packer's own words for it, from 1.8.4 on; before, it just succeeds."""


class End(Struct, frozen=True):
    """When and how Packer ended; the exit code is None if nobody saw it."""

    at: datetime
    exit_code: int | None
    how: Ended

    def is_cancel(self, item: WorkItem) -> bool:
        """A cancel that came after the closing line has changed nothing."""
        return item.cancelled or (self.how == "cancelled" and not item.closed)

    def is_interruption(self, item: WorkItem) -> bool:
        """Packer was cut off: one that ends by itself closes its output, or tells why it fails."""
        return not item.closed and (self.how == "interrupted" or not self.exit_code)


def never_was(build: Build, item: WorkItem, end: End) -> bool:
    """Whether the output, told to its end, has nothing of this build: it has another name.

    Every build that begins gets its last line before the closing one; one that cannot
    even begin makes Packer fail.
    """
    if not item.closed or build.status.is_final or build.evidence != Evidence():
        return False
    return build.started is not None or end.exit_code == 0


def build_concluded(build: Build, item: WorkItem, end: End, causes: Sequence[str] = ()) -> Build:
    """`build` with its final status; one that is final already stays as it is.

    `causes`: the errors of Packer that may be about this build.
    """
    is_listed = end.exit_code is not None or build.makes_no_artifact
    if item.closed and is_listed and not end.is_cancel(item):
        build = without_artifacts(build, item)
    if build.status.is_final:
        return build
    if build.evidence.finished:
        status, error = BuildStatus.UNVERIFIED, _unproven(build, item)
    else:
        status, error = _unfinished(build, item, end, causes)
    never_started = status is BuildStatus.FAILED and _never_started(build, item, end, causes)
    return structs.replace(
        steps.cut_short(build, end.at),
        status=status,
        ended=build.ended or end.at,
        error=bounded(error),
        evidence=structs.replace(build.evidence, never_started=never_started),
    )


def _never_started(build: Build, item: WorkItem, end: End, causes: Sequence[str]) -> bool:
    """Whether Packer, which ended by itself, proves that it began nothing of `build`.

    A build that begins has its last line before the closing one. Without that one Packer refused
    the template, and exits 1; a Packer that crashes exits with another code.
    """
    return build.started is None and (item.closed or (end.exit_code == 1 and bool(causes)))


def _unproven(build: Build, item: WorkItem) -> str:
    """Why a build that has finished is not complete, and what to look for."""
    evidence = build.evidence
    if evidence.artifacts_empty:
        return (
            "Packer lists an artifact without builder, ID and files: the plugin process that made "
            "it died after the build had finished, often for want of memory. "
            f"{_look_for(build)}"
        )
    if item.closed and not build.artifacts and evidence.artifacts_ended == evidence.artifact_count:
        return (
            "Packer said that it had finished, but lists no artifact, and the template does not "
            f"say that none is made. {_look_for(build)}"
        )
    return "Packer said that it had finished, but did not tell all of its artifacts."


def _look_for(build: Build) -> str:
    """What may be there although nothing is on record of it."""
    kind = f"{build.type} " * bool(build.type)
    return (
        f"Look for the image or the files that the {kind}source {build.name!r} names, and remove "
        "what is not wanted: the next build makes them again."
    )


def _unfinished(
    build: Build, item: WorkItem, end: End, causes: Sequence[str]
) -> tuple[BuildStatus, str]:
    """Status and error of a build whose end Packer did not tell."""
    if end.is_cancel(item):
        return BuildStatus.CANCELLED, ""
    if end.is_interruption(item):
        return BuildStatus.INTERRUPTED, "Packer was cut off before this source was done."
    if build.started is not None:
        return BuildStatus.FAILED, "Packer ended before this source was done."
    return BuildStatus.FAILED, _why_never_started(causes)


def _why_never_started(causes: Sequence[str]) -> str:
    """The last cause on the first line, then all of them in Packer's words."""
    if not causes:
        return "Packer never started this source, and gives no reason."
    every = "\n\n".join(causes)
    return f"Packer never started this source: {diagnostics.headline(causes[-1])}\n\n{every}"


def item_concluded(item: WorkItem, builds: Collection[Build], end: End) -> WorkItem:
    """`item` with its final status; `builds` are its own, concluded."""
    is_whole = bool(builds) and all(b.status is BuildStatus.COMPLETE for b in builds)
    error = item.error
    if is_whole and not end.exit_code:
        status, error = RunStatus.COMPLETE, ""
    elif end.is_cancel(item):
        status = RunStatus.CANCELLED
    elif end.is_interruption(item):
        status = RunStatus.INTERRUPTED
        error = error or "Packer was cut off before it had told how its builds went."
    else:
        status = RunStatus.FAILED
        error = _failure(item, builds, end, is_whole=is_whole)
    return structs.replace(
        item, status=status, ended=end.at, exit_code=end.exit_code, error=bounded(error)
    )


_UNSEEN = "Packer ran on the terminal itself: what it said is not on record."


def build_unseen(build: Build, end: End) -> Build:
    """`build` of a Packer whose output nobody saw."""
    statuses = {"cancelled": BuildStatus.CANCELLED, "interrupted": BuildStatus.INTERRUPTED}
    return structs.replace(
        build,
        status=statuses.get(end.how, BuildStatus.UNVERIFIED),
        ended=end.at,
        provisioners=_unknown(build.provisioners),
        post_processors=_unknown(build.post_processors),
        error=_UNSEEN,
    )


def _unknown(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(structs.replace(step, status=StepStatus.UNKNOWN) for step in steps)


def item_unseen(item: WorkItem, end: End) -> WorkItem:
    """`item` of a Packer whose output nobody saw: its exit code is all there is."""
    status, error = RunStatus.UNVERIFIED, ""
    if end.how == "cancelled":
        status = RunStatus.CANCELLED
    elif end.how == "interrupted":
        status, error = RunStatus.INTERRUPTED, "Packer was killed on the terminal."
    elif end.exit_code:
        status, error = RunStatus.FAILED, f"Packer ended with exit code {end.exit_code}. {_UNSEEN}"
    return structs.replace(item, status=status, ended=end.at, exit_code=end.exit_code, error=error)


def _failure(item: WorkItem, builds: Collection[Build], end: End, *, is_whole: bool) -> str:
    """What there is to say of the item as a whole; empty if its builds say it all."""
    if not builds and (not item.error or item.error.startswith(_NOTHING_TO_RUN)):
        return NOTHING_BUILT
    if is_whole and not item.error:
        return f"Every build is complete, yet Packer ended with exit code {end.exit_code}."
    return _summed_up(item.error)


def _summed_up(errors: str) -> str:
    """Packer's errors, the last cause before all where the first line does not tell it."""
    found = diagnostics.errors_of(errors)
    return diagnostics.led_by_cause(errors, diagnostics.headline(found[-1])) if found else errors
