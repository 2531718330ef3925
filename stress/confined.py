"""Work in a forked child that may have so much memory and time, and no more."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SECONDS = 30
"""What one case may take of the processor: on a slow one the slowest, which grows as its input
does, takes a third of that.
"""

MEMORY = 1 << 30
"""Bytes that one case may have besides what the process has already."""


class TooSlowError(Exception):
    """A case was not done in its time."""


def confined(work: Callable[[], object], *, memory: int = MEMORY, seconds: int = SECONDS) -> str:
    """How `work` ended in a child: "" if well, else its exception or signal, in words."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _run(work, writing, memory, seconds)
    os.close(writing)
    with open(reading, "rb") as told:  # noqa: PTH123 (a pipe)
        said = told.read().decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return said


def _run(work: Callable[[], object], told: int, memory: int, seconds: int) -> None:
    try:
        faulthandler.disable()
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        limit = _size() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        work()
    except BaseException as error:  # noqa: BLE001 (that is what is asked)
        os.write(told, described(error).encode("utf-8", "replace")[:4000])
    os._exit(0)


def _size() -> int:
    """Bytes of address space that this process has."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


def described(error: BaseException) -> str:
    """Kind, words, and the place in packer_fork that it came through last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{Path(f.filename).name}:{f.name}" for f in frames if "packer_fork" in f.filename]
    words = " ".join(str(error).split())[:200]
    return f"{type(error).__name__} in {ours[-1] if ours else '?'}: {words}"


@contextmanager
def in_time(seconds: float = SECONDS) -> Iterator[None]:
    """Raise TooSlowError within, after so much time of the processor (waiting does not count)."""
    before = signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _too_slow(_: int, __: FrameType | None) -> None:
    raise TooSlowError
