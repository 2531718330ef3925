"""Looking at a shared lock: its record, the key that hangs on its lease, and the verdict."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct

from packer_fork.errors import MALFORMED
from packer_fork.locks import LockRecord, LockStatus, Verdict
from packer_fork.stores.shared import names
from packer_fork.stores.shared.companion import Companion
from packer_fork.stores.shared.keys import Condition, Item, Keys, Unchanged

_MAX_RECORD = 1 << 20
_OVERDUE = 1 / 3
"""Part of a lease's time that is left when two renewals have failed to come."""

_decoder = msgspec.json.Decoder(LockRecord)
_encoder = msgspec.json.Encoder()


class Found(Struct, frozen=True):
    """The lock as its keys stand. Neither record nor error: it was never locked."""

    lock: Item | None = None
    record: LockRecord | None = None
    error: str = ""
    tenure: Item | None = None

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
        """Holds as long as nobody took the lock, or took it back."""
        conditions: list[Condition] = [
            Unchanged(names.LOCK, self.lock.modified if self.lock else 0)
        ]
        if self.record is not None:
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
        tenure = keys.get(names.tenure(record.tenure))
        if tenure is not None and tenure.lease:
            return Found(lock=lock, record=record, tenure=tenure)
        if keys.get(names.LOCK) == lock:
            return Found(lock=lock, record=record, tenure=tenure)


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
    verdict, proof = _of_lease(keys, found, record)
    here = companion.judge(record)
    if here is not None:
        verdict = here.verdict
        return LockStatus(verdict=verdict, id=record.id, record=record, proof=(*here.proof, proof))
    return LockStatus(verdict=verdict, id=record.id, record=record, proof=(proof,))


def _of_lease(keys: Keys, found: Found, record: LockRecord) -> tuple[Verdict, str]:
    if found.tenure is None or not found.is_leased:
        return Verdict.ABANDONED, (
            f"the lease of tenure {record.tenure} has ended: {record.holder.by.host} did not "
            "renew it any more"
        )
    left = keys.left(found.tenure.lease)
    if left is None:
        # it has ended, or this user may not see it
        if keys.get(found.tenure.key) != found.tenure:
            return Verdict.ABANDONED, f"the lease of tenure {record.tenure} has ended just now"
        return Verdict.HELD, f"the lease of tenure {record.tenure} is alive"
    if record.lease and left < record.lease * _OVERDUE:
        return Verdict.UNKNOWN, (
            f"the lease of tenure {record.tenure} is not being renewed; it ends in {left:.0f} s"
        )
    return Verdict.HELD, (
        f"the lease of tenure {record.tenure} is alive, for {left:.0f} s more if nobody renews it"
    )
