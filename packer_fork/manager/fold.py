"""A whole raw log folded at once, of which nothing is committed on the way."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from msgspec import structs

from packer_fork.manager.runlog import LogFiles
from packer_fork.model import Run, RunStatus
from packer_fork.packer import lines, outcome
from packer_fork.packer.outcome import Outcome
from packer_fork.packer.sources import event_of
from packer_fork.packer.tail import Tail


def unended(run: Run) -> Run:
    """The run as if nobody had ended it yet."""
    return structs.replace(
        run,
        status=RunStatus.RUNNING,
        ended=None,
        exit_code=None,
        error="",
        cancelled=False,
        closed=False,
        log_offset=0,
        recovered=None,
    )


def of_log(start: Outcome, files: LogFiles) -> Outcome:
    """What Packer came to, by all that it wrote; its exit code is not known."""
    found, rest = start, b""
    with contextlib.suppress(FileNotFoundError), Tail(files.raw, 0) as tail:
        while data := tail.read():
            whole, rest = lines.split(rest + data)
            for raw in whole:
                line = lines.parse(raw)
                found = (
                    found
                    if line is None
                    else outcome.apply(found, event_of(found.run.builds, line))
                )
    return outcome.conclude(found, at=datetime.now(UTC), exit_code=None, ended="interrupted")
