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


class Notice(Event, frozen=True, tag="notice"):
    """Something the user should know; ``level`` is ``info``, ``warning`` or ``error``."""

    level: str
    text: str
    hint: str = ""


class Waiting(Event, frozen=True, tag="waiting"):
    """The lock is held by somebody else; told at the start and when anything changes.

    ``place`` is how many wait before us.
    """

    status: LockStatus
    seconds_left: float
    place: int = 0


class LockTaken(Event, frozen=True, tag="lock_taken"):
    tenure: int
    lock_id: str
    waited: float


class Recovered(Event, frozen=True, tag="recovered"):
    """A run whose wrapper had died was finished from its log."""

    run: Run
    builds: tuple[Build, ...]


class RunStarted(Event, frozen=True, tag="run_started"):
    run: Run
    template: str
    workspace: str


class Output(Event, frozen=True, tag="output"):
    """A text of Packer; ``kind`` is ``say``, ``message``, ``error`` or ``stderr``."""

    at: datetime
    kind: str
    text: str
    build: str = ""


class MachineLine(Event, frozen=True, tag="machine_line"):
    """One of Packer's own machine-readable lines, masked, otherwise as it came."""

    line: str


class BuildChanged(Event, frozen=True, tag="build_changed"):
    """A build entered another phase, or another step of it began or ended."""

    build: Build


class Cancelling(Event, frozen=True, tag="cancelling"):
    """``signals`` is how many came so far; Packer's session is killed ``kill_in`` seconds on."""

    signal: str
    signals: int
    kill_in: float


class RunEnded(Event, frozen=True, tag="run_ended"):
    run: Run
    builds: tuple[Build, ...]
    log: str
    exit_code: int


Notify = Callable[[Event], None]
