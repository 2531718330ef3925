"""The processes of this machine, read from ``/proc``.

Processes come and go while one looks, and some belong to others: what has vanished
or may not be read is left out. Zombies are never listed: they are dead, only their
parent has not looked yet.

Without ``/proc`` (macOS) `all_processes` asks ``ps``: the process group stands for
the session, start times are 0. Environments and open files of others are unknown
there, so `marked` and `holders_of` find nothing, and `alive` can only tell that
the pid is in use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import takewhile
from os.path import samestat
from pathlib import Path

from msgspec import Struct

from packer_fork import host
from packer_fork.locks import MARKER, LiveProcess, Participant, ProcessId

_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "stat").exists()
_DEAD = frozenset("ZXx")
_SUBCOMMAND = re.compile(r"[a-z][a-z0-9-]*")


class Process(Struct, frozen=True):
    """A live process. ``started``: clock ticks since boot.

    ``command`` is fit to be shown: the program's name, for Packer its subcommand as
    well, never other arguments, which may hold secrets.
    """

    pid: int
    ppid: int
    session: int
    started: int
    command: str


def all_processes() -> list[Process]:
    """Every live process that can be seen from here, in no order."""
    if not _HAS_PROC:
        return list(_from_ps())
    return [found for pid in _pids() if (found := _read(pid))]


def in_session(session: int) -> list[Process]:
    """The live processes of a session, which is named by the pid of its first process."""
    return [process for process in all_processes() if process.session == session]


def marked(name: str, value: str, among: Iterable[Process] | None = None) -> list[Process]:
    """Those that were started with the environment variable `name` set to `value`."""
    entry = os.fsencode(f"{name}={value}")
    candidates = all_processes() if among is None else among
    return [process for process in candidates if entry in _environment(process.pid)]


def of_participant(
    participant: Participant, among: Iterable[Process] | None = None
) -> Iterator[LiveProcess]:
    """Live processes of a lock's participant: its own, and those that its Packer started.

    Those are in Packer's session or carry the environment marker, with or without a kernel
    lock. A process may come twice.
    """
    everything = all_processes() if among is None else tuple(among)
    number, holder, packer = participant.number, participant.holder.process, participant.packer
    if alive(holder):
        how = "holds the lock"
        yield LiveProcess(pid=holder.pid, command="packer-fork", how=how, participant=number)
    session = packer.pid if packer and may_lead(packer) else 0
    in_session = [each for each in everything if session and each.session == session]
    for how, found in (
        ("in the session of its Packer", in_session),
        (
            "carries the lock's ID in its environment",
            marked(MARKER, participant.id, everything),
        ),
    ):
        for each in found:
            yield LiveProcess(pid=each.pid, command=each.command, how=how, participant=number)


def holders_of(path: Path) -> list[Process]:
    """Those that have the file at `path` open; a file renamed since it was opened is not found."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    return [found for pid in _pids() if _has_open(pid, path.name, wanted) and (found := _read(pid))]


def below(roots: Collection[int], processes: Iterable[Process]) -> list[Process]:
    """Those of `processes` that descend from one of the pids `roots`; without these."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.ppid, []).append(process)
    found: dict[int, Process] = {}
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.pid not in found and child.pid not in roots:
                found[child.pid] = child
                waiting.append(child.pid)
    return list(found.values())


def zombies(parent: int, session: int) -> list[int]:
    """Pids of the dead children of `parent` in `session` that it has not waited for."""
    stats = ((pid, _stat(pid)) for pid in _pids())
    return [
        pid
        for pid, stat in stats
        if stat and stat.is_dead and (stat.ppid, stat.session) == (parent, session)
    ]


def arguments(pid: int) -> tuple[str, ...]:
    """The command line of `pid`, secrets included: for comparing, never for showing."""
    data = _bytes(pid, "cmdline").rstrip(b"\0")
    return tuple(os.fsdecode(part) for part in data.split(b"\0")) if data else ()


def same_system(identity: ProcessId) -> bool:
    """Whether its pid means the same here: the same boot of the same machine, same namespace."""
    return (identity.boot, identity.namespace) == (host.boot_id(), host.pid_namespace())


def alive(identity: ProcessId) -> bool:
    """Whether this very process still runs here."""
    if not same_system(identity):
        return False
    if not _HAS_PROC:
        return _pid_in_use(identity.pid)
    stat = _stat(identity.pid)
    return stat is not None and not stat.is_dead and stat.started == identity.started


def may_lead(identity: ProcessId) -> bool:
    """Whether a session of its pid is its own: not if another process has that pid by now.

    While a session lives, the kernel gives its number to no new process.
    """
    if not same_system(identity):
        return False
    stat = _stat(identity.pid) if _HAS_PROC else None
    return stat is None or stat.started == identity.started


def _pid_in_use(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _Stat(Struct, frozen=True):
    comm: str
    state: str
    ppid: int
    session: int
    threads: int
    started: int

    @property
    def is_dead(self) -> bool:
        """A zombie, once its last thread is gone: until then its files are still open."""
        return self.state in _DEAD and self.threads <= 1


def _pids() -> list[int]:
    try:
        return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    except OSError:
        return []


def _bytes(pid: int, name: str) -> bytes:
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _stat(pid: int) -> _Stat | None:
    """Fields 2, 3, 4, 6, 20 and 22 of ``/proc/PID/stat`` (proc(5)); the name may hold anything."""
    before, closing, after = _bytes(pid, "stat").rpartition(b")")
    fields = after.split()
    if not closing:
        return None
    comm = os.fsdecode(before.partition(b"(")[2])
    ppid, session, threads, started = (int(fields[index]) for index in (1, 3, 17, 19))
    return _Stat(comm, fields[0].decode(), ppid, session, threads, started)


def _read(pid: int) -> Process | None:
    stat = _stat(pid)
    if stat is None or stat.is_dead:
        return None
    return Process(pid, stat.ppid, stat.session, stat.started, _shown(arguments(pid), stat.comm))


def _shown(argv: tuple[str, ...], comm: str) -> str:
    name = Path(argv[0]).name if argv else f"[{comm}]"
    words = takewhile(_SUBCOMMAND.fullmatch, argv[1:]) if name == "packer" else ()
    return " ".join((name, *words))


def _environment(pid: int) -> frozenset[bytes]:
    return frozenset(_bytes(pid, "environ").split(b"\0"))


def _has_open(pid: int, name: str, wanted: os.stat_result) -> bool:
    """By device and inode. Names are compared first: a stat on a dead mount would hang."""
    try:
        descriptors = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            if descriptor.readlink().name == name and samestat(descriptor.stat(), wanted):
                return True
        except OSError:
            continue
    return False


def _from_ps() -> Iterator[Process]:
    import subprocess

    command = ["ps", "-axo", "pid=,ppid=,pgid=,stat=,comm="]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return
    for line in done.stdout.splitlines():
        pid, ppid, group, state, command_path = line.split(None, 4)
        if state[0] not in _DEAD:
            yield Process(int(pid), int(ppid), int(group), 0, Path(command_path).name)
