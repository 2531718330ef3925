"""How a shared lock changes hands: pure functions from share to share.

Members join and leave, and claim sources one by one. A claim is the tenure of a scope
within the lock: nobody else has the source until it is given back or its member is dead.
A step returns None where it cannot be made; a store makes one at a time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from msgspec import structs

from packer_fork.locks import (
    Claim,
    Closing,
    Holder,
    LockRecord,
    Member,
    MemberStatus,
    ProcessId,
    Share,
    Stop,
    Verdict,
)
from packer_fork.model import Actor

MOST_MEMBERS = 32
"""Members at a time; servers bound how many keys one transaction may touch."""

MOST_SOURCES = 1000
"""Sources of one shared run: all of them are in the record that every step writes anew."""

Step = Callable[[Share, frozenset[int]], Share | None]
"""From a share, and the numbers of its dead members, to the next; None for no change."""


def begun(holder: Holder) -> Share:
    """The share of a first member, closed to others until it is `opened`."""
    return Share(members=(_member(1, holder),), members_ever=1)


def opened(share: Share, *, inputs: str, run: int, wanted: tuple[str, ...]) -> Share:
    """From now on, whoever builds the same may join."""
    return structs.replace(share, inputs=inputs, run=run, wanted=wanted)


def is_open(share: Share) -> bool:
    """Whether others may join."""
    return bool(share.inputs) and share.stop is None and not share.concluded


def joined(share: Share, holder: Holder, inputs: str, dead: frozenset[int]) -> Share | None:
    """With one more member, the last of ``members``. None if the share is not open to it."""
    alive = [member for member in share.members if member.number not in dead]
    if not is_open(share) or share.inputs != inputs:
        return None
    if not alive or len(share.members) >= MOST_MEMBERS:
        return None
    number = share.members_ever + 1
    return structs.replace(
        share, members=(*share.members, _member(number, holder)), members_ever=number
    )


def _member(number: int, holder: Holder) -> Member:
    return Member(number=number, id=str(uuid.uuid4()), holder=holder, joined=datetime.now(UTC))


def without(share: Share, numbers: Iterable[int]) -> Share:
    """Without these members, and with what they had claimed free again."""
    gone = frozenset(numbers)
    return structs.replace(
        share,
        members=tuple(member for member in share.members if member.number not in gone),
        claims=tuple(claim for claim in share.claims if claim.member not in gone),
    )


def claimed(share: Share, source: str, member: int, dead: frozenset[int]) -> Share | None:
    """With a new claim of `source`, the last of ``claims``; None if somebody who lives has it.

    The dead lose their membership with it. What is claimed already by the same `member` is
    claimed anew: another part of the run begins.
    """
    if share.stop is not None or share.concluded or source in share.done:
        return None
    living = without(share, dead - {member})
    if any(claim.source == source and claim.member != member for claim in living.claims):
        return None
    number = share.claims_ever + 1
    claim = Claim(number=number, source=source, member=member, since=datetime.now(UTC))
    others = tuple(each for each in living.claims if each.source != source)
    return structs.replace(living, claims=(*others, claim), claims_ever=number)


def given_back(share: Share, source: str, member: int) -> Share:
    """Without that claim, so that another may have the source."""
    kept = (c for c in share.claims if (c.source, c.member) != (source, member))
    return structs.replace(share, claims=tuple(kept))


def handed_in(share: Share, source: str, member: int) -> Share:
    """Without that claim: nobody needs to have the source any more."""
    free = given_back(share, source, member)
    return free if source in share.done else structs.replace(free, done=(*share.done, source))


def is_done(share: Share) -> bool:
    return not share.claims and not set(share.wanted) - set(share.done)


def wanting(share: Share, sources: Iterable[str]) -> Share | None:
    """With more sources to build; None where it is too late for any."""
    more = tuple(source for source in sources if source not in share.wanted)
    if not is_open(share):
        return None
    return structs.replace(share, wanted=(*share.wanted, *more))


def stopped(share: Share, stop: Stop) -> Share | None:
    """Nobody claims any more; the first reason stays."""
    return None if share.stop or share.concluded else structs.replace(share, stop=stop)


def concluded(share: Share, member: int, dead: frozenset[int]) -> Share | None:
    """In the hands of `member` alone, who writes the end of the run.

    None while anybody who lives has a claim, the one to conclude among them.
    """
    living = without(share, dead - {member})
    if any((claim.source, claim.member) != ("", member) for claim in living.claims):
        return None
    claim = Claim(number=share.claims_ever + 1, source="", member=member, since=datetime.now(UTC))
    return structs.replace(living, claims=(claim,), claims_ever=claim.number, concluded=True)


def noted(share: Share, member: int, run: int, packer: ProcessId | None) -> Share:
    """With the number of the run, and the session of Packer that `member` started last."""
    members = (
        structs.replace(each, packer=packer) if each.number == member else each
        for each in share.members
    )
    return structs.replace(share, members=tuple(members), run=run)


def recorded(record: LockRecord, share: Share) -> LockRecord:
    """The record of a lock that is shared like that."""
    return structs.replace(record, share=share, run=share.run or None)


def left(record: LockRecord, share: Share, member: int, by: Actor) -> LockRecord:
    """The record without `member`; the last one closes the lock."""
    rest = without(share, {member})
    closed = None if rest.members else Closing(at=datetime.now(UTC), by=by)
    return structs.replace(record, share=rest, closed=closed)


def alone(record: LockRecord, member: Member) -> LockRecord:
    """The record as if it were that member's alone, under the ID of its membership."""
    return structs.replace(
        record,
        id=member.id,
        holder=member.holder,
        created=member.joined,
        packer=member.packer,
        share=None,
    )


def newest(record: LockRecord) -> Member:
    """The member that joined last. Raises IndexError where there is none."""
    return (record.share.members if record.share else ())[-1]


def has(record: LockRecord | None, lock_id: str, member: int) -> bool:
    """Whether the lock of that ID is still open, and `member` still one of its members."""
    if record is None or record.id != lock_id or record.closed or record.share is None:
        return False
    return any(each.number == member for each in record.share.members)


def dead(members: Iterable[MemberStatus]) -> frozenset[int]:
    """Those of whom there is proof that nobody lives."""
    return frozenset(m.member.number for m in members if m.verdict is Verdict.ABANDONED)


def verdict(members: Iterable[MemberStatus]) -> Verdict:
    """Of the lock: it is held as long as one member may live."""
    found = {member.verdict for member in members}
    order = (Verdict.HELD, Verdict.UNKNOWN, Verdict.ORPHANED)
    return next((each for each in order if each in found), Verdict.ABANDONED)
