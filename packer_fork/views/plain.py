"""A build as plain lines: for pipes, logs and CI, and for terminals that want no more."""

from __future__ import annotations

from packer_fork import events
from packer_fork.model import Run, WorkItem
from packer_fork.views import sentences, words
from packer_fork.views.amount import Amount, is_told
from packer_fork.views.console import Console
from packer_fork.views.document import one_line

_PREFIX = "packer-fork: "
_HASHING = 3.0
"""Seconds of hashing before the first line about it; the next ones after twice as many."""

_OF_LATE = ("lineage", "run", "item", "builds", "inputs")
"""What of a Kept event makes a document that `state replay` takes."""


class PlainView:
    """Shows each event as it comes; with `machine_readable`, Packer's own lines for its texts.

    An event is shown by the method that is named for its tag; those without are not shown.
    """

    def __init__(
        self,
        console: Console,
        *,
        amount: Amount = Amount.ALL,
        machine_readable: bool = False,
        plan_is_answer: bool = False,
    ) -> None:
        """`plan_is_answer`: the plan is what was asked for, so that it goes to stdout."""
        self._console = console
        self._amount = amount
        self._plan_is_answer = plan_is_answer
        self._machine_readable = machine_readable
        self._hashing = _HASHING
        self._builds: tuple[str, ...] = ()
        """Those of the run."""
        self._log = ""

    def __call__(self, event: events.Event) -> None:
        show = getattr(self, f"_on_{event.__struct_config__.tag}", None)
        if show is not None and is_told(self._amount, event):
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
        label = f"{event.level}: " if event.level != "info" else ""
        self._tell(f"{label}{event.text}", event.level)
        if event.hint:
            self._tell(f"  {event.hint}")

    def _on_hashing(self, event: events.Hashing) -> None:
        if event.seconds >= self._hashing:
            self._hashing = 2 * event.seconds
            self._tell(sentences.hashing(event))

    def _on_waiting(self, event: events.Waiting) -> None:
        self._tell(sentences.waiting(event))

    def _on_recovered(self, event: events.Recovered) -> None:
        self._tell(sentences.recovered(event))

    def _on_planned(self, event: events.Planned) -> None:
        for line in sentences.planned(event):
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
            self._tell(f"  {sentences.summary(build)}")
        self._tell(f"  log: {event.log}")

    def _on_kept(self, event: events.Kept) -> None:
        """On stdout as a document, so that a CI job whose disk goes with it still has them."""
        if event.path:
            self._tell(f"error: {event.why}; the results are kept in {event.path}.", "error")
            way = f"packer-fork state replay {event.path}"
            self._tell(f"  Bring them into the history with: {way}")
        else:
            self._tell(f"error: {event.why}; the results could not be kept in a file.", "error")
        if not self._machine_readable:
            self._console.say(one_line({name: getattr(event, name) for name in _OF_LATE}))

    def _on_cancelling(self, event: events.Cancelling) -> None:
        self._tell(sentences.cancelling(event), "warning")

    def _on_run_ended(self, event: events.RunEnded) -> None:
        run = event.run
        self._tell(f"run {_ended(str(run.number), run)}")
        for build in event.builds:
            by = f" (by {build.by})" if build.by and build.by != run.by else ""
            self._tell(f"  {sentences.summary(build)}{by}")
        if self._log:
            self._tell(f"  log: {self._log}")

    def _on_elsewhere(self, event: events.Elsewhere) -> None:
        self._tell(sentences.elsewhere(event))

    def _is_whole(self, item: WorkItem) -> bool:
        """Whether `item` is all that its run does."""
        return item.attempt == 1 and set(self._builds) <= set(item.sources)

    def _tell(self, text: str, style: str = "") -> None:
        self._console.tell(f"{_PREFIX}{text}", style)


def _ended(name: str, ended: Run | WorkItem) -> str:
    seconds = (ended.ended - ended.started).total_seconds() if ended.ended else 0
    took = f" after {words.duration(seconds)}" if ended.ended else ""
    error = f": {ended.error.splitlines()[0]}" if ended.error.strip() else ""
    return f"{name} {ended.status}{took}{error}"
