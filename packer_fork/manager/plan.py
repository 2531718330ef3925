"""What a build would do, and why: per build, to be built or up to date.

A build is up to date if some complete run of it had the very inputs of now, is not
older than ``max_age``, and its artifacts are still what they were. Whatever cannot
be known means "build".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

from packer_fork.codec.builds import decode_build
from packer_fork.config import Settings
from packer_fork.events import Action, BuildPlan
from packer_fork.inputs.cache import DigestCache
from packer_fork.inputs.collect import Declared, collect
from packer_fork.inputs.record import Inputs, difference
from packer_fork.inputs.request import InputsRequest
from packer_fork.malformed import MALFORMED
from packer_fork.manager import artifacts, observed, results
from packer_fork.manager.locate import Template
from packer_fork.manager.observed import Comparison
from packer_fork.manager.prepare import Prepared
from packer_fork.model import Build, BuildStatus, Result, State, StepStatus
from packer_fork.packer import outline, plugins
from packer_fork.packer.evaluate import Evaluator
from packer_fork.packer.flags import PackerFlags

_MOST_REASONS = 20


class Plan(Struct, frozen=True, kw_only=True):
    """One line for each build, in Packer's order; empty if only Packer knows what it builds."""

    builds: tuple[BuildPlan, ...]
    fingerprint: str
    declared: Declared

    @property
    def inputs(self) -> Inputs:
        return self.declared.inputs

    def names(self, action: Action) -> tuple[str, ...]:
        return tuple(build.name for build in self.builds if build.action is action)


def gather(
    template: Template,
    flags: PackerFlags,
    prepared: Prepared,
    settings: Settings,
    environ: Mapping[str, str],
    state: State | None,
    cache: DigestCache,
) -> Declared:
    """The inputs as they are now. Raises TemplateError if the template cannot be read."""
    program = prepared.program
    return collect(
        InputsRequest(
            template=Path.cwd() / template.given,
            root=template.project,
            directory=Path.cwd(),
            key=bytes.fromhex(state.key) if state and state.key else b"",
            evaluate=Evaluator(program, template.given, flags, environ),
            environ=environ,
            packer_version=program.version_text,
            plugins=plugins.in_use(program, environ),
            var_files=tuple(f.value or "" for f in flags.variables if f.name == "var-file"),
            assignments=tuple(f.value or "" for f in flags.variables if f.name == "var"),
            flags=flags.bearing_on_results,
            outputs=tuple(_outputs(state)),
            input_globs=settings.inputs,
            input_env=settings.input_env,
            ignore=settings.ignore,
            ignore_vars=frozenset(settings.ignore_vars),
            assume_unchanged=frozenset(settings.assume_unchanged),
            cache=cache,
        )
    )


def _outputs(state: State | None) -> Iterator[Path]:
    """Files that earlier runs made: what is built is no input of building it."""
    for raw in state.builds.values() if state else ():
        build = decode_build(raw)
        earlier = (artifact for result in build.results for artifact in result.artifacts)
        for artifact in (*earlier, *build.artifacts):
            yield from (Path(file.path) for file in artifact.files)


def plan(
    prepared: Prepared,
    declared: Declared,
    settings: Settings,
    state: State | None,
    comparison: Comparison,
) -> Plan:
    """Compare; looks at artifacts on disk, and asks the user's commands about others."""
    known = state.builds if state else {}
    inputs = declared.inputs
    fingerprint = inputs.fingerprint
    shared = outline.shared_names(prepared.outlines)
    planned = [
        _shared(each.name)
        if each.name in shared
        else _plan(
            each.name,
            decode_build(known[each.name]) if each.name in known else None,
            inputs,
            settings,
            state,
            comparison,
        )
        for each in prepared.outlines
    ]
    return Plan(builds=tuple(planned), fingerprint=fingerprint, declared=declared)


def _shared(name: str) -> BuildPlan:
    """Two of one name: nothing that is kept by that name is known to be this one's."""
    return BuildPlan(name=name, action=Action.BUILD, reasons=("another build has this name",))


def _plan(
    name: str,
    build: Build | None,
    inputs: Inputs,
    settings: Settings,
    state: State | None,
    comparison: Comparison,
) -> BuildPlan:
    def to_build(*reasons: str) -> BuildPlan:
        return BuildPlan(name=name, action=Action.BUILD, reasons=reasons[:_MOST_REASONS])

    if inputs.unknown:
        return to_build(*(f"cannot know {what}" for what in inputs.unknown))
    if build is None:
        return to_build("never built")
    if build.status is not BuildStatus.COMPLETE and build.inputs == inputs.fingerprint:
        return to_build(_failure(build))  # whatever it left may have spoilt what was there
    if revoked := _revoked(build, inputs):
        return to_build(revoked)
    same = [r for r in reversed(results.complete(build)) if r.inputs == inputs.fingerprint]
    if not same:
        return to_build(*_why_not(build, inputs, state))
    alike = next((each for each in same if not any(comparison.problems(each))), None)
    return _by_result(name, alike, settings) if alike else to_build(*comparison.problems(same[0]))


def _revoked(build: Build, inputs: Inputs) -> str:
    """Why the last run does not count, though it was of the same inputs."""
    reason = build.revoked.get(str(build.run), "")
    same = build.inputs == inputs.fingerprint
    return f"run {build.run} was revoked: {reason}" if reason and same else ""


def _by_result(name: str, result: Result, settings: Settings) -> BuildPlan:
    """Its inputs are those of now; is it young enough, and are its artifacts still there?"""
    ended = result.ended or datetime.min.replace(tzinfo=UTC)
    expires = ended + timedelta(seconds=settings.max_age) if result.ended else ended
    if expires <= datetime.now(UTC):
        reason = f"run {result.run} is older than max_age"
        return BuildPlan(name=name, action=Action.BUILD, reasons=(reason,))
    problems = tuple(artifacts.problems(result.artifacts, settings.artifact_check))
    if problems:
        return BuildPlan(name=name, action=Action.BUILD, reasons=problems[:_MOST_REASONS])
    notes = tuple(artifacts.trusted(result.artifacts, settings.artifact_check))
    return BuildPlan(
        name=name,
        action=Action.UP_TO_DATE,
        reasons=(f"run {result.run}", *notes),
        result=result,
        expires=expires,
    )


def _why_not(build: Build, inputs: Inputs, state: State | None) -> tuple[str, ...]:
    """No complete run had these inputs: what failed, or what has changed since the last."""
    past = results.complete(build)
    if not past:
        return ("never complete", _failure(build)) if build.status.is_final else ("never built",)
    before = stored(state, past[-1].inputs)
    if before is None:
        return (f"the inputs of run {past[-1].run} are not known",)
    return difference(before, inputs) or ("inputs changed",)


def _failure(build: Build) -> str:
    for number, step in enumerate(build.provisioners, 1):
        if step.status is StepStatus.FAILED:
            return f"last run failed at provisioner {number} ({step.name or step.type})"
    return f"last run was {build.status}" if build.status != "failed" else "last run failed"


def stored(state: State | None, fingerprint: str) -> Inputs | None:
    """The inputs of that fingerprint, if the state has them."""
    raw = state.inputs.get(fingerprint) if state else None
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=Inputs)
    except MALFORMED:
        return None


def kept_inputs(state: State, plan: Plan) -> dict[str, msgspec.Raw | None]:
    """What changes in the state's store of inputs: these come, those of no build go."""
    used = {plan.fingerprint}
    for raw in state.builds.values():
        build = decode_build(raw)
        used |= {build.inputs, *(result.inputs for result in build.results)}
        used |= {*observed.digests_of(build)}
    gone: dict[str, msgspec.Raw | None] = dict.fromkeys(state.inputs.keys() - used)
    if plan.fingerprint in state.inputs:
        return gone
    return {**gone, plan.fingerprint: msgspec.Raw(msgspec.json.encode(plan.inputs))}
