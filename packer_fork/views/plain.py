"""A build as plain lines: for pipes, logs and CI, and for terminals that want no more."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from packer_fork import events, failures
from packer_fork.locks import Status, advice, who
from packer_fork.model import Build, BuildStatus, Run, WorkItem
from packer_fork.views import words
from packer_fork.views.console import Console, StyledLine
from packer_fork.views.document import one_line
from packer_fork.views.output import FAILED, Transcript
from packer_fork.views.tables import Cell, TableRow, header, row, table
from packer_fork.views.verbosity import Verbosity, is_shown

_PREFIX = "packer-fork: "
_HASHING = 3.0
"""Seconds of hashing before the first line about it; the next ones after twice as many."""

_OF_LATE = ("lineage", "run", "item", "builds", "inputs")
"""What of a Kept event makes a document that `state recover` takes."""


_LISTED = 3
"""Untracked inputs that one line names."""


class PlainView:
    """Shows each event as it comes; with `machine_readable`, Packer's own lines for its texts.

    An event is shown by the method that is named for its tag; those without are not shown.
    """

    def __init__(
        self,
        console: Console,
        *,
        verbosity: Verbosity = Verbosity.ALL,
        machine_readable: bool = False,
        plan_is_answer: bool = False,
    ) -> None:
        """`plan_is_answer`: the plan is what was asked for, so that it goes to stdout."""
        self._console = console
        self._verbosity = verbosity
        self._plan_is_answer = plan_is_answer
        self._machine_readable = machine_readable
        self._hashing = _HASHING
        self.transcript = Transcript()
        self._builds: tuple[str, ...] = ()
        """Those of the run."""
        self._log = ""

    def __call__(self, event: events.Event) -> None:
        show = getattr(self, f"_on_{event.__struct_config__.tag}", None)
        is_wanted = is_shown(self._verbosity, event)
        if isinstance(event, events.Output):
            self.transcript.add(event, is_shown=is_wanted)
        if show is not None and is_wanted:
            show(event)

    def _on_output(self, event: events.Output) -> None:
        if event.kind == "stderr":
            self._console.tell(event.text, "stderr")
        elif not self._machine_readable:
            self._console.say(event.text, event.kind)

    def _on_machine_line(self, event: events.MachineLine) -> None:
        if self._machine_readable:
            self._console.say(event.line)

    def _on_notice(self, event: events.Notice) -> None:
        if event.level != "info":
            self._console.problem(event.text, event.hint, event.level)
            return
        self._tell(event.text)
        if event.hint:
            self._tell(f"  hint: {event.hint}")

    def _on_hashing(self, event: events.Hashing) -> None:
        if event.seconds >= self._hashing:
            self._hashing = 2 * event.seconds
            self._tell(hashing(event))

    def _on_waiting(self, event: events.Waiting) -> None:
        self._tell(waiting(event))

    def _on_recovered(self, event: events.Recovered) -> None:
        self._tell(recovered(event))

    def _on_planned(self, event: events.Planned) -> None:
        for line in planned(event, self._console.width if self._plan_is_answer else None):
            if self._plan_is_answer:
                self._console.say(line)
            else:
                self._tell(line)

    def _on_run_started(self, event: events.RunStarted) -> None:
        self._builds = event.run.builds
        names = ", ".join(event.run.builds) or "what Packer finds"
        workspace = f" in workspace {event.workspace}" * (event.workspace != "default")
        self._tell(f"run {event.run.number} of {event.template}{workspace}: {names}")

    def _on_item_started(self, event: events.ItemStarted) -> None:
        item = event.item
        if not self._is_whole(item):
            self._tell_log_of_first_item()
            attempt = f", attempt {item.attempt}" if item.attempt > 1 else ""
            self._tell(f"item {item.key}{attempt}: {', '.join(item.sources)}")

    def _on_item_ended(self, event: events.ItemEnded) -> None:
        """An item that is the whole run is told at the end of the run."""
        item = event.item
        if self._is_whole(item):
            self._log = event.log
            return
        self._tell(f"item {_ended(item.key, item)}")
        for build in event.builds:
            self._tell(f"  {summary(build)}")
        self._tell(f"  log: {event.log}")

    def _tell_log_of_first_item(self) -> None:
        """A retry makes a second item, so that the log at the end is no longer that of the run."""
        if self._log:
            self._tell(f"  log: {self._log}")
        self._log = ""

    def _on_kept(self, event: events.Kept) -> None:
        """On stdout as a document, so that a CI job whose disk goes with it still has them."""
        if event.path:
            way = f"bring them into the history with `packer-fork state recover {event.path}`"
            self._console.problem(f"{event.why}; the results are kept in {event.path}", way)
        else:
            self._console.problem(f"{event.why}; the results could not be kept in a file")
        if not self._machine_readable:
            self._console.say(one_line({name: getattr(event, name) for name in _OF_LATE}))

    def _on_cancelling(self, event: events.Cancelling) -> None:
        self._tell(cancelling(event), "warning")

    def _on_run_ended(self, event: events.RunEnded) -> None:
        run = event.run
        self._tell(f"run {_ended(str(run.number), run)}")
        for build in event.builds:
            by = f" (by {build.by})" if build.by and build.by != run.by else ""
            self._tell(f"  {summary(build)}{by}")
            if build.status in FAILED:
                for line in self.transcript.likely(build.name):
                    self._tell(f"    {line}")
        if self._log:
            self._tell(f"  log: {self._log}")

    def _on_elsewhere(self, event: events.Elsewhere) -> None:
        self._tell(elsewhere(event))

    def _is_whole(self, item: WorkItem) -> bool:
        """Whether `item` is all that its run does."""
        return item.attempt == 1 and set(self._builds) <= set(item.sources)

    def _tell(self, text: str, style: str = "") -> None:
        self._console.tell(f"{_PREFIX}{text}", style)


def planned(event: events.Planned, width: int | None = None) -> list[str | StyledLine]:
    """What will be built, and why: a line for each build or, with a width, a table.

    ``note`` says why no build is known by name.
    """
    if not event.builds:
        return [f"{event.template}: {event.note}"]
    todo = sum(build.action is events.Action.BUILD for build in event.builds)
    done = len(event.builds) - todo
    head = (
        f"{event.template}: {todo} to build, {done} up to date"
        if todo
        else (f"{event.template}: everything is up to date, nothing to build")
    )
    said: list[str | StyledLine] = [head]
    if width is None:
        said += [f"  {_plan_line(build)}" for build in event.builds]
    else:
        rows = [header("BUILD", "ACTION", "WHY", "ARTIFACTS"), *map(_plan_row, event.builds)]
        said += table(rows, width, indent=2)
    said += [f"  {event.note}"] if event.note else []
    return [*said, f"  {_not_tracked(event)}"] if event.untracked else said


def _not_tracked(event: events.Planned) -> str:
    listed = ", ".join(event.untracked[:_LISTED])
    more = len(event.untracked) - _LISTED
    shown = f"{listed} and {more} more" if more > 0 else listed
    return f"not tracked: {shown}; see `packer-fork inputs {shlex.quote(event.template)}`"


def _plan_line(build: events.BuildPlan) -> str:
    action, why, made = _plan(build)
    return f"{build.name}: {action} ({why}){f': {made}' if made else ''}"


def _plan_row(build: events.BuildPlan) -> TableRow:
    action, why, made = _plan(build)
    return row(build.name, Cell(action, "active" if action == "build" else "minor"), why, made)


def _plan(build: events.BuildPlan) -> tuple[str, str, str]:
    """What becomes of it, why, and the artifacts that stay."""
    if build.result is None or build.action is events.Action.BUILD:
        return "build", "; ".join(build.reasons), ""
    parts = [*build.reasons]
    if build.result.ended:
        parts.append(words.age(build.result.ended))
    if build.expires:
        left = (build.expires - datetime.now(UTC)).total_seconds()
        parts.append(f"expires in {words.duration(left)}")
    return "up to date", ", ".join(parts), words.artifacts(build.result.artifacts)


def hashing(event: events.Hashing) -> str:
    return f"hashing inputs: {words.size(event.done)} of {words.size(event.total)}"


def waiting(event: events.Waiting) -> str:
    left = words.duration(event.seconds_left)
    queue = f"{event.place} before us" if event.place else "next in the queue"
    said = [
        f"waiting up to {left} for the lock, {event.status.status} by {who(event.status)}",
        queue,
    ]
    said += [event.phase] if event.phase else []
    said += [advice(event.status)] if event.status.status is Status.ORPHANED else []
    said += [f"about {words.duration(event.eta)} to go"] if event.eta is not None else []
    return "; ".join(said)


def recovered(event: events.Recovered) -> str:
    builds = ", ".join(f"{build.name} {build.status}" for build in event.builds)
    return f"recovered run {event.run.number} from its log: {builds or event.run.status}"


def elsewhere(event: events.Elsewhere) -> str:
    build = event.build
    if not build.status.is_final:
        return f"{build.name}: begun by {build.by}"
    return f"{summary(build)} (by {build.by})"


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
        result = words.artifacts(build.artifacts)
    else:
        result = failures.cause(build)
    return f"{build.name}: {build.status}{took}{f': {result}' if result else ''}"


def _ended(name: str, ended: Run | WorkItem) -> str:
    seconds = (ended.ended - ended.started).total_seconds() if ended.ended else 0
    took = f" after {words.duration(seconds)}" if ended.ended else ""
    error = f": {ended.error.splitlines()[0]}" if ended.error.strip() else ""
    return f"{name} {ended.status}{took}{error}"
