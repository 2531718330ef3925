"""Ending the processes of a run at an operator's word: gracefully, then for good, each told."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence

from packer_fork import processes
from packer_fork.events import Notice, Notify
from packer_fork.locks import MARKER, PACKER_BUILD, LiveProcess, Participant
from packer_fork.processes import Process

_LOOK = 0.05
_LAST_WORDS = 5.0
"""Seconds that scripts have which outlived their Packer, and the dead to vanish."""


def end(
    participant: Participant, alive: Sequence[LiveProcess], notify: Notify, *, grace: float
) -> bool:
    """End what belongs to the run; returns whether daemons that it left still hold the lock.

    Only processes of this very boot and PID namespace are signalled, and only those of
    the participant's own tree: its packer-fork, the session of its Packer, and what descends
    from them. `grace`: seconds they have before they are killed. `alive`: all processes of
    the lock.
    """
    if not processes.same_system(participant.holder.process):
        text = "Its processes are not of this system, or not known: none was signalled."
        notify(Notice(level="warning", text=text))
        return False
    told = _terminate(participant, _tree(participant))
    for process in told:
        notify(Notice(level="info", text=f"{_name(participant, process)}: told to end"))
    if told:
        text = f"Waiting up to {grace:.0f} s for them to clean up; then they are killed."
        notify(Notice(level="info", text=text))
    left = _await(participant, grace)
    while left:
        for process in left:
            _signal(process, signal.SIGKILL)
            notify(Notice(level="warning", text=f"{_name(participant, process)}: killed"))
        left = _await(participant, _LAST_WORDS)
    return _list_daemons(participant, alive, notify)


def _name(participant: Participant, process: Process) -> str:
    ours = process.pid == participant.holder.process.pid
    return f"{'packer-fork' if ours else process.command} ({process.pid})"


def _tree(participant: Participant) -> list[Process]:
    """The packer-fork process, the sessions of its Packers, and what descends from these."""
    everything = processes.all_processes()
    holder, packer = participant.holder.process, participant.packer
    roots = {holder.pid} if processes.alive(holder) else set()
    marked = processes.marked(MARKER, participant.id, everything)
    sessions = {process.session for process in marked if process.command == PACKER_BUILD}
    sessions |= {packer.pid} if packer else set()
    roots |= {process.pid for process in marked if process.session in sessions}
    below = processes.below(roots, everything)
    return [process for process in everything if process.pid in roots] + below


def _terminate(participant: Participant, tree: list[Process]) -> list[Process]:
    """SIGTERM to packer-fork, which hands it on; without one to Packer, outer or inner.

    A stopped process does not hear it before it is continued. Returns who was told.
    """
    holder = [process for process in tree if process.pid == participant.holder.process.pid]
    packers = [process for process in tree if process.command == PACKER_BUILD]
    outer = [process for process in packers if process.pid == process.session]
    told = holder or outer or packers or tree
    for process in told:
        _signal(process, signal.SIGTERM)
        _signal(process, signal.SIGCONT)
    return told


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, number)


def _await(participant: Participant, seconds: float) -> list[Process]:
    """What of it still lives once all are gone or time is up.

    Only packer-fork and Packer clean up; scripts that outlive both get but a moment.
    """
    deadline = time.monotonic() + seconds
    cleaning = True
    while (left := _tree(participant)) and time.monotonic() < deadline:
        if cleaning and not any(_cleans_up(participant, process) for process in left):
            cleaning = False
            deadline = min(deadline, time.monotonic() + _LAST_WORDS)
            for process in left:
                _signal(process, signal.SIGTERM)
        time.sleep(_LOOK)
    return left


def _cleans_up(participant: Participant, process: Process) -> bool:
    return process.pid == participant.holder.process.pid or process.command == PACKER_BUILD


def _list_daemons(participant: Participant, alive: Sequence[LiveProcess], notify: Notify) -> bool:
    """Tell of what merely inherited the lock's descriptor; it is left alone."""
    ours = {process.pid for process in _tree(participant)}
    existing = {process.pid for process in processes.all_processes()}
    daemons = [
        process
        for process in alive
        if process.participant == participant.number and process.pid in existing - ours
    ]
    for daemon in daemons:
        text = f"{daemon.command} ({daemon.pid}) outlived the run and is left alone: {daemon.how}"
        notify(Notice(level="warning", text=text))
    return bool(daemons)
