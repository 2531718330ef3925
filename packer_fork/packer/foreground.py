"""Packer on our own terminal: in our session and process group, so that it may ask questions.

What the terminal sends (Ctrl-C, Ctrl-Z) reaches it without us. It asks on the controlling
terminal itself, whatever its standard streams are, and only if it is in the foreground.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import termios
from collections.abc import Iterator, Sequence
from typing import Any

from packer_fork import processes
from packer_fork.packer.process import Launch, PackerProcess, spawn
from packer_fork.processes import Process

_TERMINAL = "/dev/tty"


class ForegroundProcess(PackerProcess):
    """A Packer that shares our session, with who knows what else."""

    def __init__(
        self, outer: subprocess.Popen[bytes], command: Sequence[str], marker: tuple[str, str]
    ) -> None:
        super().__init__(outer, command)
        self._marker = marker

    def members(self) -> list[Process]:
        """Packer, what descends from it, and what of our session bears the mark of the run."""
        session = os.getsid(0)
        marked = {p.pid for p in processes.marked(*self._marker) if p.session == session}
        roots = marked | {self.pid}
        everything = processes.all_processes()
        own = [process for process in everything if process.pid in roots]
        return own + processes.below(roots, everything)

    def reap(self) -> None:
        """Only Packer is ours to bury: other children of this process are not of the run."""
        self.poll()


def start(launch: Launch) -> ForegroundProcess:
    """Start Packer on our own standard streams. Raises PackerError if it cannot be started."""
    return ForegroundProcess(spawn(launch), launch.command, launch.marker)


def has_terminal() -> bool:
    """Whether Packer, started now, would find somebody to ask: by the same test as its own."""
    with contextlib.suppress(OSError), _terminal() as terminal:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    return False


@contextlib.contextmanager
def terminal_kept() -> Iterator[None]:
    """Put the terminal back as it was: a Packer that is killed while it asks leaves it raw."""
    with _terminal() as terminal:
        before = termios.tcgetattr(terminal)
        try:
            yield
        finally:
            _put_back(terminal, before)


def _put_back(terminal: int, before: list[Any]) -> None:
    """Unless we are in the background now: the terminal is somebody else's then."""
    # Blocked, so that the terminal does not stop us if it changes hands in between.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        with contextlib.suppress(OSError, termios.error):
            if os.tcgetpgrp(terminal) == os.getpgrp():
                termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextlib.contextmanager
def _terminal() -> Iterator[int]:
    descriptor = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
