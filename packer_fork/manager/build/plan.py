"""What a build would do, and why: per build, to be built or up to date.

A build is up to date if some complete run of it had the very inputs of now, is neither
older than ``max_age`` nor of the future, and its artifacts are still what they were.
Whatever cannot be known means "build".
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from packer_fork.codec.builds import decode_build
from packer_fork.config import Settings
from packer_fork.events import Action, BuildPlan, Hashing
from packer_fork.inputs.cache import DigestCache, Progress
from packer_fork.inputs.declared import Collected, Declared
from packer_fork.inputs.record import Inputs, TemplateInputs, difference
from packer_fork.inputs.request import CommandOutput, InputsRequest
from packer_fork.malformed import MALFORMED
from packer_fork.manager.build import artifacts, observed, results
from packer_fork.manager.build.observed import Comparison
from packer_fork.manager.build.prepare import PlanningContext, Prepared
from packer_fork.model import Build, BuildStatus, KnownBy, Result, State, StepStatus
from packer_fork.packer import outline
from packer_fork.packer.outline import BuildOutline
from packer_fork.packer.program import Program
from packer_fork.template.reader import ParsedTemplate

_MOST_REASONS = 20
_CLOCK_SKEW = timedelta(hours=1)
"""How far ahead another machine's clock may be before its runs are not believed."""


class Plan(Struct, frozen=True, kw_only=True):
    """One line for each build, in Packer's order; empty if only Packer knows what it builds.

    ``untracked``: base images whose change nothing would notice, with their places.
    ``remember``: keep what was found, so that the next command is faster. ``values``: what Packer
    evaluated for it, by expression, secrets among them; empty where it was recalled.
    """

    builds: tuple[BuildPlan, ...]
    fingerprint: str
    declared: Declared
    untracked: tuple[str, ...] = ()
    remember: Callable[[], None] = lambda: None
    values: Mapping[str, object] = {}

    @property
    def inputs(self) -> TemplateInputs:
        return self.declared.inputs

    def names(self, action: Action) -> tuple[str, ...]:
        return tuple(build.name for build in self.builds if build.action is action)


def digest_cache(context: PlanningContext) -> DigestCache:
    """The digests that are kept beside the state. Hashing that takes long is reported."""

    def report(it: Progress) -> None:
        context.notify(Hashing(done=it.done, total=it.total, seconds=round(it.seconds, 1)))

    return DigestCache(context.place.folder.folder / "hashes", report)


def gather(context: PlanningContext, prepared: Prepared, cache: DigestCache) -> Collected:
    """The inputs as they are now. Raises TemplateError if the template cannot be read.

    Where a value is missing, Packer is asked first whether it takes the template at all:
    to find out which of many variables are not set would cost a Packer for each.
    """
    from packer_fork.inputs.collect import collected
    from packer_fork.manager.build import acceptance
    from packer_fork.packer.evaluate import Evaluator

    template, flags, environ = context.template, context.flags, context.environ
    asked = acceptance.Question(template=template, flags=flags, prepared=prepared, environ=environ)

    def doubt() -> None:
        acceptance.require_loadable(asked)

    request = request_of(context, prepared.template, prepared.program, cache)
    if prepared.command_outputs is None:
        request = with_command_outputs(context, request)
    else:
        request = structs.replace(request, command_outputs=prepared.command_outputs)
    return collected(
        structs.replace(
            request,
            builds=names_of(prepared.every),
            evaluate=Evaluator(prepared.program, template.given, flags, environ, doubt),
            plugins=prepared.plugins,
        )
    )


def names_of(every: Iterable[BuildOutline]) -> dict[str, str]:
    """By the names of the builds, what the template calls them."""
    return {each.name: each.called or each.name for each in every}


def request_of(
    context: PlanningContext, parsed: ParsedTemplate, program: Program, cache: DigestCache
) -> InputsRequest:
    """What collecting inputs begins with, before Packer or a command is asked anything."""
    settings, state, project = context.settings, context.state, context.template.project
    return InputsRequest(
        template=parsed,
        builds={},
        root=project,
        directory=Path.cwd(),
        key=key_of(state),
        evaluate=lambda _: None,
        environ=context.environ,
        packer_version=program.version_text,
        assignments=tuple(f.value or "" for f in context.flags.variables if f.name == "var"),
        flags=context.flags.bearing_on_results,
        outputs=_outputs(state),
        born=tuple(project / name for name in observed.products_of(state, project)),
        input_globs=settings.inputs,
        input_env=settings.input_env,
        ignore=settings.ignore,
        ignore_vars=frozenset(settings.ignore_vars),
        assume_unchanged=frozenset(settings.assume_unchanged),
        cache=cache,
    )


def with_command_outputs(context: PlanningContext, request: InputsRequest) -> InputsRequest:
    """Run ``input_commands``, and add their outputs."""

    def secrets() -> tuple[str, ...]:
        from packer_fork.packer.sensitive import standing_plainly

        return standing_plainly(request.template, context.flags, context.environ)

    commands, project = context.settings.input_commands, context.template.project
    outputs = _command_outputs(commands, project, context.environ, secrets)
    return structs.replace(request, command_outputs=outputs)


def key_of(state: State | None) -> bytes:
    """What digests are keyed by, empty before a state has begun."""
    return bytes.fromhex(state.key) if state else b""


def _command_outputs(
    commands: Iterable[tuple[str, ...]],
    project: Path,
    environ: Mapping[str, str],
    secrets: Callable[[], tuple[str, ...]],
) -> tuple[CommandOutput, ...]:
    """Run ``input_commands`` in the project's root. What they print is never kept in the clear."""
    distinct = list(dict.fromkeys(commands))
    if not distinct:
        return ()
    from packer_fork.manager.build import user_commands
    from packer_fork.packer.mask import Mask

    mask = Mask(secrets())
    completed = user_commands.run(distinct, directory=project, environ=environ)
    return tuple(
        CommandOutput(
            command=mask.text(_typed(words)),
            digest=hashlib.sha256(each.output).hexdigest(),
            failure=mask.text(each.failure),
        )
        for words, each in zip(distinct, completed, strict=True)
    )


def _typed(words: Iterable[str]) -> str:
    """A command as one types it, on one line and in UTF-8, as it becomes a name in the state."""
    line = shlex.join(words).replace("\n", "\\n")
    return line.encode("utf-8", "backslashreplace").decode()


def _outputs(state: State | None) -> dict[str, tuple[Path, ...]]:
    """By build, artifacts of earlier runs: what is built is no input of building it."""
    found = {}
    for name, raw in (state.builds if state else {}).items():
        build = decode_build(raw)
        earlier = (artifact for result in build.results for artifact in result.artifacts)
        artifacts = (*earlier, *build.artifacts)
        found[name] = tuple(Path(file.path) for each in artifacts for file in each.files)
    return found


def plan(
    prepared: Prepared,
    declared: Declared,
    settings: Settings,
    state: State | None,
    comparison: Comparison,
) -> Plan:
    """Compare; looks at artifacts on disk, and asks the user's commands about others."""
    known = state.builds if state else {}
    stored = StoredInputs(state)
    shared = outline.shared_names(prepared.outlines)
    planned = [
        _shared(each.name)
        if each.name in shared
        else _plan(
            each.name,
            decode_build(known[each.name]) if each.name in known else None,
            declared,
            settings,
            stored,
            comparison,
        )
        for each in prepared.outlines
    ]
    if not prepared.is_complete:
        planned = [_beside_unknown(each) for each in planned]
    return Plan(builds=tuple(planned), fingerprint=declared.inputs.fingerprint, declared=declared)


def _shared(name: str) -> BuildPlan:
    """Two of one name: nothing that is kept by that name is known to be this one's."""
    return BuildPlan(name=name, action=Action.BUILD, reasons=("another build has this name",))


def _beside_unknown(planned: BuildPlan) -> BuildPlan:
    """Packer can only be told to leave out builds whose names are known."""
    if planned.action is Action.BUILD:
        return planned
    reason = "built with those whose names Packer alone knows"
    return BuildPlan(name=planned.name, action=Action.BUILD, reasons=(reason,))


def _plan(
    name: str,
    build: Build | None,
    declared: Declared,
    settings: Settings,
    stored: StoredInputs,
    comparison: Comparison,
) -> BuildPlan:
    inputs = declared.inputs.of(name) or Inputs(entries={}, unknown=("inputs",))

    def is_same(document: str) -> bool:
        before = stored.of(document, name)
        return before is not None and before.fingerprint == inputs.fingerprint

    def to_build(*reasons: str) -> BuildPlan:
        return BuildPlan(name=name, action=Action.BUILD, reasons=reasons[:_MOST_REASONS])

    if inputs.unknown:
        return to_build(*(f"cannot know {what}" for what in inputs.unknown))
    if build is None:
        return to_build("never built")
    is_complete = build.status is BuildStatus.COMPLETE
    if not is_complete and not build.evidence.never_started and is_same(build.inputs):
        return to_build(_failure(build))  # whatever it left may have spoilt what was there
    if (reason := build.revoked.get(str(build.run), "")) and is_same(build.inputs):
        return to_build(f"run {build.run} was revoked: {reason}")
    same = [r for r in reversed(results.complete(build)) if is_same(r.inputs)]
    if not same:
        return to_build(*_why_not(build, inputs, stored, declared.root))
    alike = [each for each in same if not comparison.problems(each)]
    return (
        _by_results(name, alike, declared, settings)
        if alike
        else to_build(*comparison.problems(same[0]))
    )


def _by_results(
    name: str, newest_first: Sequence[Result], declared: Declared, settings: Settings
) -> BuildPlan:
    newest, *older = newest_first
    found = _by_result(name, newest, declared, settings)
    if found.action is Action.UP_TO_DATE:
        return found
    # The artifacts of the newest may lie in another checkout, those of an earlier run here.
    others = (_by_result(name, each, declared, settings) for each in older)
    return next((each for each in others if each.action is Action.UP_TO_DATE), found)


def _by_result(name: str, result: Result, declared: Declared, settings: Settings) -> BuildPlan:
    """Its inputs are those of now; is it young enough, and are its artifacts still there?"""
    now = datetime.now(UTC)
    ended = result.ended or datetime.min.replace(tzinfo=UTC)
    expires = min(ended, now) + timedelta(seconds=settings.max_age) if result.ended else ended
    if expires <= now or ended - now > _CLOCK_SKEW:
        why = (
            "is older than max_age" if expires <= now else f"ends in the future ({ended:%F %T} UTC)"
        )
        reason = f"run {result.run} {why}"
        return BuildPlan(name=name, action=Action.BUILD, reasons=(reason,))
    root, checks = Path(declared.root), settings.artifact_check
    problems = tuple(artifacts.problems(result, checks, declared.cache, root))
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


def _why_not(build: Build, inputs: Inputs, stored: StoredInputs, root: str) -> tuple[str, ...]:
    """No complete run had these inputs: what failed, or what has changed since the last."""
    past = results.complete(build)
    if not past:
        return ("never complete", _failure(build)) if build.status.is_final else ("never built",)
    before = stored.of(past[-1].inputs, build.name)
    if before is None:
        return (f"the inputs of run {past[-1].run} are not known",)
    changed = difference(before, inputs, lambda name: (Path(root) / name).exists())
    return changed or ("inputs changed",)


def _failure(build: Build) -> str:
    steps = {"provisioner": build.provisioners, "post-processor": build.post_processors}
    for kind, each in steps.items():
        for number, step in enumerate(each, 1):
            if step.status is StepStatus.FAILED:
                likely = "" if step.known_by is KnownBy.OBSERVED else ", probably"
                return f"last run failed{likely} at {kind} {number} ({step.name or step.type})"
    if not build.status.is_final:
        return f"run {build.run} has not ended"
    return f"last run was {build.status}" if build.status != "failed" else "last run failed"


class StoredInputs:
    """The inputs that a state has, each document decoded once."""

    def __init__(self, state: State | None) -> None:
        self._raw = state.inputs if state else {}
        self._documents: dict[str, TemplateInputs | None] = {}

    def document(self, digest: str) -> TemplateInputs | None:
        """The document of that digest, if the state has it."""
        if digest not in self._documents:
            raw = self._raw.get(digest)
            try:
                found = None if raw is None else msgspec.json.decode(raw, type=TemplateInputs)
            except MALFORMED:
                found = None
            self._documents[digest] = found
        return self._documents[digest]

    def of(self, digest: str, build: str) -> Inputs | None:
        """Those of one build in that document."""
        document = self.document(digest)
        return document.of(build) if document else None


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
