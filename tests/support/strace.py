"""Commands under strace, which sees their system calls and makes some of them fail."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.forking import Forking, command

ROOT = Path(__file__).parents[2]
_PR_SET_PTRACER = 0x59616D61


def under_strace(log: Path, *options: str) -> list[str]:
    """What to put before a command that starts no other.

    Calls that `options` do not name take no longer than without strace, unless one of those
    named ends in a signal: with ``--seccomp-bpf`` strace 6.1 sends none.
    """
    sends_signal = any("signal=" in option for option in options)
    quick = () if sends_signal else ("-f", "--seccomp-bpf")
    return ["strace", *quick, "-qq", "-o", str(log), *options]


def read_calls(log: Path) -> str:
    """What strace saw, a line a call, without the pids that ``-f`` puts before them."""
    return re.sub(r"^\d+ +", "", log.read_text(), flags=re.MULTILINE)


class Traced(NamedTuple):
    """How a process ended, what it wrote, and the calls that strace saw."""

    returncode: int
    out: str
    err: str
    calls: str


def run_traced(
    forking: Forking, folder: Path, module: str, words: Sequence[str], *options: str
) -> Traced:
    """Run a module of `forking.MODULES` under strace, forked from a process that has imported it.

    Its ``main`` begins with `await_tracer`. `folder` is for the output.
    """
    log, out, err = (folder / name for name in ("trace", "out", "err"))
    waiting, go_on = os.pipe()
    with out.open("wb") as told, err.open("wb") as warned:
        streams = [waiting, told.fileno(), warned.fileno()]
        process = forking.start(command(module, words, ROOT, os.environ), streams)
    os.close(waiting)
    tracer = subprocess.Popen(
        ["strace", "-o", str(log), *options, "-p", str(process.pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    with tracer:
        assert tracer.stderr is not None
        attached = tracer.stderr.readline()
        os.close(go_on)
        returncode = process.wait(60)
        tracer.stderr.read()
    assert "attached" in attached, attached
    return Traced(returncode, out.read_text(), err.read_text(), log.read_text())


def await_tracer() -> None:
    """Wait for strace, by the end of standard input; any process of this user may trace."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_long(-1), 0, 0, 0)
    os.read(0, 1)
