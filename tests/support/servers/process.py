"""One server as a process: started, ended, frozen, asked whether it is there."""

import contextlib
import http.client
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import eventually, freeze, unavailable

TOOLS = Path(__file__).parents[3] / ".tools" / "bin"
SILENT = 0.3  # seconds after which a server counts as one that does not lead any more
START = 60  # seconds within which a server is ready, on a machine that does much else
END = 10  # seconds within which one that was told to has ended

# Kills what it runs as soon as the thread that started it is gone.
TIED = ("setpriv", "--pdeathsig", "KILL")


def program(name: str) -> str:
    """The path of etcd, etcdctl or consul; without it a test is skipped, but fails on CI."""
    found = shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}{TOOLS}")
    return found or unavailable(f"{name} is not installed: run .ci/ensure-test-tools")


@dataclass
class Server:
    """A member of a cluster. `ready` and `leads` ask it, and are false as long as it is silent."""

    name: str
    endpoint: str  # "host:port" for clients
    argv: Sequence[str]
    folder: Path
    ready: Callable[[], bool]
    leads: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start it, also again after `stop` or `kill`: same data, same ports."""
        assert self.process is None, f"{self.name} runs already"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*TIED, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
                start_new_session=True,  # a Ctrl-C at the tests is not for it
            )

    def await_ready(self) -> None:
        """Return when it serves clients, which without a quorum it never does."""

        def is_ready() -> bool:
            assert self._running().poll() is None, f"{self.name} has ended:\n{self.said()}"
            return self.ready()

        eventually(is_ready, START)

    def restart(self) -> None:
        self.stop()
        self.start()
        self.await_ready()

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it neither answer nor notice that time passes; its connections stay open."""
        freeze(self._running().pid)

    def thaw(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def said(self) -> str:
        """The end of its log."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-4000:]

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, f"{self.name} does not run"
        return self.process

    def _end(self, number: signal.Signals) -> None:
        process = self._running()
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # a frozen one hears nothing else
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.process = None


def ask(
    endpoint: str,
    method: str,
    path: str,
    body: str = "",
    *,
    token: str = "",
    context: ssl.SSLContext | None = None,
    timeout: float = 1,
) -> str:
    """The text of a successful answer, or "" if there is none within `timeout` seconds."""
    connection = (
        http.client.HTTPSConnection(endpoint, timeout=timeout, context=context)
        if context
        else http.client.HTTPConnection(endpoint, timeout=timeout)
    )
    with contextlib.closing(connection):
        try:
            connection.request(method, path, body or None, {"X-Consul-Token": token})
            answer = connection.getresponse()
            said = answer.read().decode()
        except (OSError, http.client.HTTPException):
            return ""
    return said if answer.status == http.client.OK else ""
