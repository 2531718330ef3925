"""What proves that one build is complete: its last line, and each of its artifacts. No I/O."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath

from msgspec import structs

from packer_fork.model import Artifact, Build, BuildStatus, File, WorkItem
from packer_fork.packer import diagnostics, steps

_LONGEST_ERROR = 20_000
_COUNT_DIGITS = 9


def finished(build: Build, item: WorkItem, at: datetime) -> Build:
    """Packer says that it is finished; of a build that was cancelled it says so too."""
    begun = started(build, at)
    if item.cancelled:
        after = steps.cut_short(begun, at)
        return structs.replace(after, status=BuildStatus.CANCELLED, ended=at)
    evidence = structs.replace(begun.evidence, finished=True)
    after = structs.replace(steps.run_through(begun, at), evidence=evidence, ended=at)
    return judged(after, item)


def errored(build: Build, item: WorkItem, at: datetime, error: str) -> Build:
    begun = started(build, at)
    error = bounded(error)
    told = bounded(diagnostics.led_by_cause(error, diagnostics.headline(error)))
    if item.cancelled:
        after, status = steps.cut_short(begun, at), BuildStatus.CANCELLED
    else:
        after, status = steps.failed(begun, at, error), BuildStatus.FAILED
    return structs.replace(after, status=status, ended=at, error=told)


def started(build: Build, at: datetime) -> Build:
    """`build` after the first word of it."""
    if build.status is not BuildStatus.PENDING:
        return build
    return structs.replace(build, status=BuildStatus.CREATING, started=at)


def counted(build: Build, item: WorkItem, count: str) -> Build:
    """The number of artifacts that Packer is going to tell."""
    if not (count.isdecimal() and len(count) <= _COUNT_DIGITS):
        return build
    evidence = structs.replace(build.evidence, artifact_count=int(count))
    return judged(structs.replace(build, evidence=evidence), item)


def artifact(build: Build, item: WorkItem, args: tuple[str, ...]) -> Build:
    """One of the lines that tell an artifact: its number, what is told, and that.

    The first is ``builder-id``, the last ``end``; ``nil`` stands for none at all.
    """
    match args:
        case (_, "builder-id", text, *_):
            made = (*build.artifacts, Artifact(builder_id=text))
            return structs.replace(build, artifacts=made)
        case (_, "id", text, *_):
            return _told(build, id=text)
        case (_, "string", text, *_):
            return _told(build, string=text)
        case (_, "file", _, path, *_) if path and build.artifacts:
            file = File(path=str(PurePosixPath(item.directory) / path))
            return _told(build, files=(*build.artifacts[-1].files, file))
        case (_, "end", *_):
            return _ended(build, item)
    return build


def judged(build: Build, item: WorkItem) -> Build:
    """`build`, complete if all that proves it is there.

    An artifact of which nothing is known proves nothing, and no artifact at all is proof only
    where the template says that there is to be none.
    """
    evidence = build.evidence
    is_proven = (
        item.closed
        and evidence.finished
        and evidence.artifact_count == evidence.artifacts_ended
        and not evidence.artifacts_empty
        and (bool(build.artifacts) or build.makes_no_artifact)
        and not build.status.is_final
    )
    return structs.replace(build, status=BuildStatus.COMPLETE) if is_proven else build


def without_artifacts(build: Build, item: WorkItem) -> Build:
    """`build` after Packer's closing line, where Packer lists no artifact of it."""
    if not build.evidence.finished or build.evidence.artifact_count is not None:
        return build
    evidence = structs.replace(build.evidence, artifact_count=0)
    return judged(structs.replace(build, evidence=evidence), item)


def bounded(text: str) -> str:
    """`text` as an error that is kept: without blank ends, and not endless."""
    stripped = text.strip()
    if len(stripped) <= _LONGEST_ERROR:
        return stripped
    return f"{stripped[:_LONGEST_ERROR]} [cut]"


def _told(build: Build, **fields: object) -> Build:
    if not build.artifacts:
        return build
    *others, last = build.artifacts
    return structs.replace(build, artifacts=(*others, structs.replace(last, **fields)))


def _ended(build: Build, item: WorkItem) -> Build:
    """Post-processors repeat the artifacts that they are given: each is kept once."""
    *others, last = build.artifacts or (None,)
    is_empty = last == Artifact()
    kept = build.artifacts[:-1] if is_empty or last in others else build.artifacts
    evidence = build.evidence
    evidence = structs.replace(
        evidence,
        artifacts_ended=evidence.artifacts_ended + 1,
        artifacts_empty=evidence.artifacts_empty + is_empty,
    )
    return judged(structs.replace(build, artifacts=kept, evidence=evidence), item)
