"""What a work item comes to, folded from Packer's output line by line. No I/O, no clock.

All that the fold knows is in the item and its builds, so that recovery goes on from the
documents that were committed last. Packer's exit code proves nothing, nor does the line
that a build has finished: a build is complete when that line came before any cancel, the
closing line is there, and every artifact that was promised was told to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from msgspec import Struct, structs

from packer_fork.model import Build, RunStatus, Step, WorkItem
from packer_fork.packer import diagnostics, hints, proof, steps, verdict
from packer_fork.packer.outline import BuildOutline
from packer_fork.packer.sources import Fact, LineEvent, Message, Said, Status
from packer_fork.packer.verdict import End, Ended

__all__ = ["Ended", "Outcome", "apply", "begin", "conclude"]

_CANCELLING = "Cancelling build after receiving "
_CLOSING = "\n==> Builds finished"
_WITHOUT_ARTIFACTS = "\n==> Builds finished but no artifacts were created"
_NO_COMPLAINTS = ("==> ", "    ", "--> ", "\n==> ")
"""How errors begin that are a build's own, or that sum up those of builds."""


class Outcome(Struct, frozen=True):
    """A work item and its builds by name, of which ``item.sources`` is the order."""

    item: WorkItem
    builds: dict[str, Build]


def begin(item: WorkItem, outlines: Iterable[BuildOutline]) -> Outcome:
    """Before the first line: every build that Packer is to run is pending."""
    pending = (pending_build(each, item.run) for each in outlines)
    builds = {build.name: structs.replace(build, item=item.number, by=item.by) for build in pending}
    return Outcome(structs.replace(item, sources=tuple(builds)), builds)


def pending_build(outline: BuildOutline, run: int) -> Build:
    """A build of that run which no work item has begun."""
    return Build(
        name=outline.name,
        type=outline.type,
        run=run,
        provisioners=tuple(Step(type=kind, name=name) for kind, name in outline.provisioners),
        post_processors=tuple(
            Step(type=kind, name=name, is_chained=number in outline.chained)
            for number, (kind, name) in enumerate(outline.post_processors)
        ),
    )


def apply(outcome: Outcome, event: LineEvent) -> Outcome:
    """`outcome` after `event`; the same object if that changes nothing."""
    if isinstance(event, Message):
        return _heard(outcome, event)
    return _change(outcome, event.name, lambda build: _moved_on(build, outcome.item, event))


def _moved_on(build: Build, item: WorkItem, event: LineEvent) -> Build:
    """`build` after an event that is about it."""
    after, at = build, event.at
    match event:
        case Fact(kind="artifact-count", args=(count, *_)):
            after = proof.counted(build, item, count)
        case Fact(kind="artifact", args=args):
            after = proof.artifact(build, item, args)
        case Fact(kind="error", args=(text, *_)):
            after = proof.errored(build, item, at, text)
        case Status(error=None):
            after = proof.finished(build, item, at)
        case Status(error=str(error)):
            after = proof.errored(build, item, at, error)
        case Said():
            by_script = steps.scripts_sound_like_packer(item.packer_version)
            after = _spoken(build, event, by_script=by_script)
    return after


def is_under_way(outcome: Outcome) -> bool:
    """Whether any build is yet to end, so that a cancel would change what becomes of it."""
    refused = diagnostics.causes(outcome.item.error, outcome.builds.values()).by_build
    return any(
        not (build.status.is_final or build.evidence.finished or refused[name])
        for name, build in outcome.builds.items()
    )


def conclude(outcome: Outcome, *, at: datetime, exit_code: int | None, ended: Ended) -> Outcome:
    """The verdict, once nothing of Packer lives; what has its verdict already keeps it.

    An exit code that nobody saw is None. A build that turns out never to have been is
    dropped. Places in the template, which its next edit moves, are not kept.
    """
    item = outcome.item
    if item.status is not RunStatus.RUNNING:
        return outcome
    end = End(at, exit_code, ended)
    told = diagnostics.causes(item.error, outcome.builds.values())
    builds = {
        name: structs.replace(verdict.build_concluded(build, item, end, told.of(name)), places=())
        for name, build in outcome.builds.items()
        if not verdict.never_was(build, item, end)
    }
    concluded = verdict.item_concluded(item, builds.values(), end)
    return Outcome(structs.replace(concluded, sources=tuple(builds)), builds)


def conclude_unseen(
    outcome: Outcome, *, at: datetime, exit_code: int | None, ended: Ended
) -> Outcome:
    """The verdict where Packer had the terminal to itself: no build of it is ever complete."""
    end = End(at, exit_code, ended)
    builds = {name: verdict.build_unseen(build, end) for name, build in outcome.builds.items()}
    return Outcome(verdict.item_unseen(outcome.item, end), builds)


def _heard(outcome: Outcome, message: Message) -> Outcome:
    """What Packer says itself counts only at the very beginning of a text."""
    item, text = outcome.item, message.text
    if text.startswith(_CANCELLING):
        return _with_item(outcome, structs.replace(item, cancelled=True))
    if text.startswith(_CLOSING):
        return _closed(outcome, text)
    if message.tone == "error" and not text.startswith(_NO_COMPLAINTS):
        errors = "\n\n".join(diagnostics.errors_of(f"{item.error}\n\n{text}"))
        return _with_item(outcome, structs.replace(item, error=proof.bounded(errors)))
    return outcome


def _closed(outcome: Outcome, text: str) -> Outcome:
    if outcome.item.closed:
        return outcome
    item = structs.replace(outcome.item, closed=True)
    judge = proof.without_artifacts if text.startswith(_WITHOUT_ARTIFACTS) else proof.judged
    builds = {name: judge(build, item) for name, build in outcome.builds.items()}
    return Outcome(item, builds)


def _spoken(build: Build, said: Said, *, by_script: bool) -> Build:
    begun = proof.started(build, said.at)
    if said.is_inner or build.evidence.finished:
        return begun
    noticed = hints.noticed(begun, said.text)
    if steps.is_abort(said.text):
        return steps.provisioning_failed(noticed, said.at)
    return (
        steps.heard(noticed, said.text, said.at, by_script=by_script) if said.is_step else noticed
    )


def _change(outcome: Outcome, name: str, change: Callable[[Build], Build]) -> Outcome:
    """`outcome` with one build changed, and learned if it was not known; a final one stays."""
    known = outcome.builds.get(name)
    if not name or (known and known.status.is_final):
        return outcome
    item = outcome.item
    before = known or Build(name=name, run=item.run, item=item.number, by=item.by)
    after = change(before)
    if after == before:
        return outcome
    if not known:
        item = structs.replace(item, sources=(*item.sources, name))
    return Outcome(item, {**outcome.builds, name: after})


def _with_item(outcome: Outcome, item: WorkItem) -> Outcome:
    return outcome if item == outcome.item else Outcome(item, outcome.builds)
