"""Real shells on a terminal, set up as README.md says, and a TAB for a test to press."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.conftest import Cli, eventually, unavailable
from tests.support.docs import example
from tests.support.tmux import Terminal, shell_in_tmux

_SHOW = Path(__file__).parent / "show_words.py"
"""A program that is completed as packer-fork is, and tells the words that it is given."""


class Kind(NamedTuple):
    """How a shell completes `show` as well, and how many TABs make it list words."""

    setup: str
    tabs: int


KINDS: Mapping[str, Kind] = {
    "bash": Kind("complete -F _packer_fork show", tabs=2),
    "zsh": Kind("compdef _packer-fork show", tabs=1),
    "fish": Kind("complete -c show -w packer-fork", tabs=1),
}


class Shell(NamedTuple):
    kind: Kind
    terminal: Terminal
    words: Path

    def completed(self, typed: str) -> list[str]:
        """The words of a command line after a TAB behind `typed`."""
        self.words.unlink(missing_ok=True)
        self.terminal.type("-l", f"show {typed}")
        self.terminal.type("Tab", "Enter")
        self._wait_for_words()
        return self.words.read_text(encoding="utf-8").split("\0")[:-1]

    def listed(self, typed: str, *texts: str) -> str:
        """The screen once it shows those words behind `typed`."""
        self.terminal.type("-l", f"show {typed}")
        self.terminal.type(*["Tab"] * self.kind.tabs)
        screen = self.terminal.sees(*texts)
        self.terminal.type("C-c")
        return "\n".join(screen)

    def _wait_for_words(self) -> None:
        try:
            eventually(self.words.exists)
        except AssertionError:
            raise AssertionError("\n".join(self.terminal.screen())) from None

    def ready(self) -> None:
        self.terminal.type("-l", f"{self.kind.setup}; show ready; clear")
        self.terminal.type("Enter")
        self._wait_for_words()


def opened(cli: Cli, name: str) -> Shell:
    """That shell, in the project, with packer-fork on its PATH."""
    for tool in ("tmux", name):
        if shutil.which(tool) is None:
            unavailable(f"{tool} is not installed: run .ci/ensure-test-tools")
    folder = cli.files / "bin"
    folder.mkdir()
    _script(folder / "packer-fork", [sys.executable, "-m", "packer_fork"])
    _script(folder / "show", [sys.executable, "-S", str(_SHOW), str(folder / "words")])
    env = {"PATH": f"{folder}:{cli.environment['PATH']}"}
    _set_up(cli, name, env)
    terminal = shell_in_tmux(cli, name, "-i", size=(100, 40), env=env)
    shell = Shell(KINDS[name], terminal, folder / "words")
    shell.ready()
    return shell


def _set_up(cli: Cli, name: str, env: Mapping[str, str]) -> None:
    """By the line of README.md about that shell."""
    home = Path(cli.environment["HOME"])
    (home / ".config/fish/completions").mkdir(parents=True)
    # Without it fish makes completions of all manual pages, in the background.
    (home / ".local/share/fish/generated_completions").mkdir(parents=True)
    (script,) = (each for each in example("completion").splitlines() if f" {name}" in each)
    subprocess.run(["bash", "-c", script], env={**cli.environment, **env}, check=True)


def _script(path: Path, command: list[str]) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
