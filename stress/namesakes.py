"""A PID namespace of a test's own, in which a pid can be given to another process at will."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from packer_fork import processes
from tests.conftest import Cli, descendants, eventually, unavailable

_LAST_PID = "/proc/sys/kernel/ns_last_pid"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_FIRST = "import signal, time; signal.signal(signal.SIGCHLD, signal.SIG_IGN); time.sleep(1 << 30)"
"""The namespace's first process, which buries all orphans."""


class Namespace:
    """What is run `under` it sees no process but those in it."""

    def __init__(self, cli: Cli, first: int) -> None:
        self._cli = cli
        inside = ("nsenter", f"--target={first}", "--pid", "--mount")
        self.under = (*inside, "env", f"--chdir={cli.cwd}")

    def give(self, pid: int) -> int:
        """Start a process that leads a session and has this pid; its pid outside is returned.

        A pid is free only once the session is empty that is named by it.
        """
        return eventually(lambda: self._started_as(pid))

    def _started_as(self, pid: int) -> int:
        """0 if it became another one."""
        last = [*self.under, "tee", _LAST_PID]
        told = str(pid - 1).encode()
        subprocess.run(last, input=told, stdout=subprocess.DEVNULL, check=True)
        command = [*self.under, "setsid", "sleep", "600"]
        process = subprocess.Popen(command, env=self._cli.environment)
        self._cli.started.append(process)
        (child,) = eventually(lambda: descendants(process.pid))
        if pid_inside(child.pid) == pid:
            return eventually(lambda: _sleeping(child.pid))
        kill_all([child.pid])
        return 0

    def restart(self) -> None:
        """As after a reboot: from now on another boot is seen, though the processes stay."""
        other = self._cli.files / "boot_id"
        other.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
        subprocess.run([*self.under, "mount", "--bind", str(other), _BOOT_ID], check=True)


@contextlib.contextmanager
def namespace(cli: Cli) -> Iterator[Namespace]:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    permitted = subprocess.run([*command, "true"], capture_output=True, check=False)
    if permitted.returncode != 0:
        unavailable(f"not permitted here: {permitted.stderr.decode().strip()}")
    process = subprocess.Popen([*command, sys.executable, "-c", _FIRST], env=cli.environment)
    cli.started.append(process)
    (first,) = eventually(lambda: descendants(process.pid))
    eventually(lambda: processes.arguments(first.pid)[-1] == _FIRST)
    try:
        yield Namespace(cli, first.pid)
    finally:
        process.kill()
        process.wait()


def pid_inside(pid: int) -> int:
    """As which the process is known in its innermost namespace; 0 once it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return 0


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(map(pid_inside, pids)))


def _sleeping(pid: int) -> int:
    return pid if processes.arguments(pid)[:1] == ("sleep",) else 0
