"""The fold: what Packer's lines prove of a run and its builds. Pure.

All that it knows stands in the documents themselves, so that a run can be folded on
from what was committed, by whoever recovers it. The rules of completeness: a build
is complete when its ``finished`` line came before any cancel, the closing line is
there, and as many artifacts ended as were announced. Packer's exit code proves
nothing of a single build: it is 0 also when the inner process was killed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, structs

from packer_fork.model import (
    Artifact,
    Build,
    BuildStatus,
    File,
    Run,
    RunStatus,
    Step,
    StepStatus,
)
from packer_fork.packer import hints, steps
from packer_fork.packer.lines import Line
from packer_fork.packer.outline import BuildOutline, StepOutline

Ended = Literal["normal", "cancelled", "interrupted"]

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d): ")
_FINISHED = re.compile(r"Build '(.*)' finished(?: after .*)?\.", re.DOTALL)
_ERRORED = re.compile(r"Build '(.*?)' errored(?: after [^:]*)?: (.*)", re.DOTALL)
_CANCELLING = "Cancelling build after receiving "
_CLOSING = "\n==> Builds finished"
_STEP_FAILED = "Provisioning step had errors"
_MOST_BUILDS = 10_000
_MOST_ARTIFACTS = 10_000
_MOST_FILES = 100_000


class Outcome(Struct, frozen=True):
    """A run and its builds by name, as far as they are known."""

    run: Run
    builds: dict[str, Build]


def begin(run: Run, outlines: Iterable[BuildOutline]) -> Outcome:
    """Before the first line: every build that is expected is pending."""
    builds = {outline.name: _pending(outline, run.number) for outline in outlines}
    return Outcome(structs.replace(run, builds=tuple(builds)), builds)


def _pending(outline: BuildOutline, run: int) -> Build:
    return Build(
        name=outline.name,
        type=outline.type,
        run=run,
        provisioners=_steps(outline.provisioners),
        post_processors=_steps(outline.post_processors),
    )


def _steps(outlines: Iterable[StepOutline]) -> tuple[Step, ...]:
    return tuple(Step(type=outline.type, name=outline.name) for outline in outlines)


def apply(outcome: Outcome, line: Line) -> Outcome:
    """`outcome` after one more line; the same object if the line tells nothing new."""
    if line.type == "ui" and len(line.args) > 1:
        return _apply_text(outcome, _untimed(line.args[1]), line)
    if line.target and line.type in ("error", "artifact-count", "artifact"):
        return _apply_event(_knowing(outcome, line.target), line)
    return outcome


def output_source(names: Iterable[str], line: Line) -> str:
    """Which of `names` a text of Packer's belongs to; "" if to none."""
    text = _untimed(line.args[1]) if len(line.args) > 1 else ""
    return _source(names, text)[0]


def _untimed(text: str) -> str:
    """Without what -timestamp-ui puts before it."""
    found = _TIMESTAMP.match(text)
    return text[found.end() :] if found else text


def _source(names: Iterable[str], text: str) -> tuple[str, str]:
    """The build that `text` names, the longest that fits, and what follows the name."""
    if not text.startswith(("==> ", "    ", "--> ")):
        return "", text
    for name in sorted(names, key=len, reverse=True):
        rest = text[4 + len(name) :]
        if text.startswith(name, 4) and rest.startswith((":", " (")):
            return name, rest.partition(": ")[2]
    return "", text


def _knowing(outcome: Outcome, name: str) -> Outcome:
    """With a build that no outline told of: names are learned from where nobody can forge them."""
    if name in outcome.builds or len(outcome.builds) >= _MOST_BUILDS:
        return outcome
    parts = name.split(".")
    build = Build(name=name, type=parts[-2] if len(parts) > 1 else "", run=outcome.run.number)
    run = structs.replace(outcome.run, builds=(*outcome.run.builds, name))
    return Outcome(run, {**outcome.builds, name: build})


def _with(outcome: Outcome, build: Build, **changes: Any) -> Outcome:
    after = structs.replace(build, **changes)
    return (
        outcome if after == build else Outcome(outcome.run, {**outcome.builds, build.name: after})
    )


def _with_run(outcome: Outcome, **changes: Any) -> Outcome:
    return Outcome(structs.replace(outcome.run, **changes), outcome.builds)


def _apply_text(outcome: Outcome, text: str, line: Line) -> Outcome:
    if text.startswith(_CANCELLING):
        return _with_run(outcome, cancelled=True)
    if text.startswith(_CLOSING):
        return _with_run(outcome, closed=True)
    if found := _FINISHED.fullmatch(text):
        return _finished(_knowing(outcome, found[1]), found[1], line.at)
    if found := _ERRORED.fullmatch(text):
        return _errored(_knowing(outcome, found[1]), found[1], found[2], line.at)
    name, said = _source(outcome.builds, text)
    if name:
        return _heard(outcome, outcome.builds[name], said, line)
    return _complained(outcome, text) if line.args[0] == "error" else outcome


def _complained(outcome: Outcome, text: str) -> Outcome:
    """The first error that concerns no single build: a template that is not valid, for example."""
    if outcome.run.error or not text.strip() or text.lstrip().startswith(("==> ", "--> ")):
        return outcome
    return _with_run(outcome, error=text.strip())


def _finished(outcome: Outcome, name: str, at: datetime) -> Outcome:
    build = outcome.builds.get(name)
    if build is None or build.status.is_final:
        return outcome
    if outcome.run.cancelled:
        return _with(outcome, build, status=BuildStatus.CANCELLED, ended=at)
    return _with(
        outcome,
        build,
        status=BuildStatus.POST_PROCESSING,
        started=build.started or at,
        ended=at,
        provisioners=steps.end_all(build.provisioners, at),
        post_processors=steps.end_all(build.post_processors, at),
        evidence=structs.replace(build.evidence, finished=True),
    )


def _errored(outcome: Outcome, name: str, error: str, at: datetime) -> Outcome:
    build = outcome.builds.get(name)
    if build is None or build.status.is_final:
        return outcome
    cancelled = outcome.run.cancelled
    return _with(
        outcome,
        build,
        status=BuildStatus.CANCELLED if cancelled else BuildStatus.FAILED,
        started=build.started or at,
        ended=at,
        error=error,
        provisioners=steps.fail(build.provisioners, at, error),
        post_processors=steps.fail(build.post_processors, at, error),
    )


def _heard(outcome: Outcome, build: Build, said: str, line: Line) -> Outcome:
    """Something that the build itself printed: a phase, a step, a hint; never a verdict."""
    if build.status.is_final or build.evidence.finished:
        return outcome
    at = line.at
    provisioners, post_processors = build.provisioners, build.post_processors
    status = BuildStatus.CREATING if build.status is BuildStatus.PENDING else build.status
    if line.args[0] == "say" and steps.is_post_processor(said):
        status = BuildStatus.POST_PROCESSING
        provisioners = steps.end_all(provisioners, at)
        post_processors = steps.begins_post_processor(post_processors, said, at)
    elif status is not BuildStatus.POST_PROCESSING:
        if said.startswith(_STEP_FAILED):
            provisioners = steps.fail(provisioners, at, said)
        else:
            provisioners = steps.begins_provisioner(provisioners, said, at)
        if any(step.status is not StepStatus.PENDING for step in provisioners):
            status = BuildStatus.PROVISIONING
    return _with(
        outcome,
        build,
        status=status,
        started=build.started or at,
        provisioners=provisioners,
        post_processors=post_processors,
        instance=hints.learn(build.instance, said, build.type),
    )


def _apply_event(outcome: Outcome, line: Line) -> Outcome:
    build = outcome.builds.get(line.target)
    if build is None or not line.args:
        return outcome
    if line.type == "error":
        return _errored(
            _with(outcome, build, error=line.args[0]), build.name, line.args[0], line.at
        )
    if line.type == "artifact-count":
        count = int(line.args[0]) if line.args[0].isdecimal() else None
        return _with(outcome, build, evidence=structs.replace(build.evidence, artifact_count=count))
    return _artifact_event(outcome, build, line.args)


def _artifact_event(outcome: Outcome, build: Build, args: tuple[str, ...]) -> Outcome:
    """``artifact,I,key,value``: artifacts come one after the other, each with an ``end``."""
    number, key, *values = *args, ""
    if key == "end":
        evidence = build.evidence
        ended = structs.replace(evidence, artifacts_ended=evidence.artifacts_ended + 1)
        return _with(outcome, build, evidence=ended)
    index = int(number) if number.isdecimal() and len(number) < 6 else _MOST_ARTIFACTS
    known = build.artifacts
    if index > len(known) or index >= _MOST_ARTIFACTS:
        return outcome
    before = known[index] if index < len(known) else Artifact()
    after = _with_field(before, key, values, outcome.run.directory)
    return _with(outcome, build, artifacts=(*known[:index], after, *known[index + 1 :]))


def _with_field(artifact: Artifact, key: str, values: list[str], directory: str) -> Artifact:
    match key:
        case "builder-id":
            return structs.replace(artifact, builder_id=values[0])
        case "id":
            return structs.replace(artifact, id=values[0])
        case "string":
            return structs.replace(artifact, string=values[0])
        case "file" if len(values) > 1 and len(artifact.files) < _MOST_FILES:
            path = posixpath.normpath(posixpath.join(directory, values[1]))
            return structs.replace(artifact, files=(*artifact.files, File(path=path)))
    return artifact


def conclude(outcome: Outcome, *, at: datetime, exit_code: int | None, ended: Ended) -> Outcome:
    """The verdict, once nothing of Packer lives any more.

    `ended`: by itself, after we cancelled it, or by something that killed it (or us).
    `exit_code` is None where nobody saw it.
    """
    if ended == "cancelled":
        outcome = _with_run(outcome, cancelled=True)
    builds = {
        name: _judge(build, outcome.run, at, ended)
        for name, build in outcome.builds.items()
        if not _never_was(build, outcome.run, exit_code)
    }
    run = structs.replace(
        outcome.run,
        builds=tuple(builds),
        status=_run_status(builds, outcome.run, exit_code, ended),
        ended=at,
        exit_code=exit_code,
        error=outcome.run.error or ("" if builds else "-only or -except matched no build"),
    )
    return Outcome(run, builds)


def _never_was(build: Build, run: Run, exit_code: int | None) -> bool:
    """Packer did all it had to, and never spoke of this one: it is known by another name."""
    return build.status is BuildStatus.PENDING and run.closed and exit_code == 0


def _judge(build: Build, run: Run, at: datetime, ended: Ended) -> Build:
    if build.status.is_final:
        return build
    evidence = build.evidence
    if evidence.finished:
        proven = run.closed and evidence.artifact_count == evidence.artifacts_ended
        status = BuildStatus.COMPLETE if proven else BuildStatus.UNVERIFIED
        return structs.replace(
            build, status=status, artifacts=tuple(dict.fromkeys(build.artifacts))
        )
    status, error = _unfinished(build, run, ended)
    return structs.replace(
        build,
        status=status,
        error=build.error or error,
        ended=at,
        provisioners=steps.leave_open(build.provisioners),
        post_processors=steps.leave_open(build.post_processors),
    )


def _unfinished(build: Build, run: Run, ended: Ended) -> tuple[BuildStatus, str]:
    if run.cancelled:
        return BuildStatus.CANCELLED, ""
    if ended == "interrupted" and not run.closed:
        return BuildStatus.INTERRUPTED, "Packer was killed, or its log ends early"
    if build.status is BuildStatus.PENDING:
        return BuildStatus.FAILED, run.error or "Packer did not start it; the log says why"
    return BuildStatus.FAILED, "Packer ended without a result of it"


def _run_status(
    builds: Mapping[str, Build], run: Run, exit_code: int | None, ended: Ended
) -> RunStatus:
    complete = builds and all(b.status is BuildStatus.COMPLETE for b in builds.values())
    if complete and exit_code in (0, None):
        return RunStatus.COMPLETE
    if run.cancelled:
        return RunStatus.CANCELLED
    if ended == "interrupted" and not run.closed:
        return RunStatus.INTERRUPTED
    return RunStatus.FAILED
