"""A build as plain lines: for pipes, logs and CI, and for terminals that want no more."""

from __future__ import annotations

from datetime import UTC, datetime

from packer_fork import events
from packer_fork.locks import who
from packer_fork.model import Build, BuildStatus
from packer_fork.views import words
from packer_fork.views.console import Console

_PREFIX = "packer-fork: "


class PlainView:
    """Shows each event as it comes; with `machine_readable`, Packer's own lines for its texts."""

    def __init__(
        self,
        console: Console,
        *,
        machine_readable: bool = False,
        plan_is_answer: bool = False,
    ) -> None:
        self._console = console
        self._plan_is_answer = plan_is_answer
        self._machine_readable = machine_readable

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.Output():
                self._output(event)
            case events.MachineLine():
                if self._machine_readable:
                    self._console.say(event.line)
            case events.Notice():
                self._notice(event)
            case events.Waiting():
                self._tell(waiting(event))
            case events.Recovered():
                self._tell(recovered(event))
            case events.Planned():
                for line in planned(event):
                    if self._plan_is_answer:
                        self._console.say(line)
                    else:
                        self._tell(line)
            case events.RunStarted():
                names = ", ".join(event.run.builds) or "what Packer finds"
                workspace = f" in workspace {event.workspace}" * (event.workspace != "default")
                self._tell(f"run {event.run.number} of {event.template}{workspace}: {names}")
            case events.Cancelling():
                self._tell(cancelling(event), "warning")
            case events.RunEnded():
                self._ended(event)

    def _output(self, event: events.Output) -> None:
        if event.kind == "stderr":
            self._console.tell(event.text, "stderr")
        elif not self._machine_readable:
            self._console.say(event.text, event.kind)

    def _notice(self, event: events.Notice) -> None:
        label = f"{event.level}: " if event.level != "info" else ""
        self._tell(f"{label}{event.text}", event.level)
        if event.hint:
            self._tell(f"  {event.hint}")

    def _ended(self, event: events.RunEnded) -> None:
        run = event.run
        seconds = (run.ended - run.started).total_seconds() if run.ended else 0
        took = f" after {words.duration(seconds)}" if run.ended else ""
        self._tell(f"run {run.number} {run.status}{took}{f': {run.error}' if run.error else ''}")
        for build in event.builds:
            self._tell(f"  {summary(build)}")
        self._tell(f"  log: {event.log}")

    def _tell(self, text: str, style: str = "") -> None:
        self._console.tell(f"{_PREFIX}{text}", style)


def planned(event: events.Planned) -> list[str]:
    """What will be built, and why; nothing if only Packer knows."""
    if not event.builds:
        return []
    todo = sum(build.action is events.Action.BUILD for build in event.builds)
    done = len(event.builds) - todo
    head = (
        f"{event.template}: {todo} to build, {done} up to date"
        if todo
        else (f"{event.template}: everything is up to date, nothing to build")
    )
    said = [head, *(f"  {_plan_line(build)}" for build in event.builds)]
    return [*said, f"  {event.note}"] if event.note else said


def _plan_line(build: events.BuildPlan) -> str:
    if build.result is None or build.action is events.Action.BUILD:
        return f"{build.name}: build ({'; '.join(build.reasons)})"
    parts = [*build.reasons]
    if build.result.ended:
        parts.append(words.age(build.result.ended))
    if build.expires:
        left = (build.expires - datetime.now(UTC)).total_seconds()
        parts.append(f"expires in {words.duration(left)}")
    made = ", ".join(a.id or a.string for a in build.result.artifacts)
    return f"{build.name}: up to date ({', '.join(parts)}){f': {made}' if made else ''}"


def waiting(event: events.Waiting) -> str:
    left = words.duration(event.seconds_left)
    queue = f"{event.place} before us" if event.place else "next in the queue"
    said = [
        f"waiting up to {left} for the lock, {event.status.verdict} by {who(event.status)}",
        queue,
    ]
    said += [event.phase] if event.phase else []
    said += [f"about {words.duration(event.eta)} to go"] if event.eta is not None else []
    return "; ".join(said)


def recovered(event: events.Recovered) -> str:
    builds = ", ".join(f"{build.name} {build.status}" for build in event.builds)
    return f"recovered run {event.run.number} from its log: {builds or event.run.status}"


def cancelling(event: events.Cancelling) -> str:
    if event.signals == 1:
        return (
            f"{event.signal}: Packer is told to stop and to clean up, "
            f"and killed if it still runs in {words.duration(event.kill_in)}"
        )
    if event.signals == 2:
        return (
            f"{event.signal}: Packer is still cleaning up; a third signal kills it "
            "and may leave instances behind"
        )
    return f"{event.signal}: killing Packer"


def summary(build: Build) -> str:
    """One build in one line: what became of it, how long it took, what came out."""
    took = ""
    if build.started and build.ended:
        took = f" in {words.duration((build.ended - build.started).total_seconds())}"
    result = ""
    if build.status is BuildStatus.COMPLETE:
        result = ", ".join(artifact.id or artifact.string for artifact in build.artifacts)
    elif build.error:
        result = build.error.splitlines()[0]
    return f"{build.name}: {build.status}{took}{f': {result}' if result else ''}"
