"""One run of Packer: on record before it starts, folded while it lives, judged at its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

from msgspec import structs

from packer_fork import host
from packer_fork.errors import (
    EXIT_DONE,
    EXIT_LOCK_LOST,
    EXIT_OUTBOX,
    EXIT_PACKER_FAILED,
    EXIT_TEMPLATE,
    LockLostError,
    StoreError,
)
from packer_fork.events import Notice, Notify, RunEnded, RunStarted
from packer_fork.locks import MARKER, ProcessId
from packer_fork.manager import artifacts, circuits, forecast, results
from packer_fork.manager.build.supervisor import (
    Attachment,
    End,
    LogAttachment,
    TerminalAttachment,
    Terms,
    is_interactive,
    supervise,
)
from packer_fork.manager.job import Ended, Job, describe, next_number
from packer_fork.manager.observing import Documents, Observer
from packer_fork.manager.outbox import Outbox
from packer_fork.manager.plan import kept_inputs
from packer_fork.manager.planned_steps import with_planned_steps
from packer_fork.manager.record import Recorder
from packer_fork.manager.runlog import LogFiles, RunLog
from packer_fork.model import BuildStatus, RunStatus
from packer_fork.packer import diagnostics, outcome, program
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.mask import Mask
from packer_fork.packer.outcome import Outcome
from packer_fork.packer.process import Launch
from packer_fork.packer.program import Program
from packer_fork.packer.signals import SignalWatch


def run(job: Job, watch: SignalWatch, notify: Notify) -> Generator[None, None, Ended]:
    """A run under way. Raises StoreError or PackerError where Packer was not started."""
    return (yield from _Running(job, watch, notify).go())


class _Running:
    """The steps of one run, in the order of their methods."""

    def __init__(self, job: Job, watch: SignalWatch, notify: Notify) -> None:
        self._job = job
        self._watch = watch
        self._notify = notify
        state = job.place.store.read()
        if state is None:
            raise StoreError(f"The state in {job.place.store.location} has vanished.")
        self._state = state
        number = job.number or next_number(job.place.store, state)
        described = describe(
            number, job.tenure, job.wait, job.plan, job.prepared, job.command, job.git
        )
        run = structs.replace(described, up_to_date=job.up_to_date, part=job.part)
        self._files = LogFiles(job.place.store.logs, run.key)
        self._run = structs.replace(run, log=self._files.masked.name)
        folder = job.place.outbox or job.place.store.logs
        self._outbox = Outbox(folder, state.lineage, notify)
        self._was_started = False
        self._documents: Documents = {}
        self._observer = Observer(job.observers, job.place, job.plan, state)

    def go(self) -> Generator[None, None, Ended]:
        secrets = self._job.prepared.sensitive.values
        self._keep(secrets)
        log = RunLog(self._files.masked, self._notify)
        place = self._job.place
        recorder = Recorder(
            self._begin(),
            self._job.tenure,
            Mask(secrets),
            log,
            self._notify,
            self._keep_away,
            None if place.folder.is_shared else circuits.of(place),  # a shared store asks its own
        )
        try:
            recorder.documents = {**self._observer.documents}
            if self._job.part:
                recorder.commit("begin")
            else:
                recorder.documents |= kept_inputs(self._state, self._job.plan)
                recorder.commit("start")
            recorder.raise_unsaved()
            return (yield from self._packer(recorder))
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

    def _keep_away(self, outcome: Outcome | None) -> None:
        """Into the outbox with what servers did not take; out with it once they did."""
        if self._job.place.outbox is None or not self._was_started:
            return
        if outcome is None:
            self._outbox.forget(self._run)
        else:
            self._outbox.keep(outcome, self._documents)

    def _forget_raw(self) -> None:
        try:
            self._files.forget_raw()
        except OSError as error:
            text = f"{error.filename} cannot be removed ({error.strerror}); it may hold secrets."
            self._notify(Notice(level="warning", text=text, hint="Remove it by hand."))

    def _begin(self) -> Outcome:
        job = self._job
        outlines = [o for o in job.prepared.outlines if job.names is None or o.name in job.names]
        declared = job.plan.declared
        start = with_planned_steps(
            artifacts.with_manifests(outcome.begin(self._run, outlines), declared.manifests),
            declared.planned,
            job.flags.except_,
            hcl=job.prepared.template.is_hcl,
        )
        begun = results.carried_over(
            start, self._state, job.plan.fingerprint, self._observer.unfinished
        )
        return results.in_part(begun) if job.part else begun

    def _packer(self, recorder: Recorder) -> Generator[None, None, Ended]:
        folder = self._job.place.folder
        shown = recorder.shown()
        self._notify(
            RunStarted(
                run=shown.run,
                template=folder.label,
                workspace=folder.workspace,
                usual=_usual(shown),
            )
        )
        try:
            end = yield from supervise(
                partial(self._attach, recorder),
                recorder,
                self._terms(),
                self._job.reasons,
                self._watch,
                self._notify,
                self._started,
            )
        except BaseException:
            self._observer.abandon()
            if self._was_started:
                self._job.tenure.hand_over()  # Packer lives on, and so must its lock
            raise
        return self._finish(recorder, end)

    def _attach(self, recorder: Recorder) -> Attachment:
        job = self._job
        if is_interactive(job.flags):
            launch = self._launch(program.interactive_command)
            return TerminalAttachment(launch, recorder)
        launch = self._launch(program.build_command)
        return LogAttachment(launch, self._files, recorder, self._observer)

    def _launch(self, command: Callable[[Program, PackerFlags, str], tuple[str, ...]]) -> Launch:
        job, policy = self._job, self._job.place.settings.on_wrapper_death
        may_die = job.place.folder.is_shared or host.ci_job(job.environ) is not None
        return Launch(
            command=command(job.prepared.program, job.flags, job.template),
            directory=Path.cwd(),
            environ=job.environ,
            lock=job.tenure.packer_lock,
            marker=(MARKER, job.tenure.marker),
            die_with_parent=policy == "cancel" or (policy == "auto" and may_die),
        )

    def _terms(self) -> Terms:
        settings, is_shared = self._job.place.settings, self._job.place.folder.is_shared
        lost = settings.on_lock_lost
        return Terms(
            grace=settings.grace,
            until_lost=lost in ("cancel", "strict") or (lost == "auto" and is_shared),
            fail_fast=self._job.fail_fast,
        )

    def _started(self, packer: ProcessId) -> None:
        self._was_started = True
        with contextlib.suppress(StoreError, LockLostError):
            self._job.tenure.note(run=self._run.number, packer=packer)

    def _finish(self, recorder: Recorder, end: End) -> Ended:
        recorder.outcome = self._completed(recorder, end)
        recorder.documents = {**self._documents}
        recorder.commit("finish")
        if self._job.place.folder.is_shared:
            self._insist(recorder)
        after = recorder.shown()
        self._put_away(recorder, after)
        self._tell_remedies(after)
        code = _exit_code(after, end, recorder.unsaved)
        self._notify(
            RunEnded(
                run=after.run,
                builds=tuple(after.builds.values()),
                log=str(self._files.masked),
                exit_code=code,
            )
        )
        return Ended(code, _failed(after), cancelled=bool(end.signal))

    def _insist(self, recorder: Recorder) -> None:
        """Servers that are away just now may be back in a moment; it is the last chance."""
        deadline = time.monotonic() + self._job.place.settings.store_patience
        while isinstance(recorder.unsaved, StoreError) and not self._watch.signals:
            if time.monotonic() > deadline:
                return
            self._watch.wait(1.0)
            recorder.commit("finish")

    def _tell_remedies(self, after: Outcome) -> None:
        hint = program.missing_plugin_hint(after.run.error, self._job.template)
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

    def _put_away(self, recorder: Recorder, after: Outcome) -> None:
        if recorder.unsaved is None:
            self._forget_raw()
            if not self._job.part:
                with contextlib.suppress(StoreError):
                    self._job.tenure.compact()
        elif isinstance(recorder.unsaved, LockLostError):
            if self._outbox.keep(after, self._documents):
                self._outbox.tell(after, self._documents, "The lock was closed while Packer ran")
                self._forget_raw()
        elif self._job.place.outbox is not None:
            self._outbox.tell(after, self._documents, "The store is away")

    def _completed(self, recorder: Recorder, end: End) -> Outcome:
        """With what it read, digests of the artifacts, and how long the lock was held until this
        last change.
        """
        after, self._documents = self._observer.end(
            recorder.outcome, Mask(self._job.prepared.sensitive.values)
        )
        held = time.monotonic() - self._job.wait.taken
        is_complete = after.run.status is RunStatus.COMPLETE  # before the cancel reached Packer
        failed_fast = end.failed_fast and not is_complete
        status = RunStatus.FAILED if failed_fast else after.run.status
        run = structs.replace(
            after.run,
            held=max(0.0, round(held, 3)),
            status=status,
            commits=recorder.commits,
            committing=round(recorder.committing, 6),
        )
        opens = self._job.observers.opens
        return artifacts.hashed(Outcome(run, after.builds), opens, has_just_ended=True)


def _usual(begun: Outcome) -> dict[str, float]:
    """By build, how many seconds it takes; only of those that ever came to their end."""
    known = {name: forecast.usual(build) for name, build in begun.builds.items()}
    return {name: seconds for name, seconds in known.items() if seconds is not None}


def _failed(after: Outcome) -> tuple[str, ...]:
    """Builds that it may help to try again."""
    again = (BuildStatus.FAILED, BuildStatus.INTERRUPTED, BuildStatus.UNVERIFIED)
    return tuple(name for name, build in after.builds.items() if build.status in again)


def _exit_code(after: Outcome, end: End, unsaved: StoreError | LockLostError | None) -> int:
    if unsaved is not None or end.lost:
        return EXIT_OUTBOX if isinstance(unsaved, StoreError) else EXIT_LOCK_LOST
    if end.signal and after.run.status is not RunStatus.COMPLETE:
        return 128 + end.signal
    return exit_code_of(after, end.exit_code)


def exit_code_of(after: Outcome, packer_code: int | None) -> int:
    """For a run that ended by itself; `packer_code`: Packer's own exit code, None if not seen."""
    if after.run.status is RunStatus.COMPLETE:
        return EXIT_DONE
    if after.run.status is RunStatus.UNVERIFIED and packer_code == 0:
        return EXIT_DONE
    if program.missing_plugin_hint(after.run.error, ""):
        return EXIT_TEMPLATE
    return EXIT_PACKER_FAILED
