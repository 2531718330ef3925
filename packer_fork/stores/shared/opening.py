"""The one transaction that opens a tenure, and closes the one that was found."""

from __future__ import annotations

from packer_fork.locks import LockRecord
from packer_fork.stores.shared import names, probe
from packer_fork.stores.shared.deciding import decide
from packer_fork.stores.shared.keys import Delete, Keys, Put, Write
from packer_fork.stores.shared.lease import Lease
from packer_fork.stores.shared.queue import Ticket


def opened(
    keys: Keys, record: LockRecord, found: probe.Found, lease: Lease, ticket: Ticket | None
) -> bool:
    """Whether `record` is the lock's from now on; not if somebody was faster.

    Of one that many may hold the first member is opened. Raises StoreError.
    """
    key = names.tenure(record.tenure, 1 if record.share else 0)
    writes: list[Write] = [Put(names.LOCK, probe.encode_record(record))]
    if found.record is not None:
        writes += [Delete(item.key) for item in found.members.values()]
        if not found.members:
            writes.append(Delete(names.tenure(found.record.tenure)))
    if ticket is not None:
        writes.append(Delete(ticket.key))
    writes.append(Put(key, record.id.encode(), lease.id))

    def done() -> int:
        item = keys.get(key)
        return item.modified if item and item.lease == lease.id else 0

    return decide(keys, found.still, writes, done) > 0
