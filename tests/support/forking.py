"""packer-fork, forked from a process that has imported it: most of a short command is imports.

What it is, is a process like any other, with arguments, folder, environment, streams and
session of its own. Only who looks at it from outside sees another command line, and an
environment that it was not started with: such a test starts it the usual way.

    test -> server: connects, sends what to run, with three descriptors
            server -> handler: one for each connection
                      handler -> packer-fork
    test <- handler: how that ended
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

import packer_fork
from packer_fork.cli import main

_MOST = 1 << 20
_READ_AT_START = ("LD_", "PYTHON", "LANG", "LC_", "TZ")
"""How variables begin that the linker, or Python, reads once, when a process starts."""

_THEIRS = ("portalocker", "prometheus_client", "rich.text", "stamina", "tree_sitter_hcl")


class Command(Struct, frozen=True):
    """Arguments, working directory, the whole environment: as bytes, which need be no UTF-8."""

    words: Sequence[bytes]
    cwd: bytes
    environ: Mapping[bytes, bytes]


def command(words: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> Command:
    there = {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}
    return Command([*map(os.fsencode, words)], os.fsencode(cwd), there)


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
    for name in (*ours, *_THEIRS):
        if not name.endswith("__main__"):
            importlib.import_module(name)


def _serve(listener: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for handlers
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _handle(connection)
        connection.close()


def _handle(connection: socket.socket) -> None:
    data, streams, _, _ = socket.recv_fds(connection, _MOST, 3)
    command = msgspec.msgpack.decode(data, type=Command)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(command, streams)
        return
    try:
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    finally:
        os._exit(0)


def _become(command: Command, streams: Sequence[int]) -> None:
    """This process is packer-fork from here on; raises SystemExit, which ends it as usual."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(command.cwd)
    os.environb.clear()
    os.environb.update(command.environ)
    time.tzset()
    sys.argv = [f"{packer_fork.__path__[0]}/__main__.py", *map(os.fsdecode, command.words)]
    main()


if __name__ == "__main__":
    _import_all()
    _serve(socket.socket(fileno=int(sys.argv[1])))
