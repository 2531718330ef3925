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
_PACKER = "packer build"
_LAST_WORDS = 5.0
"""Seconds that scripts have which outlived their Packer, and the dead to vanish."""


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
    told = _terminate(record, _members(record))
    for member in told:
        notify(Notice(level="info", text=f"{_name(record, member)}: told to end"))
    if told:
        text = f"Waiting up to {grace:.0f} s for them to clean up; then they are killed."
        notify(Notice(level="info", text=text))
    left = _await(record, grace)
    while left:
        for member in left:
            _signal(member, signal.SIGKILL)
            notify(Notice(level="warning", text=f"{_name(record, member)}: killed"))
        left = _await(record, _LAST_WORDS)
    return _list_daemons(status, record, notify)


def _name(record: LockRecord, process: Process) -> str:
    ours = process.pid == record.holder.process.pid
    return f"{'packer-fork' if ours else process.command} ({process.pid})"


def _members(record: LockRecord) -> list[Process]:
    """The run's own tree: wrapper, the sessions of its Packers, and what descends from these."""
    everything = processes.all_processes()
    roots = {record.holder.process.pid} if processes.alive(record.holder.process) else set()
    marked = processes.marked(MARKER, record.id)
    sessions = {process.session for process in marked if process.command == _PACKER}
    if record.packer:
        sessions.add(record.packer.pid)
    roots |= {process.pid for process in marked if process.session in sessions}
    below = processes.below(roots, everything)
    return [process for process in everything if process.pid in roots] + below


def _terminate(record: LockRecord, members: list[Process]) -> list[Process]:
    """SIGTERM to the wrapper, which hands it on; without one to Packer, outer or inner.

    A stopped process does not hear it before it is continued. Returns who was told.
    """
    wrapper = [member for member in members if member.pid == record.holder.process.pid]
    packers = [member for member in members if member.command == _PACKER]
    outer = [member for member in packers if member.pid == member.session]
    told = wrapper or outer or packers or members
    for member in told:
        _signal(member, signal.SIGTERM)
        _signal(member, signal.SIGCONT)
    return told


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, number)


def _await(record: LockRecord, seconds: float) -> list[Process]:
    """What of it still lives once all are gone or time is up.

    Only packer-fork and Packer clean up; scripts that outlive both get but a moment.
    """
    deadline = time.monotonic() + seconds
    cleaning = True
    while (left := _members(record)) and time.monotonic() < deadline:
        if cleaning and not any(_cleans_up(record, member) for member in left):
            cleaning = False
            deadline = min(deadline, time.monotonic() + _LAST_WORDS)
            for member in left:
                _signal(member, signal.SIGTERM)
        time.sleep(_LOOK)
    return left


def _cleans_up(record: LockRecord, process: Process) -> bool:
    return process.pid == record.holder.process.pid or process.command == _PACKER


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
