"""A run whose Packer asks: ``-debug`` and ``-on-error=ask`` on a terminal.

Packer has the terminal to itself, under the same lock and on record; what it says is not
seen, so nothing is proven of its builds. Ctrl-C reaches it from the terminal, and we wait.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from msgspec import structs

from packer_fork.events import Cancelling, Notice, Notify
from packer_fork.locks import MARKER, ProcessId
from packer_fork.manager.follow import End, Start
from packer_fork.manager.record import Recorder
from packer_fork.model import Build, BuildStatus, Run, RunStatus, Step, StepStatus
from packer_fork.packer import foreground
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.foreground import ForegroundProcess
from packer_fork.packer.outcome import Outcome
from packer_fork.packer.program import Program
from packer_fork.packer.signals import SignalWatch

_TICK = 0.05
_LOOK = 1.0
_SIGNALS_TO_KILL = 3
_LEFTOVERS = 5.0
"""Seconds that processes left behind by a Packer that has ended have to end by themselves."""

_UNSEEN = "Packer ran on the terminal itself: what it said is not on record."


def asks(flags: PackerFlags) -> bool:
    """Whether Packer with these flags will want to ask, and somebody is there to answer."""
    wants = flags.debug or flags.on_error == "ask"
    return wants and not flags.machine_readable and foreground.has_terminal()


def command(program: Program, flags: PackerFlags, template: str) -> tuple[str, ...]:
    return (program.path, "build", *flags.as_arguments(), template)


def attached(
    start: Start,
    recorder: Recorder,
    watch: SignalWatch,
    notify: Notify,
    started: Callable[[ProcessId], None],
) -> End:
    """Run Packer on the terminal to its end, and judge: no build of it is ever complete.

    ``start.command`` is that of `command`. Raises PackerError if it cannot be started.
    """
    with foreground.terminal_kept():
        packer = foreground.start(
            start.command,
            directory=start.directory,
            environ=_in_packers_words(start.environ),
            inherit=start.lock,
            marker=(MARKER, start.lock_id),
            die_with_parent=start.die_with_parent,
        )
        started(packer.identity)
        end = _Waiting(start, packer, recorder, watch, notify).to_the_end()
    recorder.outcome = judged(recorder.outcome, end, datetime.now(UTC))
    return end


def _in_packers_words(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Packer has a variable of its own for what everybody else calls NO_COLOR."""
    return {"PACKER_NO_COLOR": "1", **environ} if environ.get("NO_COLOR") else environ


class _Waiting:
    def __init__(
        self,
        start: Start,
        packer: ForegroundProcess,
        recorder: Recorder,
        watch: SignalWatch,
        notify: Notify,
    ) -> None:
        self._packer = packer
        self._recorder = recorder
        self._watch = watch
        self._notify = notify
        self._grace = start.grace
        self._until_lost = start.until_lost
        self._lost = False
        self._deadline = float("inf")
        self._heeded = 0
        self._look_at = 0.0

    def to_the_end(self) -> End:
        while (code := self._packer.poll()) is None:
            self._step()
        if code < 0 or self._heeded:
            self._end_leftovers(cleans_up=self._packer.outlived_by_inner())
        first = self._watch.signals[0] if self._watch.signals else 0
        code_on_record = code if code >= 0 else None
        return End(exit_code=code_on_record, died=code < 0, signal=first, lost=self._lost)

    def _step(self) -> None:
        self._watch.wait(_TICK)
        for number in self._watch.signals[self._heeded :]:
            self._heed(signal.Signals(number))
        if time.monotonic() > self._look_at:
            self._look_at = time.monotonic() + _LOOK
            if self._until_lost and self._recorder.is_lost and not self._lost:
                self._lost = True
                self._deadline = time.monotonic() + self._grace
                self._packer.terminate()
            self._recorder.look_at_lock()
        if time.monotonic() > self._deadline:
            self._kill("The time that Packer had to clean up is over")

    def _heed(self, number: signal.Signals) -> None:
        self._heeded += 1
        if self._heeded == 1:
            self._deadline = time.monotonic() + self._grace
        if number is not signal.SIGINT:  # that one Packer has got from the terminal as well
            self._packer.terminate()
        left = max(0.0, self._deadline - time.monotonic())
        self._notify(Cancelling(signal=number.name, signals=self._heeded, kill_in=left))
        if self._heeded == _SIGNALS_TO_KILL:
            self._kill("Told three times to end")

    def _kill(self, why: str) -> None:
        names = ", ".join(str(member.pid) for member in self._packer.members())
        self._notify(Notice(level="warning", text=f"{why}: killing its processes ({names})."))
        self._deadline = float("inf")
        self._packer.kill()

    def _end_leftovers(self, *, cleans_up: bool) -> None:
        self._packer.terminate_members()
        self._deadline = time.monotonic() + (self._grace if cleans_up else _LEFTOVERS)
        while self._packer.members():
            self._step()


def judged(outcome: Outcome, end: End, at: datetime) -> Outcome:
    """The verdict of a run that nobody saw: Packer's exit code is all there is."""
    status = {"cancelled": BuildStatus.CANCELLED, "interrupted": BuildStatus.INTERRUPTED}.get(
        end.how, BuildStatus.UNVERIFIED
    )
    builds = {name: _unseen(build, status, at) for name, build in outcome.builds.items()}
    return Outcome(_ended(outcome.run, end, at), builds)


def _unseen(build: Build, status: BuildStatus, at: datetime) -> Build:
    return structs.replace(
        build,
        status=status,
        ended=at,
        provisioners=_unknown(build.provisioners),
        post_processors=_unknown(build.post_processors),
        error=_UNSEEN,
    )


def _unknown(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(structs.replace(step, status=StepStatus.UNKNOWN) for step in steps)


def _ended(run: Run, end: End, at: datetime) -> Run:
    status, error = RunStatus.UNVERIFIED, ""
    if end.signal:
        status = RunStatus.CANCELLED
    elif end.died:
        status, error = RunStatus.INTERRUPTED, "Packer was killed on the terminal."
    elif end.exit_code:
        status, error = RunStatus.FAILED, f"Packer ended with exit code {end.exit_code}. {_UNSEEN}"
    return structs.replace(run, status=status, ended=at, exit_code=end.exit_code, error=error)
