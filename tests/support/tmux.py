"""packer-fork on a terminal of tmux, whose screen a test can look at and resize."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.conftest import Cli, eventually

_TELLS_ITS_END = 'trap : INT; stty -echo; "$@"; echo "ended with $?"; read -r nothing'
"""Leads the terminal, so that it outlives packer-fork."""


class Terminal(NamedTuple):
    """One window of a server of its own, which ends with the test's processes."""

    socket: Path
    environment: Mapping[str, str]

    def tmux(self, *args: str) -> str:
        done = subprocess.run(
            ["tmux", "-u", "-S", self.socket, "-f", "/dev/null", *args],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def screen(self) -> list[str]:
        """Its lines, without the empty ones at the end."""
        return self.tmux("capture-pane", "-p").rstrip("\n").split("\n")

    def everything(self) -> list[str]:
        """The same with all that has scrolled away; lines that were wrapped are whole."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-").rstrip("\n").split("\n")

    def sees(self, *texts: str) -> list[str]:
        """Wait until each text is on the screen, which is returned."""

        def seen() -> list[str]:
            lines = self.screen()
            return lines if all(text in "\n".join(lines) for text in texts) else []

        try:
            return eventually(seen)
        except AssertionError:
            raise AssertionError("\n".join([f"not seen: {texts}", *self.screen()])) from None

    def resize(self, width: int, height: int) -> None:
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def type(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def shows_a_cursor(self) -> bool:
        return self.tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def end(self) -> tuple[int, list[str]]:
        """Wait for the command's end: its exit code, and what the screen shows then."""
        lines = self.sees("ended with ")
        (last,) = (line for line in lines if line.startswith("ended with "))
        return int(last.split()[-1]), lines[: lines.index(last)]


def in_tmux(
    cli: Cli,
    *args: str,
    size: tuple[int, int] = (80, 24),
    env: Mapping[str, str] | None = None,
) -> Terminal:
    """packer-fork with `args`, on a terminal so many cells wide and high."""
    variables = [f"{name}={value}" for name, value in (env or {}).items()]  # tmux has its own TERM
    command = ["env", *variables, sys.executable, "-m", "packer_fork", *args]
    return _opened(cli, ["sh", "-c", _TELLS_ITS_END, "sh", *command], size, {})


def shell_in_tmux(
    cli: Cli,
    *command: str,
    size: tuple[int, int] = (80, 24),
    env: Mapping[str, str] | None = None,
) -> Terminal:
    """A shell with job control, bash unless `command` is another one."""
    shell = [*command] or ["bash", "--norc", "--noprofile", "-i"]
    return _opened(cli, shell, size, {"PS1": "$ ", **(env or {})})


def _opened(
    cli: Cli, command: list[str], size: tuple[int, int], env: Mapping[str, str]
) -> Terminal:
    environment = {**cli.environment, **env}
    folder = tempfile.mkdtemp(dir=cli.environment["TMPDIR"])
    terminal = Terminal(Path(folder) / "tmux", environment)
    width, height = map(str, size)
    terminal.tmux("new-session", "-d", "-x", width, "-y", height, "-c", str(cli.cwd), *command)
    return terminal
