"""Faults at the n-th system call of packer-fork, put in by strace; its Packer is not touched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

WRITING = ("write", "pwrite64", "fdatasync", "fsync", "rename", "unlink")
"""Every call by which something becomes different on the disk."""

_CALL = re.compile(r"(\w+)\(")


class Point(NamedTuple):
    """The `number`-th time that `call` is made."""

    call: str
    number: int


class Traced(NamedTuple):
    """What a command is run by, and the file that tells what became of it."""

    under: tuple[str, ...]
    trace: Path

    def was_hit(self) -> bool:
        text = self.trace.read_text(encoding="utf-8", errors="replace")
        return "(INJECTED)" in text or "+++ killed by SIGKILL" in text


def watched(trace: Path) -> Traced:
    """No fault: the calls are only written down."""
    return Traced(_strace(trace, WRITING), trace)


def with_fault(trace: Path, point: Point, fault: str) -> Traced:
    """`fault` as strace names it: ``signal=SIGKILL``, ``error=EIO``."""
    inject = f"inject={point.call}:{fault}:when={point.number}"
    return Traced((*_strace(trace, [point.call]), "-e", inject), trace)


def slowed(trace: Path, calls: Iterable[str], seconds: float) -> Traced:
    """Each of `calls` takes so long to begin."""
    delay = f"inject={','.join(calls)}:delay_enter={round(seconds * 1e6)}"
    return Traced((*_strace(trace, calls), "-e", delay), trace)


def points(trace: Path, pattern: str = "") -> list[Point]:
    """Every call that was watched, in the order made; or those whose line has `pattern` in it."""
    made, found = Counter[str](), list[Point]()
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        made[match[1]] += 1
        if re.search(pattern, line):
            found.append(Point(match[1], made[match[1]]))
    return found


def _strace(trace: Path, calls: Iterable[str]) -> tuple[str, ...]:
    return ("strace", "-y", "-qq", "-o", str(trace), "-e", f"trace={','.join(calls)}")
