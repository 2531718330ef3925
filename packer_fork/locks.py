"""The lock record, and what is known of a lock: types without I/O.

A lock is a list of participants; an exclusive lock has one. Its token is the fencing
token: it grows with every acquisition. A change carries token and participant, and is
refused once the lock record no longer lists that participant under that token.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from packer_fork.model import Actor, CiJob

MARKER = "PACKER_FORK_LOCK_ID"
"""Environment variable of a participant's Packer processes; its value is the participant's ID."""


PACKER_BUILD = "packer build"
"""The command of a process that is Packer itself."""


class Status(StrEnum):
    """The status of a lock or of one participant; only ``abandoned`` proves that none lives."""

    FREE = "free"
    HELD = "held"
    ORPHANED = "orphaned"
    ABANDONED = "abandoned"
    UNKNOWN = "unknown"


class ProcessId(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A process that cannot be mistaken for another: pid, start, boot and PID namespace.

    ``started`` is in clock ticks since boot (field 22 of /proc/PID/stat); 0 where
    the system does not tell.
    """

    pid: int
    started: int = 0
    boot: str = ""
    namespace: str = ""


class Holder(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who asks for the lock, and for what."""

    operation: str
    by: Actor
    process: ProcessId
    command: tuple[str, ...] = ()
    directory: str = ""
    template: str = ""
    workspace: str = "default"
    ci: CiJob | None = None
    only: tuple[str, ...] = ()


class Participant(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One holder of a lock. ``id`` names it to an operator.

    ``packer`` is the session of the Packer process that it started last.
    """

    number: int
    id: str
    holder: Holder
    joined: datetime
    packer: ProcessId | None = None


class Claim(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A source that one participant builds. ``number`` only grows; it names the work item.

    The claim of the source "" is the right to conclude the run.
    """

    number: int
    source: str
    participant: int
    since: datetime


class Stop(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why no participant continues: one of them stopped the run for all."""

    at: datetime
    by: Actor
    why: str


class Release(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of a lock: ``why`` is empty if its last participant released it."""

    at: datetime
    by: Actor
    why: str = ""


class LockRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The lock, as the store keeps it. A released one keeps its last participants.

    ``max_participants``: how many it admits, 1 for an exclusive lock.
    ``lease``: seconds that a participant's lease lasts without a renewal, 0 without leases.
    ``served``: the highest ticket that ever got the lock, where tickets are numbered.
    ``inputs``: fingerprint of what the participants build; "" admits no others. ``wanted``:
    all sources that any participant wants; ``done``: those that are built or failed for good.
    ``concluded``: nobody claims or joins any more.
    """

    version: int = 1
    id: str
    token: int
    participants: Annotated[tuple[Participant, ...], Meta(min_length=1)]
    participants_ever: int = 1
    max_participants: int = 1
    created: datetime
    run: int = 0
    served: int = 0
    lease: float = 0.0
    inputs: str = ""
    wanted: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    claims_ever: int = 0
    stop: Stop | None = None
    concluded: bool = False
    released: Release | None = None

    @property
    def first(self) -> Participant:
        """The participant that holds the lock for the longest time."""
        return self.participants[0]

    def lists(self, number: int) -> bool:
        """Whether the lock is held, and that participant holds it."""
        return self.released is None and any(each.number == number for each in self.participants)


class LiveProcess(Struct, frozen=True, kw_only=True):
    """A live process of one participant; ``how`` says by what it was recognised."""

    pid: int
    command: str
    how: str
    participant: int


class Waiter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A process in the queue; without a holder where its ticket cannot be read."""

    holder: Holder | None = None
    since: datetime | None = None


class Wait(Struct, frozen=True, kw_only=True):
    """How a lock was acquired: seconds waited, and how many were ahead on arrival.

    ``taken`` is when, in seconds of this machine's monotonic clock.
    """

    seconds: float = 0.0
    ahead: int = 0
    taken: float = 0.0


class ParticipantStatus(Struct, frozen=True, kw_only=True):
    """Whether one participant lives, and what proves it."""

    participant: Participant
    status: Status
    evidence: str


class LockStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The status of a lock, with its proof. ``id`` names also an unreadable record."""

    status: Status
    id: str = ""
    record: LockRecord | None = None
    evidence: tuple[str, ...] = ()
    processes: tuple[LiveProcess, ...] = ()
    waiters: tuple[Waiter, ...] = ()
    participants: tuple[ParticipantStatus, ...] = ()
    error: str = ""


def who(status: LockStatus, participant: Participant | None = None) -> str:
    """Whose lock it is, in half a sentence: who, as what, since when (UTC).

    By default its first participant.
    """
    record = status.record
    if record is None:
        return f"a holder whose record cannot be read (lock {status.id})"
    participant = participant or record.first
    holder, since = participant.holder, f"{participant.joined:%Y-%m-%d %H:%M:%S} UTC"
    run = f", run {record.run}" if record.run else ""
    return f"{holder.by} (pid {holder.process.pid}, {holder.operation}{run}) since {since}"


def packer_lives(status: LockStatus) -> bool:
    """Whether a Packer process itself still runs, not only its plugins and scripts."""
    return any(process.command == PACKER_BUILD for process in status.processes)


def advice(status: LockStatus) -> str:
    """The one command that helps, or what to wait for; "" for a free lock.

    `status` must have its processes.
    """
    unlock = f"packer-fork force-unlock {status.id}"
    match status.status:
        case Status.HELD:
            return _advice_on_holders(status, unlock)
        case Status.ORPHANED if packer_lives(status):
            return (
                "wait, Packer finishes and the next build takes its results over; "
                f"if it hangs: {unlock} --kill"
            )
        case Status.ORPHANED:
            return f"{unlock} --kill   (Packer is gone, processes that it left hold the lock)"
        case Status.ABANDONED:
            return f"{unlock}   (or just build: it is taken over)"
        case Status.UNKNOWN:
            return f"if you know that nobody uses it: {unlock}"
        case Status.FREE:
            pids = " ".join(str(process.pid) for process in status.processes)
            return f"kill {pids}   (leaked by the last run)" if pids else ""


def _advice_on_holders(status: LockStatus, unlock: str) -> str:
    """The dead need no help; a participant that hangs is removed alone."""
    if len(status.participants) > 1:
        return (
            "wait for it, what a dead participant had is built by others; if one hangs: "
            f"packer-fork force-unlock PARTICIPANT --kill there, or --allow-live from here; "
            f"all: {status.id}"
        )
    way = f"wait for it; if it hangs: {unlock} --kill"
    if status.record is None or not status.record.lease or status.processes:
        return way
    return (
        f"{way} on {status.record.first.holder.by.host}, or with --allow-live from here; "
        "if that machine is gone, the lease ends by itself"
    )


def lost(now: LockRecord | None, ours: LockRecord) -> str:
    """Why a lock is lost, in a sentence; `now` is the record as it was found."""
    if now is None or now.token < ours.token:
        return f"The lock {ours.id} is gone: its record was removed or damaged."
    if now.id == ours.id and now.released is None:
        return f"This machine was removed from the lock {ours.id}: others go on with it."
    by = now.released.by if now.released and now.token == ours.token else now.first.holder.by
    return f"The lock {ours.id} (token {ours.token}) was taken by {by}."
