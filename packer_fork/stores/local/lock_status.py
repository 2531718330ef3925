"""The status of the local lock, without touching it: record, kernel locks, evidence.

Needs only ``fcntl``, and probes shared, so that a look never makes an acquisition
fail. A free kernel lock on a local file system proves that no holder lives,
whatever host, boot or PID namespace the record names.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from msgspec import structs

from packer_fork import durable, lock_steps, processes
from packer_fork.locks import (
    LiveProcess,
    LockRecord,
    LockStatus,
    Participant,
    ParticipantStatus,
    Status,
)
from packer_fork.stores import lock_record
from packer_fork.stores.local import filesystem
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.lock_record import Found


def read_record(layout: Layout) -> Found:
    return lock_record.decode(durable.read(layout.lock, lock_record.MAX_SIZE), str(layout.lock))


def is_busy(path: Path) -> bool | None:
    """Whether a process holds the kernel lock on `path`; None if there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_alive(layout: Layout, token: int) -> bool:
    """Whether a packer-fork or Packer process holds a kernel lock under `token`."""
    return any(is_busy(path) for path in layout.files_of(token))


def status(layout: Layout) -> LockStatus:
    """The status of this folder's lock, including its live processes."""
    found = judge(layout)
    return structs.replace(found, processes=processes_of(layout, found.record))


def judge(layout: Layout) -> LockStatus:
    """The status without processes, for a process that wants the lock.

    Unless the lock is held, it counts only if the record is still the same afterwards:
    a lock that is released meanwhile takes its files with it.
    """
    found = read_record(layout)
    while True:
        status = _judge(layout, found)
        before, found = found, read_record(layout)
        if (status.status is Status.HELD and status.record) or found == before:
            return status


def judge_once(layout: Layout) -> LockStatus:
    """The same under the mutex, where nobody else writes records."""
    return _judge(layout, read_record(layout))


def _judge(layout: Layout, found: Found) -> LockStatus:
    record = found.record
    if record is None:
        return _without_record(layout, found)
    if record.released is not None:
        later = _alive_among(layout, after=record.token)  # the record was restored from a copy
        return later or lock_steps.judge(record, ())
    return lock_steps.judge(record, evidence(layout, record))


def evidence(layout: Layout, record: LockRecord) -> tuple[ParticipantStatus, ...]:
    """Whether each participant lives."""
    return tuple(of_participant(layout, record.token, each) for each in record.participants)


def of_participant(layout: Layout, token: int, participant: Participant) -> ParticipantStatus:
    """The kernel's evidence on one participant of a lock that is not released."""
    numbers = token, participant.number
    status, proof = _of_files(
        layout, token, layout.holder_lock(*numbers), layout.packer_lock(*numbers)
    )
    return ParticipantStatus(participant=participant, status=status, evidence=proof)


def _of_files(layout: Layout, token: int, holder: Path, packer: Path) -> tuple[Status, str]:
    is_held, is_orphaned = is_busy(holder), is_busy(packer)
    if is_held:
        return Status.HELD, f"packer-fork holds the kernel lock on {holder}"
    if is_orphaned:
        return Status.ORPHANED, (
            f"packer-fork is gone, but its Packer holds the kernel lock on {packer}"
        )
    if is_held is None or is_orphaned is None:
        return Status.UNKNOWN, f"the lock files of token {token} are missing from {layout.locks}"
    kind = filesystem.type_of(layout.folder)
    if filesystem.is_shared(kind):
        return Status.UNKNOWN, (
            f"{layout.folder} is on a {kind} file system, where a free kernel lock proves "
            "nothing about other machines; a shared store (etcd, Consul) would tell"
        )
    return Status.ABANDONED, f"nobody holds the kernel locks of token {token}: no holder lives"


def _alive_among(
    layout: Layout, *, after: int, error: str = "", surrogate: str = ""
) -> LockStatus | None:
    """The newest token beyond `after` that is alive although no record names it."""
    for token in reversed(layout.known_tokens()):
        busy = [path for path in layout.files_of(token) if token > after and is_busy(path)]
        if busy:
            holders = [path for path in busy if path.suffix != ".packer"]
            path = (holders or busy)[0]
            beside = path.with_suffix(".packer-fork"), path.with_suffix(".packer")
            status, proof = _of_files(layout, token, *beside)
            name = surrogate or f"token-{token}"
            return LockStatus(status=status, id=name, evidence=(proof,), error=error)
    return None


def _without_record(layout: Layout, found: Found) -> LockStatus:
    """Without a readable record, the lock files still tell who lives."""
    alive = _alive_among(layout, after=-1, error=found.error, surrogate=found.id)
    if alive is not None:
        return alive
    if found.error:
        known = layout.known_tokens()
        proof = "no kernel lock of any token is held" if known else "there is no lock file"
        return LockStatus(status=Status.UNKNOWN, id=found.id, evidence=(proof,), error=found.error)
    return LockStatus(status=Status.FREE, evidence=("the lock was never held",))


def processes_of(layout: Layout, record: LockRecord | None) -> tuple[LiveProcess, ...]:
    """Live processes of the participants, those without a kernel lock included.

    Found by session, by environment marker and by open lock file.
    """
    if record is None:
        return ()
    found: dict[int, LiveProcess] = {}
    everything = processes.all_processes()
    for participant in record.participants:
        path = layout.packer_lock(record.token, participant.number)
        holders = (
            LiveProcess(
                pid=each.pid,
                command=each.command,
                how="has the lock file open",
                participant=participant.number,
            )
            for each in processes.holders_of(path)
        )
        for each in (*processes.of_participant(participant, everything), *holders):
            found.setdefault(each.pid, each)
    return tuple(found[pid] for pid in sorted(found))
