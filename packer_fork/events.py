"""All that a view may learn while something goes on: a tagged union of Structs.

The manager sends them one way, up; ``--json`` prints them one per line, so their
fields are a contract. Texts are masked already, but not yet made safe for a terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec import Struct

from packer_fork.locks import LockStatus
from packer_fork.model import Build, Result, Run, WorkItem


class Action(StrEnum):
    BUILD = "build"
    UP_TO_DATE = "up_to_date"


class Event(Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=True):
    """Base of all events."""


class Notice(Event, frozen=True, tag="notice"):
    """Something the user should know; ``level`` is ``info``, ``warning`` or ``error``."""

    level: str
    text: str
    hint: str = ""


class Failed(Event, frozen=True, tag="failed"):
    """Nothing was run, or it could not go on; the last event."""

    text: str
    exit_code: int
    hint: str = ""


class Hashing(Event, frozen=True, tag="hashing"):
    """Files are hashed, for longer than a second: bytes ``done`` of ``total`` as far as that is
    known, ``seconds`` that it took so far.
    """

    done: int
    total: int
    seconds: float


class Waiting(Event, frozen=True, tag="waiting"):
    """The lock is held by somebody else; told at the start and when anything changes.

    ``place`` is how many wait before us; ``phase`` what the holder is at, and ``eta``
    how many seconds it will need, as far as past runs tell.
    """

    status: LockStatus
    seconds_left: float
    place: int = 0
    phase: str = ""
    eta: float | None = None


class LockTaken(Event, frozen=True, tag="lock_taken"):
    token: int
    lock_id: str
    waited: float


class Recovered(Event, frozen=True, tag="recovered"):
    """A run whose wrapper had died was finished from its log."""

    run: Run
    builds: tuple[Build, ...]


class BuildPlan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to become of one build. ``result``: the complete run that it rests on; ``after``:
    builds whose artifacts it reads: those that are built are built before it.
    """

    name: str
    action: Action
    reasons: tuple[str, ...]
    result: Result | None = None
    expires: datetime | None = None
    after: tuple[str, ...] = ()


class Planned(Event, frozen=True, tag="planned"):
    """What will be built, and why; ``note`` says why it is more than need be, or unknown.

    ``untracked``: base images whose change nothing would notice, with their places.
    """

    template: str
    workspace: str
    builds: tuple[BuildPlan, ...]
    note: str = ""
    untracked: tuple[str, ...] = ()


class RunStarted(Event, frozen=True, tag="run_started"):
    """A run is on record, or was joined.

    ``usual``: seconds that builds took in the median of their complete runs before.
    """

    run: Run
    template: str
    workspace: str
    usual: dict[str, float] = {}


class ItemStarted(Event, frozen=True, tag="item_started"):
    """A work item of the run is on record; its Packer is started next."""

    item: WorkItem


class ItemEnded(Event, frozen=True, tag="item_ended"):
    """What a work item came to; ``log`` is the path of its log."""

    item: WorkItem
    builds: tuple[Build, ...]
    log: str


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


class Elsewhere(Event, frozen=True, tag="elsewhere"):
    """A build of the shared run ``run`` was begun, or has ended, on another machine."""

    run: int
    build: Build


class Cancelling(Event, frozen=True, tag="cancelling"):
    """``signals`` is how many came so far; Packer's session is killed ``kill_in`` seconds on."""

    signal: str
    signals: int
    kill_in: float


class Kept(Event, frozen=True, tag="kept"):
    """Results that are not in the state: they are in a file, to be replayed.

    ``path`` is empty where no file could be made. ``is_mergeable``: the state that they belong
    to is still there. ``lineage``, ``run``, ``item``, ``builds`` and ``inputs`` are what the
    file holds.
    """

    path: str
    why: str
    is_mergeable: bool
    lineage: str
    run: Run
    item: WorkItem
    builds: dict[str, Build]
    inputs: dict[str, msgspec.Raw]


class RunEnded(Event, frozen=True, tag="run_ended"):
    """The last event of a build that began a run, or joined one."""

    run: Run
    builds: tuple[Build, ...]
    exit_code: int


Notify = Callable[[Event], None]
