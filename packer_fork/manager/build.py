"""One build: under the lock, on record, to its proven end."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

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
from packer_fork.locks import ProcessId, Wait
from packer_fork.manager import acquire, artifacts, locate, places, recover
from packer_fork.manager.follow import End, Start, follow
from packer_fork.manager.prepare import Prepared, prepare
from packer_fork.manager.record import Recorder
from packer_fork.manager.runlog import LogFiles, RunLog
from packer_fork.model import Run, RunStatus
from packer_fork.packer import outcome, program
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.mask import Mask
from packer_fork.packer.outcome import Outcome
from packer_fork.packer.signals import SignalWatch
from packer_fork.stores.base import TAKE_OVER, Tenure


class BuildRequest(Struct, frozen=True, kw_only=True):
    """What the user asked for. ``settings`` are the flags that set one, None if not given."""

    template: str
    flags: PackerFlags
    settings: Mapping[str, Any]
    environ: Mapping[str, str]


def build(request: BuildRequest, notify: Notify) -> int:
    """Build; returns the exit code. Raises PackerForkError where nothing was started."""
    template = locate.template(request.template)
    place = places.of_template(template, request.settings, request.environ, notify)
    prepared = prepare(template, request.flags, place.settings, request.environ)
    _warn(request, place, prepared, notify)
    tenure, wait = _lock(request, place, notify)
    try:
        recover.recover(place.store, tenure, notify, reason="found by the next build")
        if wait.seconds:
            prepared = prepare(template, request.flags, place.settings, request.environ)
        return _Building(request, place, prepared, tenure, notify, wait).go()
    finally:
        with contextlib.suppress(StoreError):
            tenure.close()


def _lock(request: BuildRequest, place: places.Place, notify: Notify) -> tuple[Tenure, Wait]:
    who = acquire.holder(
        "build",
        template=place.folder.label,
        workspace=place.folder.workspace,
        command=_command_on_record(request),
        environ=request.environ,
    )
    over = TAKE_OVER if place.settings.abandoned == "take" else frozenset()
    return acquire.acquire(place.store, who, notify, timeout=place.settings.lock_timeout, over=over)


def _command_on_record(request: BuildRequest) -> tuple[str, ...]:
    return ("packer-fork", "build", *request.flags.without_values(), request.template)


def _warn(request: BuildRequest, place: places.Place, prepared: Prepared, notify: Notify) -> None:
    for name in prepared.sensitive.unknown:
        text = f"The value of the sensitive {name!r} could not be learnt: it is not masked."
        notify(Notice(level="warning", text=text))
    for name in prepared.sensitive.too_short:
        text = f"The sensitive value of {name!r} is shorter than 4 characters: it is not masked."
        notify(Notice(level="warning", text=text))
    if request.environ.get("CI") and not place.folder.folder.exists():
        text = f"This state ends with the CI job: {place.folder.folder} is new."
        hint = "Cache the folder .packer-fork between jobs, or name a lasting one with --state."
        notify(Notice(level="warning", text=text, hint=hint))


class _Building:
    """The steps of one run, in the order of their methods."""

    def __init__(
        self,
        request: BuildRequest,
        place: places.Place,
        prepared: Prepared,
        tenure: Tenure,
        notify: Notify,
        wait: Wait,
    ) -> None:
        self._request = request
        self._place = place
        self._prepared = prepared
        self._tenure = tenure
        self._notify = notify
        state = place.store.read()
        number = 1 + (state.last_run.number if state and state.last_run else 0)
        self._files = LogFiles(place.store.logs, number)
        self._mask = Mask(prepared.sensitive.values)
        self._run = self._describe(number, wait)

    def go(self) -> int:
        self._files.sweep()
        self._files.keep_secrets(self._prepared.sensitive.values)
        log = RunLog(self._files.masked, self._notify)
        start = outcome.begin(self._run, self._prepared.outlines)
        recorder = Recorder(start, self._tenure, self._mask, log, self._notify)
        try:
            with SignalWatch() as watch:
                recorder.commit("start")
                recorder.raise_unsaved()
                return self._packer(recorder, watch)
        finally:
            log.close()

    def _packer(self, recorder: Recorder, watch: SignalWatch) -> int:
        self._notify(
            RunStarted(
                run=recorder.shown().run,
                template=self._place.folder.label,
                workspace=self._place.folder.workspace,
            )
        )
        end = follow(self._start(), self._files, recorder, watch, self._notify, self._started)
        return self._finish(recorder, end)

    def _start(self) -> Start:
        settings = self._place.settings
        policy = settings.on_wrapper_death
        in_ci = bool(self._request.environ.get("CI"))
        return Start(
            command=program.build_command(
                self._prepared.program, self._request.flags, self._request.template
            ),
            directory=Path.cwd(),
            environ=self._request.environ,
            lock=self._tenure.packer_lock,
            lock_id=self._tenure.record.id,
            die_with_parent=policy == "cancel" or (policy == "auto" and in_ci),
            grace=settings.grace,
        )

    def _started(self, packer: ProcessId) -> None:
        with contextlib.suppress(StoreError):
            self._tenure.note(run=self._run.number, packer=packer)

    def _finish(self, recorder: Recorder, end: End) -> int:
        recorder.end(end.how, end.exit_code)
        recorder.outcome = artifacts.hashed(recorder.outcome)
        recorder.commit("finish")
        after = recorder.shown()
        if recorder.unsaved is None:
            self._files.forget_raw()
            with contextlib.suppress(StoreError):
                self._tenure.compact()
        code = _exit_code(after, end, recorder.unsaved)
        self._notify(
            RunEnded(
                run=after.run,
                builds=tuple(after.builds.values()),
                log=str(self._files.masked),
                exit_code=code,
            )
        )
        return code

    def _describe(self, number: int, wait: Wait) -> Run:
        return Run(
            number=number,
            tenure=self._tenure.record.tenure,
            started=datetime.now(UTC),
            by=self._tenure.record.holder.by,
            directory=str(Path.cwd()),
            command=_command_on_record(self._request),
            packer_version=self._prepared.program.version_text,
            git=host.git_of(Path.cwd()),
            ci=self._tenure.record.holder.ci,
            log=self._files.masked.name,
            waited=wait.seconds,
            ahead=wait.ahead,
        )


def _exit_code(after: Outcome, end: End, unsaved: StoreError | LockLostError | None) -> int:
    if unsaved is not None:
        return EXIT_OUTBOX if isinstance(unsaved, StoreError) else EXIT_LOCK_LOST
    if after.run.status is RunStatus.COMPLETE:
        return EXIT_DONE
    if end.signal:
        return 128 + end.signal
    if program.missing_plugin_hint(after.run.error, ""):
        return EXIT_TEMPLATE
    return EXIT_PACKER_FAILED
