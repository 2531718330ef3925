"""All that a view may learn while something goes on: a tagged union of Structs.

The manager sends them one way, up; ``--json`` prints them one per line, so their
fields are a contract. Texts are masked already, but not yet made safe for a terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from msgspec import Struct

from packer_fork.locks import LockStatus
from packer_fork.model import Build, Run


class Event(Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=True):
    """Base of all events."""


class Notice(Event, tag="notice"):
    """Something the user should know; ``level`` is ``info``, ``warning`` or ``error``."""

    level: str
    text: str
    hint: str = ""


class Waiting(Event, tag="waiting"):
    """The lock is held by somebody else; told at the start and when anything changes."""

    status: LockStatus
    seconds_left: float


class LockTaken(Event, tag="lock_taken"):
    tenure: int
    lock_id: str
    waited: float


class Recovered(Event, tag="recovered"):
    """A run whose wrapper had died was finished from its log."""

    run: Run
    builds: tuple[Build, ...]


class RunStarted(Event, tag="run_started"):
    run: Run
    template: str
    workspace: str


class Output(Event, tag="output"):
    """A text of Packer; ``kind`` is ``say``, ``message``, ``error`` or ``stderr``."""

    at: datetime
    kind: str
    text: str
    build: str = ""


class MachineLine(Event, tag="machine_line"):
    """One of Packer's own machine-readable lines, masked, otherwise as it came."""

    line: str


class BuildChanged(Event, tag="build_changed"):
    """A build entered another phase, or another step of it began or ended."""

    build: Build


class Cancelling(Event, tag="cancelling"):
    """``signals`` is how many came so far; Packer's session is killed ``kill_in`` seconds on."""

    signal: str
    signals: int
    kill_in: float


class RunEnded(Event, tag="run_ended"):
    run: Run
    builds: tuple[Build, ...]
    log: str
    exit_code: int


Notify = Callable[[Event], None]
