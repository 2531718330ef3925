"""How a lock changes hands: pure functions from one lock record to the next.

Participants join and leave, and claim sources one by one. Nobody else builds a claimed
source until it is returned or completed, or until its participant is dead. A step returns
None where it is not allowed; a store carries out one step at a time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from msgspec import structs

from packer_fork.locks import (
    Claim,
    Holder,
    LockRecord,
    LockStatus,
    Participant,
    ParticipantStatus,
    ProcessId,
    Release,
    Status,
    Stop,
)
from packer_fork.model import Actor

MOST_PARTICIPANTS = 32
"""Participants at a time; servers bound how many keys one transaction may touch."""

MOST_SOURCES = 1000
"""Sources of one shared run: each step writes all of them with the lock record."""

Step = Callable[[LockRecord, frozenset[int]], LockRecord | None]
"""From a lock record, and the numbers of its dead participants, to the next record."""


def acquire(
    holder: Holder, *, token: int, max_participants: int, served: int = 0, lease: float = 0.0
) -> LockRecord:
    """A new lock with one participant; it admits no other before it is opened."""
    lock_id = str(uuid.uuid4())
    first = _participant(lock_id, 1, holder)
    return LockRecord(
        id=lock_id,
        token=token,
        participants=(first,),
        max_participants=max_participants,
        created=first.joined,
        served=served,
        lease=lease,
    )


def _participant(lock_id: str, number: int, holder: Holder) -> Participant:
    now = datetime.now(UTC)
    return Participant(number=number, id=f"{lock_id}-{number}", holder=holder, joined=now)


def admit(record: LockRecord, *, inputs: str, run: int, wanted: tuple[str, ...]) -> LockRecord:
    """From now on, a build of the same inputs may join."""
    return structs.replace(record, inputs=inputs, run=run, wanted=wanted)


def admits(record: LockRecord) -> bool:
    """Whether others may join."""
    is_over = record.released or record.stop or record.concluded
    return bool(record.inputs) and not is_over


def join(
    record: LockRecord, holder: Holder, inputs: str, dead: frozenset[int]
) -> LockRecord | None:
    """With one more participant, the last of ``participants``."""
    alive = [each for each in record.participants if each.number not in dead]
    if not admits(record) or record.inputs != inputs:
        return None
    if not alive or len(record.participants) >= record.max_participants:
        return None
    number = record.participants_ever + 1
    newest = _participant(record.id, number, holder)
    return structs.replace(
        record, participants=(*record.participants, newest), participants_ever=number
    )


def remove(record: LockRecord, numbers: frozenset[int]) -> LockRecord:
    """Without these participants and their claims; others must remain."""
    return structs.replace(
        record,
        participants=tuple(p for p in record.participants if p.number not in numbers),
        claims=tuple(claim for claim in record.claims if claim.participant not in numbers),
    )


def leave(record: LockRecord, number: int, by: Actor) -> LockRecord:
    """Without that participant; the last one releases the lock."""
    if len(record.participants) > 1:
        return remove(record, frozenset({number}))
    return release(record, by)


def release(record: LockRecord, by: Actor, why: str = "") -> LockRecord:
    """Held by nobody any more."""
    return structs.replace(record, released=Release(at=datetime.now(UTC), by=by, why=why))


def note(
    record: LockRecord, number: int, *, run: int, packer: ProcessId | None = None
) -> LockRecord:
    """With the run's number, and the session of the Packer that the participant started last."""
    participants = (
        structs.replace(each, packer=packer) if each.number == number else each
        for each in record.participants
    )
    return structs.replace(record, participants=tuple(participants), run=run)


def claim(record: LockRecord, source: str, number: int, dead: frozenset[int]) -> LockRecord | None:
    """With a new claim of `source`, the last of ``claims``; None if a live participant has it.

    The dead are removed. A source that the same participant has claimed already is claimed
    anew: another work item begins.
    """
    if record.stop is not None or record.concluded or source in record.done:
        return None
    living = remove(record, dead - {number})
    if any(each.source == source and each.participant != number for each in living.claims):
        return None
    others = tuple(each for each in living.claims if each.source != source)
    return _with_claim(living, others, source, number)


def _with_claim(
    record: LockRecord, others: tuple[Claim, ...], source: str, number: int
) -> LockRecord:
    newest = Claim(
        number=record.claims_ever + 1, source=source, participant=number, since=datetime.now(UTC)
    )
    return structs.replace(record, claims=(*others, newest), claims_ever=newest.number)


def return_claim(record: LockRecord, source: str, number: int) -> LockRecord:
    """Without that claim: another participant may have the source."""
    kept = (c for c in record.claims if (c.source, c.participant) != (source, number))
    return structs.replace(record, claims=tuple(kept))


def complete(record: LockRecord, source: str, number: int) -> LockRecord:
    """Without that claim: the source is done."""
    free = return_claim(record, source, number)
    return free if source in record.done else structs.replace(free, done=(*record.done, source))


def is_complete(record: LockRecord) -> bool:
    """Whether all wanted sources are done, and nobody concludes the run."""
    return not record.claims and not set(record.wanted) - set(record.done)


def want(record: LockRecord, sources: Iterable[str]) -> LockRecord | None:
    """With more sources to build; None if it is too late for any."""
    more = tuple(source for source in sources if source not in record.wanted)
    if not admits(record):
        return None
    return structs.replace(record, wanted=(*record.wanted, *more))


def stop_all(record: LockRecord, stop: Stop) -> LockRecord | None:
    """Nobody claims any more; the first reason stays."""
    return None if record.stop or record.concluded else structs.replace(record, stop=stop)


def conclude(record: LockRecord, number: int, dead: frozenset[int]) -> LockRecord | None:
    """With the claim to conclude the run, for that participant alone.

    None while a live participant has a claim, including one to conclude.
    """
    living = remove(record, dead - {number})
    if any((each.source, each.participant) != ("", number) for each in living.claims):
        return None
    return structs.replace(_with_claim(living, (), "", number), concluded=True)


def dead(evidence: Iterable[ParticipantStatus]) -> frozenset[int]:
    """The participants that are proven dead."""
    return frozenset(e.participant.number for e in evidence if e.status is Status.ABANDONED)


def judge(record: LockRecord, evidence: tuple[ParticipantStatus, ...]) -> LockStatus:
    """The status of a lock from the evidence about its participants.

    It is held as long as one participant lives; the proof is that of the decisive ones.
    """
    if record.released is not None:
        proof = f"token {record.token} was released at {record.released.at:%Y-%m-%dT%H:%M:%SZ}"
        return LockStatus(status=Status.FREE, record=record, id=record.id, evidence=(proof,))
    found = {each.status for each in evidence}
    order = (Status.HELD, Status.UNKNOWN, Status.ORPHANED)
    status = next((each for each in order if each in found), Status.ABANDONED)
    decisive = [each for each in evidence if each.status is status]
    prefixes = [f"{each.participant.holder.by}: " * (len(evidence) > 1) for each in decisive]
    return LockStatus(
        status=status,
        id=record.id,
        record=record,
        evidence=tuple(f"{p}{e.evidence}" for p, e in zip(prefixes, decisive, strict=True)),
        participants=evidence,
    )
