"""packer-fork, forked from a process that has imported it: most of a short command is imports.

So are actors, which tests of the lock direct. What is forked is a process like any other,
with arguments, folder, environment, streams and session of its own. Only from outside does it
show another command line, and an environment that it was not started with: a test that looks
at these starts it the usual way.

    test -> server: connects, sends what to run, with three descriptors
            server -> packer-fork: one for each connection
    test <- server: its pid, and later how that ended
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec
from msgspec import Struct

import packer_fork

_MOST = 1 << 20
_READ_AT_START = ("LD_", "PYTHON", "LANG", "LC_", "TZ")
"""How variables begin that the linker, or Python, reads once, when a process starts."""

_THEIRS = ("portalocker", "prometheus_client", "rich.text", "stamina", "tree_sitter_hcl")


class Command(Struct, frozen=True):
    """``module`` has a ``main``. Arguments, working directory, the whole environment: as bytes,
    which need be no UTF-8.
    """

    module: str
    words: Sequence[bytes]
    cwd: bytes
    environ: Mapping[bytes, bytes]


PACKER_FORK = "packer_fork.cli"
ACTOR = "tests.support.actor"
COMMITTER = "tests.support.committer"
MAINTENANCE = "tests.support.maintenance_process"
MODULES = (ACTOR, COMMITTER, MAINTENANCE)
"""Each has a ``main``, as has the command line."""


def command(module: str, words: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> Command:
    there = {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}
    return Command(module, [*map(os.fsencode, words)], os.fsencode(cwd), there)


class Forked:
    """A command that runs, as ``subprocess.Popen`` shows one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pid = int(connection.recv(100))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = int(self._connection.recv(100))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0) from None
            self._connection.close()
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forking:
    """The server, as long as it is needed. Safe for threads."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        """`environ` is that of the interpreter; commands may differ in all that it does not read.

        `folder` is there for as long as the server.
        """
        self.folder = folder
        self._environ = environ
        self._path = str(folder / "forking")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(self._path)
        listener.listen(64)
        with listener:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forking", str(listener.fileno())],
                cwd=Path(__file__).parents[2],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )

    def can(self, environ: Mapping[str, str]) -> bool:
        """Whether a command with this environment would be the same if it started anew."""
        return _told(environ) == _told(self._environ)

    def start(self, command: Command, streams: Sequence[int]) -> Forked:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self._path)
        socket.send_fds(connection, [msgspec.msgpack.encode(command)], streams)
        return Forked(connection)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _told(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in environ if name.startswith(_READ_AT_START)}


def _import_all() -> None:
    """What commands import when they need it."""
    ours = (module.name for module in pkgutil.walk_packages(packer_fork.__path__, "packer_fork."))
    for name in (*ours, *_THEIRS, *MODULES):
        if not name.endswith("__main__"):
            importlib.import_module(name)


class _Running(NamedTuple):
    """A process that was forked: who wants to know how it ends."""

    pid: int
    end: int  # a descriptor that is readable once it has ended, see pidfd_open(2)
    connection: socket.socket


def _serve(listener: socket.socket) -> None:
    """Fork for each connection, and tell it how that process ended."""
    gc.freeze()  # a collection would touch, and so copy, all that was imported
    running: dict[int, _Running] = {}
    events = select.poll()
    events.register(listener, select.POLLIN)
    while True:
        for ready, _ in events.poll():
            if ready == listener.fileno():
                started = _start(listener, running.values())
                running[started.end] = started
                events.register(started.end, select.POLLIN)
            else:
                events.unregister(ready)
                _tell_end(running.pop(ready))


def _start(listener: socket.socket, others: Collection[_Running]) -> _Running:
    connection, _ = listener.accept()
    data, streams, _, _ = socket.recv_fds(connection, _MOST, 3)
    pid = os.fork()
    if pid == 0:
        for each in others:
            os.close(each.end)
            each.connection.close()
        listener.close()
        connection.close()
        _become(msgspec.msgpack.decode(data, type=Command), streams)
    for stream in streams:
        os.close(stream)
    connection.send(str(pid).encode())
    return _Running(pid, os.pidfd_open(pid), connection)


def _tell_end(ended: _Running) -> None:
    _, status = os.waitpid(ended.pid, 0)
    with contextlib.suppress(OSError):  # the test may no longer listen
        ended.connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os.close(ended.end)
    ended.connection.close()


def _become(command: Command, streams: Sequence[int]) -> NoReturn:
    """This process is packer-fork from here on."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(command.cwd)
    os.environb.clear()
    os.environb.update(command.environ)
    time.tzset()
    sys.argv = [f"{packer_fork.__path__[0]}/__main__.py", *map(os.fsdecode, command.words)]
    try:
        importlib.import_module(command.module).main()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        _end(end.code)
    _end(0)


def _end(code: int) -> NoReturn:
    """End as Python does, without taking apart all modules, which would copy them first."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _import_all()
    _serve(socket.socket(fileno=int(sys.argv[1])))
