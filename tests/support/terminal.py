"""The command line on a terminal, for tests; see ``terminal_process.py``."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import Cli, Running, eventually

ENTER = "\r"
CTRL_C = "\x03"


STAYING_SHELL = ("sh", "-c", '"$@"; read nothing', "sh")
"""Leads the terminal's session, so that the terminal outlives packer-fork."""


def on_terminal(
    cli: Cli,
    *args: str,
    steps: Sequence[tuple[str, str]] = (),
    leader: Sequence[str] = (),
) -> Running:
    """packer-fork with `args` on a terminal; each text of `steps` is met with its answer."""
    program = Path(__file__).parent / "terminal_process.py"
    return cli.start(*args, under=[sys.executable, str(program), json.dumps(steps), *leader])


def appears(running: Running, text: str) -> None:
    """Wait until `text` is on the terminal."""
    eventually(lambda: text in running.out() or running.process.poll() is not None)
    assert text in running.out(), running.wait()
