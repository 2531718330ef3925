"""Ending the processes of a run at an operator's word: gracefully, then for good, each told."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from packer_fork import processes
from packer_fork.events import Notice, Notify
from packer_fork.locks import MARKER, LockRecord, LockStatus
from packer_fork.processes import Process

_LOOK = 0.05
_LAST_WORDS = 5.0
"""Seconds that a wrapper without a Packer has to end after SIGTERM."""


def end(status: LockStatus, notify: Notify, *, grace: float) -> bool:
    """End what belongs to the run; returns whether daemons that it left still hold the lock.

    Only processes of this very boot and PID namespace are signalled, and only those of
    the run's own tree: its packer-fork, the session of its Packer, and what descends
    from them. `grace`: seconds they have before they are killed.
    """
    record = status.record
    if record is None or not processes.same_system(record.holder.process):
        text = "Its processes are not of this system, or not known: none was signalled."
        notify(Notice(level="warning", text=text))
        return False
    members = _members(record)
    _terminate(record, members)
    for member in members:
        notify(Notice(level="info", text=f"{member.command} ({member.pid}): told to end"))
    left = _await(record, grace if record.packer else _LAST_WORDS)
    while left:
        for member in left:
            _signal(member, signal.SIGKILL)
            notify(Notice(level="warning", text=f"{member.command} ({member.pid}): killed"))
        left = _await(record, _LAST_WORDS)
    return _list_daemons(status, record, notify)


def _members(record: LockRecord) -> list[Process]:
    """The run's own tree: wrapper, Packer's session, and what descends from these."""
    everything = processes.all_processes()
    roots = {record.holder.process.pid} if processes.alive(record.holder.process) else set()
    if record.packer:
        marked = {process.pid for process in processes.marked(MARKER, record.id)}
        session = record.packer.pid
        roots |= {p.pid for p in everything if p.session == session and p.pid in marked}
    below = processes.below(roots, everything)
    return [process for process in everything if process.pid in roots] + below


def _terminate(record: LockRecord, members: list[Process]) -> None:
    """SIGTERM to the wrapper, which hands it on; without one to Packer, outer or inner.

    A stopped process does not hear it before it is continued.
    """
    by_pid = {member.pid: member for member in members}
    wrapper = by_pid.get(record.holder.process.pid)
    packer = by_pid.get(record.packer.pid) if record.packer else None
    for member in [wrapper] if wrapper else [packer] if packer else members:
        if member is not None:
            _signal(member, signal.SIGTERM)
            _signal(member, signal.SIGCONT)


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, number)


def _await(record: LockRecord, seconds: float) -> list[Process]:
    """What of it still lives once all are gone or time is up."""
    deadline = time.monotonic() + seconds
    while (left := _members(record)) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return left


def _list_daemons(status: LockStatus, record: LockRecord, notify: Notify) -> bool:
    """Tell of what merely inherited the lock's descriptor; it is left alone."""
    ours = {member.pid for member in _members(record)}
    daemons = [
        process
        for process in status.processes
        if process.pid not in ours and any(process.pid == p.pid for p in processes.all_processes())
    ]
    for daemon in daemons:
        text = f"{daemon.command} ({daemon.pid}) outlived the run and is left alone: {daemon.how}"
        notify(Notice(level="warning", text=text))
    return bool(daemons)
