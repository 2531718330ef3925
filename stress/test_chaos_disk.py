"""Disks that lose their power, fill up, fail, become read-only, or take their time."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from packer_fork.errors import (
    EXIT_DONE,
    EXIT_OUTBOX,
    EXIT_PACKER_FAILED,
    EXIT_STORE,
    StoreError,
)
from packer_fork.model import Build, PendingChange
from packer_fork.stores.base import HeldLock
from packer_fork.stores.local import lock_status
from packer_fork.stores.local.folder import MIN_FREE
from packer_fork.stores.local.layout import Layout
from stress import aftermath, disks, faults, noting
from stress.aftermath import ALONE, TEMPLATE, Scene
from stress.checker import Committed, violations
from stress.conftest import Say
from stress.disks import PAGE, Disk, Ext4
from stress.faults import Point
from stress.recorder import events, kept
from stress.scale import Scale
from stress.throttle import throttled
from tests.conftest import Cli, Project, Result, Running, eventually
from tests.support import local_states
from tests.support.local_store import open_store
from tests.support.templates import GATED, go_on

pytestmark = [
    pytest.mark.usefixtures("root", "strace", "packer"),
    pytest.mark.timeout(7200),
]

ROUNDS = 100

KEPT_OR_REFUSED = {EXIT_DONE, EXIT_PACKER_FAILED, EXIT_OUTBOX, EXIT_STORE}
"""What a disk may make of it: all is well, Packer was cancelled, results are kept elsewhere, or
nothing was done.
"""

CANCELLED = 128 + signal.SIGTERM


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Ext4]:
    with disks.ext4(tmp_path) as disk:
        yield disk


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Disk]:
    with disks.tmpfs(tmp_path, "16m") as disk:
        yield disk


# Power


def test_power_is_cut_while_changes_are_made(
    cli: Cli, project: Project, ext4: Ext4, scale: Scale, rng: random.Random, figure: Say
) -> None:
    here, noted = aftermath.scene(cli, project, ALONE, ext4.states), cli.files / "events"
    noted.touch()
    gaps = checked = 0
    for _ in scale.some(ROUNDS):
        cut_while_writing(here, ext4, noted, rng.randrange(1, 20_000))
        ext4.again()
        gaps += 1
        made = [event for event in events(noted) if isinstance(event, Committed)]
        assert not violations(made, kept(here.folder))
        aftermath.assert_whole(here.folder)
        aftermath.can_acquire(here.folder)
        checked = len(made)
    aftermath.check(here)
    figure("power gaps", gaps, "gaps")
    figure("acknowledged changes checked", checked, "changes")
    assert checked


def cut_while_writing(here: Scene, ext4: Ext4, noted: Path, more: int) -> None:
    """Once there are so many bytes of notes more."""
    wanted = noted.stat().st_size + more
    with writing(here.folder, noted) as writer:
        eventually(lambda: noted.stat().st_size > wanted or writer.poll() is not None)
        assert writer.poll() is None
        ext4.cut_power()


@contextlib.contextmanager
def writing(folder: Path, noted: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A writer, which is surprised by what happens to its disk, and says so at length."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "stress.writer", str(folder), str(noted)],
        cwd=noting.ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield writer
    finally:
        writer.kill()
        writer.wait()


def test_power_is_cut_during_a_build(
    cli: Cli, project: Project, ext4: Ext4, scale: Scale, rng: random.Random, figure: Say
) -> None:
    here = aftermath.scene(cli, project, ALONE, ext4.states)
    gaps = checked = 0
    for _ in scale.some(ROUNDS)[::2]:
        running = here.start("build", "--rebuild", TEMPLATE)
        held_or_ended(here, running)
        time.sleep(rng.uniform(0, 0.3))
        ext4.cut_power()
        cli.end_all()
        ext4.again()
        gaps += 1
        checked = aftermath.check(here)
    figure("power gaps", gaps, "gaps")
    figure("acknowledged changes checked", checked, "changes")
    assert checked


def held_or_ended(here: Scene, running: Running) -> None:
    eventually(lambda: aftermath.is_held(here.folder) or running.process.poll() is not None)


# Room


def test_the_disk_fills_up_while_changes_are_made(
    cli: Cli, project: Project, memory: Disk, scale: Scale, figure: Say
) -> None:
    here, full = aftermath.scene(cli, project, ALONE, memory.states), 0
    for pages in scale.some(60):
        with local_states.lock_of(open_store(here.folder)) as lock:
            change(here, lock, "before")
            ballast = memory.fill(pages * PAGE)
            full += changes_until_full(here, lock)
            aftermath.assert_whole(here.folder)
            aftermath.assert_kept(here)
            ballast.unlink()
            change(here, lock, "after")
        aftermath.assert_kept(here)
    figure("times the disk was full", full, "times")
    figure("acknowledged changes checked", aftermath.check(here), "changes")
    assert full


def changes_until_full(here: Scene, lock: HeldLock) -> bool:
    """Grow until there is no more room, also where it is compacted meanwhile."""
    for number in range(100):
        try:
            change(here, lock, random.randbytes(4_000).hex())
            if number % 7 == 0:
                lock.compact()
        except StoreError as error:
            if "No space left" not in error.message:
                raise
            return True
    return False


def change(here: Scene, lock: HeldLock, text: str) -> None:
    draft = PendingChange(operation="fill", builds={"b": Build(name="b", error=text)})
    serial = lock.commit(draft).serial
    with here.notes.open("a", encoding="utf-8") as notes:
        notes.write(f"{serial} {lock.record.token} fill\n")


CHATTY = GATED.replace("echo gone on", "seq 20000")
"""Its output takes more room than the reserve on the disk of the state."""


def test_the_disk_fills_up_during_a_build(
    cli: Cli, project: Project, memory: Disk, scale: Scale, figure: Say
) -> None:
    here = aftermath.scene(cli, project, CHATTY, memory.states)
    full = checked = 0
    for pages in scale.some(24)[::3]:
        running = opened(here, project)
        ballast = memory.fill(pages * PAGE)
        go_on(project.root)
        eventually(partial(filled_up, running, memory))
        result = ended_or_stopped(running)
        ballast.unlink()
        aftermath.assert_calm(result)
        assert result.rc in {*KEPT_OR_REFUSED, CANCELLED}, result
        full += result.rc != 0
        checked = aftermath.check(here)
    figure("builds whose disk was full", full, "builds")
    figure("acknowledged changes checked", checked, "changes")
    assert full


def opened(here: Scene, project: Project) -> Running:
    """A build of a gated template, at its gate."""
    for name in ("begun", "go"):
        (project.root / name).unlink(missing_ok=True)
    running = here.start("build", "--rebuild", TEMPLATE, env={"PACKER_FORK_GRACE": "1s"})
    eventually(lambda: (project.root / "begun").exists() or running.process.poll() is not None)
    assert running.process.poll() is None, running.wait()
    return running


def filled_up(running: Running, memory: Disk) -> bool:
    return os.statvfs(memory.point).f_bavail == 0 or running.process.poll() is not None


def ended_or_stopped(running: Running) -> Result:
    """Where Packer cannot write its output it may hang for ever: then somebody stops it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.process.wait(1)
    running.signal(signal.SIGTERM)
    return running.wait()


ROLLBACK = ("state", "rollback", TEMPLATE, "2", "--yes")


def test_the_disk_fills_up_during_a_compaction(
    cli: Cli, project: Project, memory: Disk, tmp_path: Path, scale: Scale, figure: Say
) -> None:
    here, refused, checked = aftermath.scene(cli, project, ALONE, memory.states), 0, 0
    with local_states.lock_of(open_store(here.folder)) as lock:
        for _ in range(5):
            lock.commit(many_builds(150))
    before = shutil.copytree(here.folder, tmp_path / "before")
    for pages in scale.some(480)[::2]:
        aftermath.put_back(here, before)
        ballast = memory.fill(MIN_FREE + pages * PAGE)
        result = here.run(*ROLLBACK)
        aftermath.assert_calm(result)
        assert result.rc in {0, EXIT_STORE}, result
        refused += result.rc != 0
        aftermath.assert_whole(here.folder)
        checked += aftermath.assert_kept(here)
        ballast.unlink()
        again = here.run(*ROLLBACK)
        assert again.rc == 0, again
    aftermath.check(here)
    figure("commands whose disk was full", refused, "commands")
    figure("acknowledged changes checked", checked, "changes")
    assert refused


def many_builds(count: int) -> PendingChange:
    """What does not get much smaller by compression."""
    names = (f"b{number}" for number in range(count))
    builds = {name: Build(name=name, error=random.randbytes(2_000).hex()) for name in names}
    return PendingChange(operation="fill", builds=builds)


# Errors


def test_eio_at_any_call_of_a_build(
    cli: Cli, project: Project, tmp_path: Path, scale: Scale, figure: Say
) -> None:
    here = aftermath.scene(cli, project, ALONE)
    before, trace = after_one_build(here, tmp_path)
    points = faults.points(trace, f"{re.escape(str(here.folder))}[>/]")
    found = [broken_at(here, before, points[index]) for index in scale.some(len(points))]
    figure("calls that failed", len(found), "calls")
    figure("acknowledged changes checked", sum(each.checked for each in found), "changes")
    problems = [each.problem for each in found if each.problem]
    assert not problems, "\n".join(problems)


def after_one_build(here: Scene, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the state before the next build, and all calls that this one made."""
    aftermath.builds_next(here)
    watched = faults.watched(tmp_path / "calls")
    before = shutil.copytree(here.folder, tmp_path / "before")
    assert here.build(under=watched.under).rc == 0
    return before, watched.trace


class Found(NamedTuple):
    """What became of a build in which one call failed."""

    checked: int
    problem: str


WAKEUP = "Exception ignored when trying to write to the signal wakeup fd"
"""The fault hit a pipe of the interpreter's own, as calls change places by a little."""


def broken_at(here: Scene, before: Path, point: Point) -> Found:
    aftermath.put_back(here, before)
    traced = faults.with_fault(here.cli.files / "trace", point, "error=EIO")
    result = here.build(under=traced.under)
    try:
        if WAKEUP not in result.err:
            aftermath.assert_calm(result)
        assert result.rc in KEPT_OR_REFUSED, result
        return Found(aftermath.check(here), "")
    except AssertionError as error:
        return Found(0, f"{point.call} {point.number}: {result.rc}: {error}")


PLACES = {
    "the record of the lock is in place, but not its folder": (r"fsync\(\d+<{}>\)", 1),
    "what is to be masked cannot be kept": (r"write\(\d+<{}/logs/\.\d+-\d+\.secrets", 0),
    "the raw log cannot be removed": (r'unlink\("{}/logs/\d+-\d+\.raw"', 0),
}


@pytest.mark.parametrize("place", PLACES)
def test_eio_where_it_went_unnoticed(
    cli: Cli, project: Project, tmp_path: Path, figure: Say, place: str
) -> None:
    here = aftermath.scene(cli, project, ALONE)
    before, trace = after_one_build(here, tmp_path)
    pattern, number = PLACES[place]
    point = faults.points(trace, pattern.replace("{}", re.escape(str(here.folder))))[number]
    found = broken_at(here, before, point)
    figure("acknowledged changes checked", found.checked, "changes")
    assert not found.problem, found.problem


@pytest.mark.parametrize("fault", ["break_down", "cut_power"])
def test_the_file_system_breaks_down_during_a_build(
    cli: Cli, project: Project, ext4: Ext4, scale: Scale, figure: Say, fault: str
) -> None:
    """It becomes read-only, or fails altogether; Packer may hang on its log until it is stopped."""
    here, broken, checked = aftermath.scene(cli, project, GATED, ext4.states), 0, 0
    for _ in scale.some(ROUNDS)[::6]:
        running = opened(here, project)
        getattr(ext4, fault)()
        go_on(project.root)
        result = ended_or_stopped(running)
        cli.end_all()
        ext4.again(checked=fault == "break_down")
        broken += 1
        checked = aftermath.check(here)
        aftermath.assert_calm(result)
        assert result.rc in {*KEPT_OR_REFUSED, CANCELLED}, result
    figure(f"file systems that failed by {fault}", broken, "times")
    figure("acknowledged changes checked", checked, "changes")


# Time

SLOW = 0.2
"""Seconds that each sync is delayed by."""

WRITES = 30
"""That a device takes in a second."""


class Slow(NamedTuple):
    """A place for states whose disk takes its time, seen by what is run under `under`."""

    states: Path
    under: tuple[str, ...] = ()


@contextlib.contextmanager
def delayed(folder: Path) -> Iterator[Slow]:
    under = faults.slowed(folder / "trace", ("fsync", "fdatasync"), SLOW).under
    yield Slow(folder / "states", under)


@contextlib.contextmanager
def on_a_slow_device(folder: Path) -> Iterator[Slow]:
    with disks.ext4(folder) as disk, throttled(disk.point, WRITES):
        yield Slow(disk.states)


@pytest.mark.parametrize("make", [delayed, on_a_slow_device])
def test_a_slow_disk_delays_no_reader(
    cli: Cli,
    project: Project,
    tmp_path: Path,
    figure: Say,
    make: Callable[[Path], contextlib.AbstractContextManager[Slow]],
) -> None:
    with make(tmp_path) as slow:
        here = aftermath.scene(cli, project, ALONE, slow.states)
        aftermath.builds_next(here)
        taken: list[float] = []
        while not taken:  # a loaded machine may let none of the reads meet a commit
            holder = here.start("build", "--rebuild", TEMPLATE, under=slow.under)
            held_or_ended(here, holder)
            waiter = here.start("build", "--rebuild", "--lock-timeout", "5m", TEMPLATE)
            taken = reads_during_commits(here.folder, holder)
            assert (holder.wait().rc, waiter.wait().rc) == (0, 0)
        figure("acknowledged changes checked", aftermath.check(here), "changes")
    figure("reads while a commit waited for the disk", len(taken), "reads")
    figure("longest of them", max(taken) * 1000, "ms")


def reads_during_commits(folder: Path, holder: Running) -> list[float]:
    """Seconds of each read at whose beginning and end somebody had the mutex; never back."""
    store, layout, taken, serial = open_store(folder), Layout(folder), list[float](), 0
    while holder.process.poll() is None:
        busy, start = lock_status.is_busy(layout.mutex), time.perf_counter()
        state = store.read()
        seconds = time.perf_counter() - start
        if busy and lock_status.is_busy(layout.mutex):
            taken.append(seconds)
        assert state is not None
        assert state.serial >= serial
        serial = state.serial
        store.status()
    return taken
