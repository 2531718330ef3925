"""Looking at a lock without touching it: record, kernel locks, verdict, proof.

Needs only ``fcntl``, and probes shared, so that looking never makes an
acquisition fail. A free kernel lock on a local file system proves that no holder
lives, whatever host, boot or PID namespace the record names.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from packer_fork import durable, processes, sharing
from packer_fork.locks import (
    MARKER,
    LiveProcess,
    LockRecord,
    LockStatus,
    MemberStatus,
    ProcessId,
    Verdict,
)
from packer_fork.malformed import MALFORMED
from packer_fork.stores.local import filesystem
from packer_fork.stores.local.layout import Layout

_MAX_RECORD = 1 << 20
_decoder = msgspec.json.Decoder(LockRecord)
_encoder = msgspec.json.Encoder()


class Record(Struct, frozen=True):
    """The lock file as found: its record, or why it cannot be read. Neither: never locked."""

    record: LockRecord | None = None
    id: str = ""
    error: str = ""


def encode_record(record: LockRecord) -> bytes:
    return _encoder.encode(record) + b"\n"


def read_record(layout: Layout) -> Record:
    data = durable.read(layout.lock, _MAX_RECORD)
    if data is None:
        return Record()
    try:
        record = _decoder.decode(data)
    except MALFORMED as error:
        import hashlib

        surrogate = f"unreadable-{hashlib.sha256(data).hexdigest()[:12]}"
        return Record(
            id=surrogate, error=f"{layout.lock} cannot be read as a lock record ({error})"
        )
    return Record(record=record, id=record.id)


def is_busy(path: Path) -> bool | None:
    """Whether somebody holds the kernel lock on `path`; None if there is no such file."""
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


def is_alive(layout: Layout, tenure: int) -> bool:
    """Whether a wrapper or a Packer of `tenure` holds its kernel lock."""
    return any(is_busy(path) for path in layout.files_of(tenure))


def status(layout: Layout) -> LockStatus:
    """The verdict on this folder's lock, with its proof, the live processes included."""
    found = judge(layout)
    if found.verdict not in (Verdict.HELD, Verdict.ORPHANED):
        return found
    return structs.replace(found, processes=processes_of(layout, found.record))


def judge(layout: Layout) -> LockStatus:
    """The verdict alone, for whoever wants the lock.

    Unless the lock is held, it counts only if the record is still the same after
    looking: a tenure that ends meanwhile takes its files with it.
    """
    found = read_record(layout)
    while True:
        status = _judge(layout, found)
        before, found = found, read_record(layout)
        if (status.verdict is Verdict.HELD and status.record) or found == before:
            return status


def judge_once(layout: Layout) -> LockStatus:
    """The same under the mutex, where nobody else writes records."""
    return _judge(layout, read_record(layout))


def _judge(layout: Layout, found: Record) -> LockStatus:
    if found.record is None:
        return _without_record(layout, found)
    record = found.record
    if record.closed is not None:
        later = _alive_among(layout, after=record.tenure)
        if later is not None:  # a record that was put back from a copy
            return later
        proof = f"tenure {record.tenure} was closed at {record.closed.at:%Y-%m-%dT%H:%M:%SZ}"
        return LockStatus(verdict=Verdict.FREE, record=record, id=record.id, proof=(proof,))
    if record.share is not None:
        return shared(record, members(layout, record))
    verdict, proof = of_tenure(layout, record.tenure)
    return LockStatus(verdict=verdict, id=record.id, record=record, proof=(proof,))


def members(layout: Layout, record: LockRecord) -> tuple[MemberStatus, ...]:
    """Who of those that hold a shared lock lives."""
    share = record.share
    return tuple(
        MemberStatus(member=member, verdict=verdict, proof=proof)
        for member in (share.members if share else ())
        for verdict, proof in [of_tenure(layout, record.tenure, member.number)]
    )


def shared(record: LockRecord, found: tuple[MemberStatus, ...]) -> LockStatus:
    """A lock that is held by many; its proof is of those who make its verdict."""
    verdict = sharing.verdict(found)
    proof = tuple(f"{m.member.holder.by}: {m.proof}" for m in found if m.verdict is verdict)
    return LockStatus(
        verdict=verdict,
        id=record.id,
        record=record,
        proof=proof or ("none of its members is left",),
        members=found,
    )


def _alive_among(
    layout: Layout, *, after: int, error: str = "", surrogate: str = ""
) -> LockStatus | None:
    """The newest tenure beyond `after` that lives although no record tells of it."""
    for tenure in reversed(layout.known_tenures()):
        if tenure > after and is_alive(layout, tenure):
            verdict, proof = _of_any(layout, tenure)
            name = surrogate or f"tenure-{tenure}"
            return LockStatus(verdict=verdict, id=name, proof=(proof,), error=error)
    return None


def _without_record(layout: Layout, found: Record) -> LockStatus:
    """Without a readable record the files of the tenures still tell who lives."""
    alive = _alive_among(layout, after=-1, error=found.error, surrogate=found.id)
    if alive is not None:
        return alive
    known = layout.known_tenures()
    if found.error:
        proof = "no kernel lock of any tenure is held" if known else "no tenure left a file"
        return LockStatus(verdict=Verdict.UNKNOWN, id=found.id, proof=(proof,), error=found.error)
    return LockStatus(verdict=Verdict.FREE, proof=("no tenure is open",))


def _of_any(layout: Layout, tenure: int) -> tuple[Verdict, str]:
    """The same of a tenure of which no record tells, nor how many hold it."""
    busy = [path for path in layout.files_of(tenure) if is_busy(path)]
    wrappers = [path for path in busy if path.suffix == ".wrapper"]
    if wrappers:
        return Verdict.HELD, f"packer-fork holds the kernel lock on {wrappers[0]}"
    if busy:
        return Verdict.ORPHANED, (
            f"packer-fork is gone, but its Packer holds the kernel lock on {busy[0]}"
        )
    return of_tenure(layout, tenure)


def of_tenure(layout: Layout, tenure: int, member: int = 0) -> tuple[Verdict, str]:
    """The kernel's verdict on a tenure that is open, or on one member of it."""
    paths = layout.wrapper(tenure, member), layout.packer(tenure, member)
    wrapper, packer = map(is_busy, paths)
    if wrapper:
        return Verdict.HELD, f"packer-fork holds the kernel lock on {paths[0]}"
    if packer:
        return Verdict.ORPHANED, (
            f"packer-fork is gone, but its Packer holds the kernel lock on {paths[1]}"
        )
    if wrapper is None or packer is None:
        return Verdict.UNKNOWN, f"the files of tenure {tenure} are missing from {layout.tenures}"
    kind = filesystem.type_of(layout.folder)
    if filesystem.is_shared(kind):
        return Verdict.UNKNOWN, (
            f"{layout.folder} is on a {kind} file system, where a free kernel lock proves "
            "nothing about other machines; a shared store (etcd, Consul) would tell"
        )
    return Verdict.ABANDONED, f"nobody holds the kernel locks of tenure {tenure}: no holder lives"


def processes_of(layout: Layout, record: LockRecord | None) -> tuple[LiveProcess, ...]:
    """Live processes of the tenure: by environment marker, by session, by open lock file."""
    if record is None:
        return ()
    found: dict[int, LiveProcess] = {}
    holders, sessions = _told_of(record)

    def add(candidates: list[processes.Process], how: str) -> None:
        for process in candidates:
            found.setdefault(
                process.pid, LiveProcess(pid=process.pid, command=process.command, how=how)
            )

    for process in filter(processes.alive, holders):
        pid = process.pid
        found[pid] = LiveProcess(pid=pid, command="packer-fork", how="holds the lock")
    for session in filter(processes.may_lead, sessions):
        add(processes.in_session(session.pid), "in the session of its Packer")
    share = record.share
    for marker in (record.id, *(member.id for member in (share.members if share else ()))):
        add(processes.marked(MARKER, marker), "carries the lock's ID in its environment")
    for path in layout.files_of(record.tenure):
        if path.suffix == ".packer":
            add(processes.holders_of(path), "has the lock file open")
    return tuple(found[pid] for pid in sorted(found))


def _told_of(record: LockRecord) -> tuple[list[ProcessId], list[ProcessId]]:
    """The wrappers and the sessions of Packer that a record names."""
    if record.share is None:
        return [record.holder.process], [record.packer] if record.packer else []
    members = record.share.members
    packers = [member.packer for member in members if member.packer]
    return [member.holder.process for member in members], packers
