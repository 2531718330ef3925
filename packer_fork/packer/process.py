"""Packer as a process: started so that it outlives us, ended so that nothing of it stays.

Its tree is ``packer (outer) -> packer (inner) -> plugins -> sh -> script``, all in
the session that the outer one leads. Only the outer one is told to cancel; plugins
ignore signals, and scripts may be left behind by a cancel. We are the subreaper:
what loses its parent becomes our child and stays in sight.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from packer_fork import durable, host, processes
from packer_fork.errors import PackerError, StoreError
from packer_fork.locks import ProcessId
from packer_fork.processes import Process

_LOWEST_DESCRIPTOR = 200
"""panicwrap reuses 3 to 5 in the inner Packer; from here on nothing does."""

_KILL_SECONDS = 5.0
_PAUSE = 0.002
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_RESET = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)


class PackerProcess:
    """A Packer that was started, up to the end of its last process."""

    def __init__(self, outer: subprocess.Popen[bytes], command: Sequence[str]) -> None:
        self._outer = outer
        self._arguments = tuple(command[1:])
        self._sessions = {outer.pid}
        self.pid = outer.pid
        self.identity: ProcessId = host.identify(outer.pid)

    def poll(self) -> int | None:
        """Exit code of the outer process, negative if a signal killed it; None while it runs."""
        return self._outer.poll()

    def terminate(self) -> None:
        """Ask for a graceful cancel: Packer cleans up, which may take minutes."""
        self._outer.terminate()

    def members(self) -> list[Process]:
        """Live processes of its session and all that descends from these.

        A daemon that a provisioner left in a session of its own, with no parent of
        this tree any more, is not one of them.
        """
        everything = processes.all_processes()
        own = [process for process in everything if process.session in self._sessions]
        pids = {process.pid for process in own}
        return own + processes.below(pids, everything)

    def outlived_by_inner(self) -> bool:
        """Whether the inner Packer, which runs the build, lives on without the outer one."""
        return self._outer.poll() is not None and any(
            process.pid != self.pid and processes.arguments(process.pid)[1:] == self._arguments
            for process in self.members()
        )

    def terminate_members(self) -> None:
        """SIGTERM to each member; plugins ignore it, the inner Packer cancels and cleans up."""
        _signal_all(self.members(), signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to each member, again and again until none is left.

        Gives up after five seconds: nothing kills a process that hangs in the kernel.
        """
        deadline = time.monotonic() + _KILL_SECONDS
        while (members := self.members()) and time.monotonic() < deadline:
            # Killing a parent must not hide its children that are in another session.
            self._sessions.update(process.session for process in members)
            _signal_all(members, signal.SIGKILL)
            self.reap()
            time.sleep(_PAUSE)

    def reap(self) -> None:
        """Bury the dead that we inherited as their subreaper."""
        self._outer.poll()
        for session in self._sessions:
            for pid in processes.zombies(os.getpid(), session):
                if pid != self.pid:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)


class Launch(Struct, frozen=True, kw_only=True):
    """How Packer is started.

    ``lock``: the descriptor of the lock that Packer inherits and holds. ``marker``: a variable of
    the environment, by which Packer's processes are recognised, and its value.
    ``die_with_parent``: Packer is cancelled when the THREAD that starts it ends, in whatever way
    (Linux only).
    """

    command: tuple[str, ...]
    directory: Path
    environ: Mapping[str, str]
    lock: int
    marker: tuple[str, str]
    die_with_parent: bool


def start(launch: Launch, *, stdout: Path, stderr: Path) -> PackerProcess:
    """Start Packer in a session of its own, writing to files.

    Raises PackerError if the program cannot be started, StoreError if its log files cannot be
    opened.
    """
    with _log(stdout) as out, _log(stderr) as err:
        outer = spawn(
            launch, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
    return PackerProcess(outer, launch.command)


def spawn(launch: Launch, **streams: Any) -> subprocess.Popen[bytes]:
    """The outer process; `streams` are arguments of Popen. Raises PackerError."""
    name, value = launch.marker
    prepare = in_the_child(os.getpid(), die_with_parent=launch.die_with_parent)
    with _high_copy(launch.lock) as lock:
        try:
            return subprocess.Popen(
                list(launch.command),
                cwd=launch.directory,
                env={**launch.environ, name: value},
                pass_fds=(lock,),
                preexec_fn=prepare,  # noqa: PLW1509 (no allocation of ours, no lock, no import)
                **streams,
            )
        except (OSError, ValueError) as error:
            raise _not_started(launch.command[0], launch.directory, error) from error


def in_the_child(parent: int, *, die_with_parent: bool) -> Callable[[], None]:
    """Make us the subreaper; what is returned runs in the child, between fork and exec."""
    prctl = _prctl()
    prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def prepare() -> None:
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if die_with_parent:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    return prepare


def _prctl() -> Callable[[int, int], int]:
    """prctl(2) with one argument; does nothing where there is none."""
    if sys.platform != "linux":
        return lambda _option, _value: 0
    import ctypes

    libc = ctypes.CDLL(None)
    nothing = ctypes.c_ulong(0)
    return lambda option, value: int(
        libc.prctl(option, ctypes.c_ulong(value), nothing, nothing, nothing)
    )


@contextlib.contextmanager
def _log(path: Path) -> Iterator[int]:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, durable.FILE_MODE)
        durable.share_like(path.parent, descriptor)
    except OSError as error:
        raise StoreError(
            f"The log {path} cannot be opened ({error.strerror}).",
            hint="Make its folder writable, or name another one with --state.",
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _high_copy(descriptor: int) -> Iterator[int]:
    """A copy with a number so high that Packer does not overwrite it."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    lowest = _LOWEST_DESCRIPTOR if limit > _LOWEST_DESCRIPTOR else limit // 2
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
    try:
        yield copy
    finally:
        os.close(copy)


def _not_started(program: str, directory: Path, error: Exception) -> PackerError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    if isinstance(error, FileNotFoundError) and str(error.filename) == str(directory):
        return PackerError(
            f"Packer cannot be started in {directory}: there is no such directory.",
            hint="Change to a directory that exists.",
        )
    return PackerError(
        f"{program} cannot be started ({reason}).",
        hint="Check that it is Packer, for this machine's processor, and executable.",
    )


def _signal_all(members: Sequence[Process], number: signal.Signals) -> None:
    for process in members:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)
