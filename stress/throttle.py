"""A device that takes only so many writes a second, by the kernel's control groups.

Version 1 of them throttles all that is written to it; version 2 what the processes of one
group write, so there this process and those that it starts join one for as long (Linux,
admin-guide/cgroup-v1/blkio-controller.rst, and admin-guide/cgroup-v2.rst under "io.max").
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import unavailable

_GROUPS = Path("/sys/fs/cgroup")
_FIRST = _GROUPS / "blkio/blkio.throttle.write_iops_device"
_CONTROLLERS = _GROUPS / "cgroup.controllers"


@contextlib.contextmanager
def throttled(point: Path, writes: int) -> Iterator[None]:
    """At most so many writes a second reach the device of what is mounted at `point`."""
    number = point.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    if _FIRST.exists():
        _FIRST.write_text(f"{device} {writes}")
        try:
            yield
        finally:
            _FIRST.write_text(f"{device} 0")
    elif _CONTROLLERS.exists() and "io" in _CONTROLLERS.read_text().split():
        with _group() as group:
            (group / "io.max").write_text(f"{device} wiops={writes}")
            yield
    else:
        unavailable("no control group throttles devices here")


@contextlib.contextmanager
def _group() -> Iterator[Path]:
    """One of version 2 that this process is in; its children may stay for a moment longer."""
    _hand_down_io()
    group, before = _GROUPS / f"throttled.{os.getpid()}", _our_group()
    group.mkdir()
    _move(os.getpid(), group)
    try:
        yield group
    finally:
        _move(os.getpid(), before)
        with contextlib.suppress(OSError):
            group.rmdir()


def _hand_down_io() -> None:
    """To groups below, which the topmost of a container may only once it is empty itself."""
    control = _GROUPS / "cgroup.subtree_control"
    try:
        control.write_text("+io")
    except OSError:
        aside = _GROUPS / "aside"
        aside.mkdir(exist_ok=True)
        for pid in map(int, (_GROUPS / "cgroup.procs").read_text().split()):
            _move(pid, aside)
        control.write_text("+io")


def _our_group() -> Path:
    return _GROUPS / Path("/proc/self/cgroup").read_text().strip().removeprefix("0::/")


def _move(pid: int, group: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        (group / "cgroup.procs").write_text(str(pid))
