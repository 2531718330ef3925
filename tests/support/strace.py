"""Commands under strace, which sees their system calls and makes some of them fail."""

from __future__ import annotations

import re
from pathlib import Path


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
