"""The status of a shared lock: its record, the participants' leased keys, and the evidence."""

from __future__ import annotations

from msgspec import Struct, structs

from packer_fork import lock_steps
from packer_fork.locks import LockRecord, LockStatus, Participant, ParticipantStatus, Status
from packer_fork.stores import lock_record
from packer_fork.stores.shared import names
from packer_fork.stores.shared.companion import Companion
from packer_fork.stores.shared.keys import Item, Keys, Unchanged

_OVERDUE = 1 / 3
"""Part of a lease's time that is left when two renewals have failed to come."""


class Found(Struct, frozen=True):
    """The lock as its keys stand. Neither record nor error: the lock was never held.

    ``leased``: the participants' keys by their numbers.
    """

    lock: Item | None = None
    record: LockRecord | None = None
    id: str = ""
    error: str = ""
    leased: dict[int, Item] = {}

    @property
    def is_free(self) -> bool:
        return self.record.released is not None if self.record else not self.error

    @property
    def unchanged(self) -> Unchanged:
        """Holds as long as nobody acquired, joined or left the lock, or took it back."""
        return Unchanged(names.LOCK, self.lock.modified if self.lock else 0)

    def alive(self) -> Item | None:
        """The key of a participant whose lease lives."""
        return next((item for item in self.leased.values() if item.lease), None)


def read(keys: Keys) -> Found:
    """The record first: each participant's key is made and removed together with it."""
    while True:
        lock = keys.get(names.LOCK)
        found = parse(lock, keys.location)
        record = found.record
        if record is None or record.released is not None:
            return found
        leased = _leased(keys, record)
        listed = (leased.get(each.number) for each in record.participants)
        if all(item and item.lease for item in listed) or keys.get(names.LOCK) == lock:
            return Found(lock=lock, record=record, id=record.id, leased=leased)


def parse(lock: Item | None, location: str) -> Found:
    """What the lock's key alone says."""
    data = lock.value if lock else None
    found = lock_record.decode(data, f"{location}/{names.LOCK}")
    return Found(lock=lock, record=found.record, id=found.id, error=found.error)


def _leased(keys: Keys, record: LockRecord) -> dict[int, Item]:
    prefix = names.participants(record.token)
    found = ((item.key.removeprefix(prefix), item) for item in keys.items(prefix))
    return {int(number): item for number, item in found if number.isdecimal()}


def judge(keys: Keys, found: Found, companion: Companion) -> LockStatus:
    """The status of what was found, with its proof."""
    if found.record is not None:
        return lock_steps.judge(found.record, evidence(keys, found, companion, closely=True))
    if found.error:
        proof = "no record names its holder"
        return LockStatus(status=Status.UNKNOWN, id=found.id, evidence=(proof,), error=found.error)
    return LockStatus(status=Status.FREE, evidence=("the lock was never held",))


def evidence(
    keys: Keys, found: Found, companion: Companion, *, closely: bool
) -> tuple[ParticipantStatus, ...]:
    """Whether each participant lives; `closely`: also how long its lease has left."""
    record = found.record
    if record is None or record.released is not None:
        return ()
    return tuple(
        _of_participant(keys, found, record, each, companion, closely=closely)
        for each in record.participants
    )


def _of_participant(
    keys: Keys,
    found: Found,
    record: LockRecord,
    participant: Participant,
    companion: Companion,
    *,
    closely: bool,
) -> ParticipantStatus:
    """The kernel knows better than the lease, where it knows anything."""
    here = companion.evidence(record, participant)
    if here is not None and not closely:
        return here
    item = found.leased.get(participant.number)
    lease = _of_lease(keys, item, record, participant, closely=closely)
    if here is None:
        return lease
    return structs.replace(here, evidence=f"{here.evidence}; {lease.evidence}")


def _of_lease(
    keys: Keys, item: Item | None, record: LockRecord, participant: Participant, *, closely: bool
) -> ParticipantStatus:
    """What the lease tells that `item` hangs on, the key of that participant."""
    status, proof = Status.HELD, "is alive"
    if item is None or not item.lease:
        host = participant.holder.by.host
        status, proof = Status.ABANDONED, f"has ended: {host} did not renew it any more"
    elif closely:
        left = keys.left(item.lease)
        # without a time it has ended, or this user may not see it
        if left is None and keys.get(item.key) != item:
            status, proof = Status.ABANDONED, "has ended just now"
        elif left is not None and record.lease and left < record.lease * _OVERDUE:
            status, proof = Status.UNKNOWN, f"is not being renewed; it ends in {left:.0f} s"
        elif left is not None:
            proof = f"is alive, for {left:.0f} s more if nobody renews it"
    whose = f"participant {participant.number} of token {record.token}"
    return ParticipantStatus(
        participant=participant, status=status, evidence=f"the lease of {whose} {proof}"
    )
