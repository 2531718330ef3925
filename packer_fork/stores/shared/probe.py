"""Looking at a shared lock: its record, the key that hangs on its lease, and the verdict."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct

from packer_fork.locks import LockRecord, LockStatus, Member, MemberStatus, Verdict
from packer_fork.malformed import MALFORMED
from packer_fork.stores.local import probe as local
from packer_fork.stores.shared import names
from packer_fork.stores.shared.companion import Companion
from packer_fork.stores.shared.keys import Condition, Item, Keys, Unchanged

_MAX_RECORD = 1 << 20
_OVERDUE = 1 / 3
"""Part of a lease's time that is left when two renewals have failed to come."""

_decoder = msgspec.json.Decoder(LockRecord)
_encoder = msgspec.json.Encoder()


class Found(Struct, frozen=True):
    """The lock as its keys stand. Neither record nor error: it was never locked.

    ``members`` are the keys of a tenure that many hold, by their numbers; ``tenure`` is then
    that of one who lives, if any does.
    """

    lock: Item | None = None
    record: LockRecord | None = None
    error: str = ""
    tenure: Item | None = None
    members: dict[int, Item] = {}

    @property
    def id(self) -> str:
        if self.record is not None:
            return self.record.id
        return f"unreadable-{hashlib.sha256(self.lock.value).hexdigest()[:12]}" if self.lock else ""

    @property
    def is_free(self) -> bool:
        """Whether nobody has it, and nobody who had it left it behind."""
        return self.record.closed is not None if self.record else not self.error

    @property
    def is_leased(self) -> bool:
        return self.tenure is not None and bool(self.tenure.lease)

    @property
    def still(self) -> list[Condition]:
        """Holds as long as nobody took the lock, or took it back.

        A member that takes its place back writes the lock's record anew.
        """
        conditions: list[Condition] = [
            Unchanged(names.LOCK, self.lock.modified if self.lock else 0)
        ]
        if self.record is not None and self.record.share is None:
            key = names.tenure(self.record.tenure)
            conditions.append(Unchanged(key, self.tenure.modified if self.tenure else 0))
        return conditions


def encode_record(record: LockRecord) -> bytes:
    return _encoder.encode(record)


def look(keys: Keys) -> Found:
    """The record first: the key of its tenure is made and removed together with it."""
    while True:
        lock = keys.get(names.LOCK)
        if lock is None:
            return Found()
        try:
            record = _decoder.decode(lock.value[:_MAX_RECORD])
        except MALFORMED as error:
            what = f"{keys.location}/{names.LOCK} cannot be read as a lock record ({error})"
            return Found(lock=lock, error=what)
        if record.closed is not None:
            return Found(lock=lock, record=record)
        members = _members(keys, record) if record.share else {}
        tenure = _of_one(members) if record.share else keys.get(names.tenure(record.tenure))
        if (tenure is not None and tenure.lease) or keys.get(names.LOCK) == lock:
            return Found(lock=lock, record=record, tenure=tenure, members=members)


def _members(keys: Keys, record: LockRecord) -> dict[int, Item]:
    prefix = names.members(record.tenure)
    found = ((item.key.removeprefix(prefix), item) for item in keys.items(prefix))
    return {int(number): item for number, item in found if number.isdecimal()}


def _of_one(members: dict[int, Item]) -> Item | None:
    return next((item for item in members.values() if item.lease), None)


def statuses(
    keys: Keys, found: Found, companion: Companion, *, closely: bool
) -> tuple[MemberStatus, ...]:
    """Who of the members lives; `closely`: also how long their leases have left."""
    record = found.record
    if record is None or record.share is None:
        return ()
    return tuple(
        _status(keys, record, member, found.members.get(member.number), companion, closely=closely)
        for member in record.share.members
    )


def _status(
    keys: Keys,
    record: LockRecord,
    member: Member,
    item: Item | None,
    companion: Companion,
    *,
    closely: bool,
) -> MemberStatus:
    here = companion.of_member(record, member.number)
    if here is not None:
        return MemberStatus(member=member, verdict=here[0], proof=here[1])
    if closely or item is None or not item.lease:
        whose, host = f"member {member.number}", member.holder.by.host
        verdict, proof = _of_lease(keys, item, record, whose, host)
    else:
        verdict, proof = Verdict.HELD, "its lease is alive"
    return MemberStatus(member=member, verdict=verdict, proof=proof)


def judge(keys: Keys, found: Found, companion: Companion) -> LockStatus:
    """The verdict on what was found, with its proof."""
    record = found.record
    if record is None:
        if found.error:
            proof = "no record tells of whom to ask"
            return LockStatus(
                verdict=Verdict.UNKNOWN, id=found.id, proof=(proof,), error=found.error
            )
        return LockStatus(verdict=Verdict.FREE, proof=("no tenure is open",))
    if record.closed is not None:
        proof = f"tenure {record.tenure} was closed at {record.closed.at:%Y-%m-%dT%H:%M:%SZ}"
        return LockStatus(verdict=Verdict.FREE, record=record, id=record.id, proof=(proof,))
    if record.share is not None:
        return local.shared(record, statuses(keys, found, companion, closely=True))
    whose, host = f"tenure {record.tenure}", record.holder.by.host
    verdict, proof = _of_lease(keys, found.tenure, record, whose, host)
    here = companion.judge(record)
    if here is not None:
        verdict = here.verdict
        return LockStatus(verdict=verdict, id=record.id, record=record, proof=(*here.proof, proof))
    return LockStatus(verdict=verdict, id=record.id, record=record, proof=(proof,))


def _of_lease(
    keys: Keys, item: Item | None, record: LockRecord, whose: str, host: str
) -> tuple[Verdict, str]:
    """What the lease tells that `item` hangs on, the key of who is at `host`."""
    if item is None or not item.lease:
        return Verdict.ABANDONED, (
            f"the lease of {whose} has ended: {host} did not renew it any more"
        )
    left = keys.left(item.lease)
    if left is None:
        # it has ended, or this user may not see it
        if keys.get(item.key) != item:
            return Verdict.ABANDONED, f"the lease of {whose} has ended just now"
        return Verdict.HELD, f"the lease of {whose} is alive"
    if record.lease and left < record.lease * _OVERDUE:
        return Verdict.UNKNOWN, (
            f"the lease of {whose} is not being renewed; it ends in {left:.0f} s"
        )
    return Verdict.HELD, (
        f"the lease of {whose} is alive, for {left:.0f} s more if nobody renews it"
    )
