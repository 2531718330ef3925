"""What a lock says of itself: holder, record, verdict and its proof. No I/O.

A tenure is one holding of the lock. Its number is the fencing token: it only
grows, every change carries it, and a change of a closed tenure is refused.
"""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from packer_fork.model import Actor, CiJob

MARKER = "PACKER_FORK_LOCK_ID"
"""Environment variable by which the processes of a tenure's Packer are recognised."""


class Verdict(StrEnum):
    """What is known of a lock; only ``abandoned`` is a proof that nobody lives."""

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


class Closing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a tenure ended: by itself, or at somebody else's word."""

    at: datetime
    by: Actor
    why: str = ""


class Member(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of those that hold a shared lock; ``id`` names it to an operator.

    ``packer`` is the session of the Packer that it started last.
    """

    number: int
    id: str
    holder: Holder
    joined: datetime
    packer: ProcessId | None = None


class Claim(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A source in the hands of one member: the tenure of a scope within the lock.

    ``number`` is its fencing token: it only grows, and names the part of the run.
    """

    number: int
    source: str
    member: int
    since: datetime


class Stop(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why no member shall go on: one gave up for all."""

    at: datetime
    by: Actor
    why: str


class Share(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the members of a shared lock have in common (see ``sharing``).

    ``inputs`` is the fingerprint of what they build, "" while that is not known yet; ``run``
    its number; ``wanted`` are all sources that any of them wants, ``done`` those that are
    built or have failed for good. ``members_ever`` and
    ``claims_ever`` are the highest numbers that were given out. ``concluded``: nothing is
    left to be claimed, nobody joins any more.
    """

    members: tuple[Member, ...]
    claims: tuple[Claim, ...] = ()
    inputs: str = ""
    run: int = 0
    wanted: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    members_ever: int = 0
    claims_ever: int = 0
    stop: Stop | None = None
    concluded: bool = False


class LockRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The current tenure, as it stands in the store.

    ``packer`` is the session that Packer runs in, once it was started; ``served`` is
    the highest ticket of the queue that ever got the lock, where tickets are numbered;
    ``lease`` is how many seconds it lasts without being renewed, where it does not last.
    ``share``: it is held by many at once, of whom ``holder`` was the first.
    """

    version: int = 1
    id: str
    tenure: int
    holder: Holder
    created: datetime
    run: int | None = None
    packer: ProcessId | None = None
    served: int = 0
    lease: float = 0.0
    share: Share | None = None
    closed: Closing | None = None


class LiveProcess(Struct, frozen=True, kw_only=True):
    """A process of a tenure that still lives; ``how`` says by what it was recognised."""

    pid: int
    command: str
    how: str


class Waiter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody in the queue; without a holder where the ticket cannot be read."""

    holder: Holder | None = None
    since: datetime | None = None


class Wait(Struct, frozen=True, kw_only=True):
    """How a tenure was come by: seconds waited, and how many were ahead on arrival.

    ``taken`` is when, in seconds of this machine's monotonic clock.
    """

    seconds: float = 0.0
    ahead: int = 0
    taken: float = 0.0


class MemberStatus(Struct, frozen=True, kw_only=True):
    """Whether a member of a shared lock lives, and the proof."""

    member: Member
    verdict: Verdict
    proof: str


class LockStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A verdict with its proof. ``id`` names the lock to force-unlock, also an unreadable one."""

    verdict: Verdict
    id: str = ""
    record: LockRecord | None = None
    proof: tuple[str, ...] = ()
    processes: tuple[LiveProcess, ...] = ()
    waiters: tuple[Waiter, ...] = ()
    members: tuple[MemberStatus, ...] = ()
    error: str = ""


def who(status: LockStatus) -> str:
    """Whose lock it is, in half a sentence: who, as what, since when (UTC)."""
    if status.record is None:
        return f"somebody whose record cannot be read (lock {status.id})"
    record = status.record
    run = f", run {record.run}" if record.run else ""
    process = f"pid {record.holder.process.pid}, {record.holder.operation}{run}"
    return f"{record.holder.by} ({process}) since {record.created:%Y-%m-%d %H:%M:%S} UTC"


def lost(now: LockRecord | None, ours: LockRecord) -> str:
    """Why a tenure is open no more, in a sentence; `now` is the record as it was found."""
    if now is None or now.tenure < ours.tenure:
        return f"The lock {ours.id} is gone: its record was removed or damaged."
    if now.id == ours.id and now.closed is None:
        return f"What this machine had of the lock {ours.id} was given to others."
    by = now.closed.by if now.closed and now.tenure == ours.tenure else now.holder.by
    return f"The lock {ours.id} (tenure {ours.tenure}) was closed by {by}."
