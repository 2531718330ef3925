"""One work item: on record before Packer starts, recorded while it lives, judged at its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from msgspec import Raw, Struct, structs

from packer_fork import host
from packer_fork.errors import (
    EXIT_DONE,
    EXIT_LOCK_LOST,
    EXIT_OUTBOX,
    EXIT_PACKER_FAILED,
    EXIT_TEMPLATE,
    LockLostError,
    PackerForkError,
    StoreError,
)
from packer_fork.events import ItemEnded, ItemStarted, Notice, Notify
from packer_fork.locks import MARKER, ProcessId, Wait
from packer_fork.manager.build import artifacts, leftovers, results
from packer_fork.manager.build.log_files import ItemLog, LogFiles
from packer_fork.manager.build.observing import Documents, Observer, Observers
from packer_fork.manager.build.outbox import Outbox
from packer_fork.manager.build.plan import Plan, kept_inputs
from packer_fork.manager.build.planned_steps import with_planned_steps
from packer_fork.manager.build.prepare import BuildRequest, Prepared, only
from packer_fork.manager.build.recorder import Recorder
from packer_fork.manager.build.supervisor import (
    DISK_FULL,
    Attachment,
    End,
    LogAttachment,
    TerminalAttachment,
    Terms,
    is_interactive,
    supervise,
)
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import BuildStatus, Run, RunStatus, WorkItem
from packer_fork.packer import diagnostics, outcome, program
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.mask import Mask
from packer_fork.packer.outcome import Outcome
from packer_fork.packer.process import Launch
from packer_fork.packer.program import Program
from packer_fork.packer.signals import SignalWatch
from packer_fork.stores.base import HeldLock


class Context(Struct, frozen=True, kw_only=True):
    """What all work items of a build have in common.

    ``wait``: for the lock. ``observers``: of all Packers of this process.
    """

    request: BuildRequest
    place: StateRef
    prepared: Prepared
    plan: Plan
    lock: HeldLock
    wait: Wait
    observers: Observers
    watch: SignalWatch
    notify: Notify


class Claim(Struct, frozen=True, kw_only=True):
    """The sources of an item before it begins: None stands for all that Packer finds.

    ``number``: the item's, within its run. ``attempt``: 1, or more for a retry.
    """

    number: int
    sources: tuple[str, ...] | None
    attempt: int = 1


class ItemResult(Struct, frozen=True, kw_only=True):
    """What an item came to, as it may be shown.

    ``exit_code``: for the caller of packer-fork. ``failed``: builds that it may help to try
    again. ``unsaved``: why the end is not in the state. ``commits`` took ``committing`` seconds.
    """

    claim: Claim
    outcome: Outcome
    exit_code: int
    failed: tuple[str, ...]
    is_cancelled: bool
    unsaved: StoreError | LockLostError | None
    commits: int
    committing: float


ItemInProgress = Generator[None, None, ItemResult]
"""An item under way: to be continued every moment, until it returns what it came to."""


def carry_out(
    context: Context, run: Run, claim: Claim, reasons: set[str], *, fail_fast: bool
) -> ItemInProgress:
    """Build the sources of `claim`. `reasons` and `fail_fast`: see `supervise`.

    Raises StoreError or PackerError where Packer was not started.
    """
    item = _Item(context, run, claim, reasons, fail_fast=fail_fast)
    return (yield from item.carry_out())


class _Item:
    """The steps of one item, in the order of their methods."""

    def __init__(
        self, context: Context, run: Run, claim: Claim, reasons: set[str], *, fail_fast: bool
    ) -> None:
        place = context.place
        state = place.store.read()
        if state is None:
            raise StoreError(f"The state in {place.store.location} has vanished.")
        self._context = context
        self._claim = claim
        self._reasons = reasons
        self._fail_fast = fail_fast
        self._notify = context.notify
        self._state = state
        self._flags, self._names = _selected(context, claim.sources)
        self._item = WorkItem(
            run=run.number,
            number=claim.number,
            token=context.lock.record.token,
            started=datetime.now(UTC),
            by=context.lock.participant.holder.by,
            attempt=claim.attempt,
            directory=run.directory,
            packer_version=run.packer_version,
        )
        self._files = LogFiles(place.store.logs, self._item.key)
        self._item = structs.replace(self._item, log=self._files.masked.name)
        folder = place.outbox or place.store.logs
        self._outbox = Outbox(folder, state.lineage, run, context.notify)
        self._was_started = False
        self._documents: Documents = {}
        self._observer = Observer(context.observers, place, context.plan, state)

    def carry_out(self) -> ItemInProgress:
        secrets = self._context.prepared.sensitive.values
        self._keep(secrets)
        log = ItemLog(self._files.masked, self._notify)
        place = self._context.place
        recorder = Recorder(
            self._begin(),
            self._context.lock,
            Mask(secrets),
            log,
            self._notify,
            self._spool,
            None
            if place.folder.is_shared
            else place.circuit_breaker,  # a shared store asks its own
        )
        try:
            recorder.documents = {**self._observer.documents, **self._new_inputs()}
            recorder.commit("begin")
            recorder.raise_unsaved()
            self._notify(ItemStarted(item=recorder.shown().item))
            end = yield from self._packer(recorder)
            return self._finish(recorder, end)
        finally:
            log.close()

    def _keep(self, secrets: tuple[str, ...]) -> None:
        try:
            self._files.keep_secrets(secrets)
        except OSError as error:
            raise StoreError(
                f"Cannot write {self._files.secrets}: {error.strerror}.",
                hint="Make room or make the folder writable, or choose another with --state DIR.",
            ) from error

    def _spool(self, outcome: Outcome | None) -> None:
        """Into the outbox with what servers did not take; out with it once they did."""
        if self._context.place.outbox is None or not self._was_started:
            return
        if outcome is None:
            self._outbox.forget(self._item)
        else:
            self._outbox.keep(outcome, self._documents)

    def _begin(self) -> Outcome:
        prepared, declared = self._context.prepared, self._context.plan.declared
        names = self._names
        outlines = [o for o in prepared.outlines if names is None or o.name in names]
        start = with_planned_steps(
            artifacts.with_manifests(outcome.begin(self._item, outlines), declared.manifests),
            declared.planned,
            self._flags.except_,
            hcl=prepared.template.is_hcl,
        )
        builds = results.carried_over(
            start.builds,
            self._state,
            directory=self._item.directory,
            inputs=self._context.plan.fingerprint,
            observed=self._observer.unfinished,
        )
        return Outcome(start.item, builds)

    def _new_inputs(self) -> Mapping[str, Raw | None]:
        """Inputs that differ from those that the run began with: of a later stage."""
        plan = self._context.plan
        return {} if plan.fingerprint in self._state.inputs else kept_inputs(self._state, plan)

    def _packer(self, recorder: Recorder) -> Generator[None, None, End]:
        try:
            return (
                yield from supervise(
                    partial(self._attach, recorder),
                    recorder,
                    self._terms(),
                    self._reasons,
                    self._context.watch,
                    self._notify,
                    partial(self._started, recorder),
                )
            )
        except BaseException:
            self._observer.abandon()
            if self._was_started:
                self._context.lock.hand_over()  # Packer lives on, and so must its lock
            raise

    def _attach(self, recorder: Recorder) -> Attachment:
        if is_interactive(self._flags):
            return TerminalAttachment(self._launch(program.interactive_command), recorder)
        launch = self._launch(program.build_command)
        return LogAttachment(launch, self._files, recorder, self._observer)

    def _launch(self, command: Callable[[Program, PackerFlags, str], tuple[str, ...]]) -> Launch:
        context, place = self._context, self._context.place
        policy, environ = place.settings.on_wrapper_death, context.request.environ
        cancels = place.folder.is_shared or host.ci_job(environ) is not None
        return Launch(
            command=command(context.prepared.program, self._flags, context.request.template),
            directory=Path.cwd(),
            environ=environ,
            lock=context.lock.packer_lock,
            marker=(MARKER, context.lock.participant.id),
            die_with_parent=policy == "cancel" or (policy == "auto" and cancels),
        )

    def _terms(self) -> Terms:
        settings, is_shared = self._context.place.settings, self._context.place.folder.is_shared
        lost = settings.on_lock_lost
        return Terms(
            grace=settings.grace,
            until_lost=lost in ("cancel", "strict") or (lost == "auto" and is_shared),
            fail_fast=self._fail_fast,
        )

    def _started(self, recorder: Recorder, packer: ProcessId) -> None:
        self._was_started = True
        item = structs.replace(recorder.outcome.item, packer=packer.pid)
        recorder.outcome = structs.replace(recorder.outcome, item=item)
        with contextlib.suppress(StoreError, LockLostError):
            self._context.lock.note(run=self._item.run, packer=packer)

    def _finish(self, recorder: Recorder, end: End) -> ItemResult:
        recorder.outcome = self._completed(recorder.outcome, end)
        recorder.documents = {**self._documents}
        recorder.commit("end")
        if self._context.place.folder.is_shared:
            self._insist(recorder)
        after = recorder.shown()
        is_state_gone = recorder.unsaved is not None and self._is_state_gone()
        self._put_away(recorder, after, is_state_gone=is_state_gone)
        self._tell_remedies(after)
        leftovers.warn_of_processes(self._context.lock, self._notify)
        builds = tuple(after.builds.values())
        has_log = self._files.masked.exists() and not is_state_gone
        log = str(self._files.masked) if has_log else ""
        self._notify(ItemEnded(item=after.item, builds=builds, log=log))
        return ItemResult(
            claim=self._claim,
            outcome=after,
            exit_code=_exit_code(after, end, recorder.unsaved),
            failed=_failed(after),
            is_cancelled=bool(end.signal),
            unsaved=recorder.unsaved,
            commits=recorder.commits,
            committing=recorder.committing,
        )

    def _completed(self, judged: Outcome, end: End) -> Outcome:
        """With what Packer read, and digests of the artifacts."""
        mask = Mask(self._context.prepared.sensitive.values)
        after, self._documents = self._observer.end(judged, mask)
        item = after.item
        has_failed = any(b.status is BuildStatus.FAILED for b in after.builds.values())
        is_complete = item.status is RunStatus.COMPLETE  # before the cancel reached Packer
        if end.failed_fast and has_failed and not is_complete:
            item = structs.replace(item, status=RunStatus.FAILED)
        if end.disk_full and item.status is RunStatus.CANCELLED:
            item = structs.replace(item, error=item.error or DISK_FULL)
        opens = self._context.observers.opens
        return artifacts.hashed(Outcome(item, after.builds), opens, has_just_ended=True)

    def _insist(self, recorder: Recorder) -> None:
        """Servers that are away just now may be back in a moment; it is the last chance."""
        deadline = time.monotonic() + self._context.place.settings.store_patience
        while isinstance(recorder.unsaved, StoreError) and not self._context.watch.signals:
            if time.monotonic() > deadline:
                return
            self._context.watch.wait(1.0)
            recorder.commit("end")

    def _is_state_gone(self) -> bool:
        """Whether the folder of the state was removed, and perhaps made anew by another build."""
        place = self._context.place
        if place.folder.is_shared:
            return False
        if not place.folder.folder.is_dir():
            return True
        try:
            state = place.store.read()
        except PackerForkError:
            return False
        return state is None or state.lineage != self._state.lineage

    def _put_away(self, recorder: Recorder, after: Outcome, *, is_state_gone: bool) -> None:
        """What the state did not take goes into a file and into an event."""
        if recorder.unsaved is None:
            self._forget_raw()
            return
        is_lost = isinstance(recorder.unsaved, LockLostError)
        is_kept = self._outbox.keep(after, self._documents)
        why = self._why_spooled(is_lost=is_lost, is_state_gone=is_state_gone)
        self._outbox.tell(after, self._documents, why, is_mergeable=not is_state_gone)
        if is_kept and is_lost and not is_state_gone:  # else they are of another run by now
            self._forget_raw()

    def _why_spooled(self, *, is_lost: bool, is_state_gone: bool) -> str:
        place = self._context.place
        if is_state_gone:
            why = f"the state in {place.store.location} was removed while Packer ran"
            return f"{why}, and another build took its place" if is_lost else why
        if is_lost:
            return "The lock was closed while Packer ran"
        return "The store is away" if place.folder.is_shared else "the state took no more changes"

    def _forget_raw(self) -> None:
        try:
            self._files.forget_raw()
        except OSError as error:
            text = f"{error.filename} cannot be removed ({error.strerror}); it may hold secrets."
            self._notify(Notice(level="warning", text=text, hint="Remove it by hand."))

    def _tell_remedies(self, after: Outcome) -> None:
        hint = program.missing_plugin_hint(after.item.error, self._context.request.template)
        if hint:
            self._notify(Notice(level="error", text="A plugin is not installed.", hint=hint))
        names = [
            name
            for name, build in after.builds.items()
            if any(map(diagnostics.is_of_folders, diagnostics.errors_of(build.error)))
        ]
        if names:
            text = (
                f"The output folder of {', '.join(names)} exists already: "
                "remove it, or build with -force."
            )
            self._notify(Notice(level="error", text=text))


def _selected(
    context: Context, sources: tuple[str, ...] | None
) -> tuple[PackerFlags, tuple[str, ...] | None]:
    """Packer's flags for `sources`, and their names, None for all that Packer finds."""
    flags = context.request.flags
    if not sources or sources == tuple(build.name for build in context.plan.builds):
        return flags, None
    limited = only(context.prepared, flags, sources)
    return (flags, None) if limited is None else (limited, sources)


def _failed(after: Outcome) -> tuple[str, ...]:
    """Builds that it may help to try again."""
    again = (BuildStatus.FAILED, BuildStatus.INTERRUPTED, BuildStatus.UNVERIFIED)
    return tuple(name for name, build in after.builds.items() if build.status in again)


def _exit_code(after: Outcome, end: End, unsaved: StoreError | LockLostError | None) -> int:
    if unsaved is not None:
        return EXIT_OUTBOX
    if end.lost:
        return EXIT_LOCK_LOST
    if end.signal and after.item.status is not RunStatus.COMPLETE:
        return 128 + end.signal
    return exit_code_of(after, end.exit_code)


def exit_code_of(after: Outcome, packer_code: int | None) -> int:
    """For an item that ended by itself; `packer_code`: Packer's own, None if it was not seen."""
    if after.item.status is RunStatus.COMPLETE:
        return EXIT_DONE
    if after.item.status is RunStatus.UNVERIFIED and packer_code == 0:
        return EXIT_DONE
    if program.missing_plugin_hint(after.item.error, ""):
        return EXIT_TEMPLATE
    return EXIT_PACKER_FAILED
