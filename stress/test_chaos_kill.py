"""kill -9: of any process at any time, and of packer-fork at any of its calls."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from packer_fork import processes
from packer_fork.codec.builds import decode_build
from packer_fork.model import BuildStatus
from packer_fork.processes import Process
from stress import aftermath, faults
from stress.aftermath import ALONE, TEMPLATE, Scene
from stress.conftest import Say
from stress.faults import Point
from stress.scale import Scale
from tests.conftest import MARK, Cli, Project, Running, eventually
from tests.support import local_states
from tests.support.local_store import open_store
from tests.support.queries import answer

pytestmark = [pytest.mark.usefixtures("packer", "strace"), pytest.mark.timeout(7200)]

ROUNDS = 1000

LIVELY = """
    source "null" "n" { communicator = "none" }
    source "file" "f" {
      content = "hello"
      target  = "out.txt"
    }
    build {
      sources = ["null.n", "file.f"]
      provisioner "shell-local" { inline = ["sleep 0.1; touch proof-$PACKER_BUILD_NAME"] }
    }
"""
"""Each build leaves a file that proves that it came to its end."""

PROOFS = {"null.n": "proof-n", "file.f": "proof-f"}


def role_of(process: Process, wrapper: int) -> str:
    if process.pid == wrapper:
        return "packer-fork"
    if process.command == "packer build":
        return "outer packer" if process.pid == process.session else "inner packer"
    if process.command.startswith("packer plugin"):
        return "plugin"
    return "helper" if process.command.startswith(("packer", "python")) else "script"


ROLES = ("packer-fork", "outer packer", "inner packer", "plugin", "script", "any")


def victims(here: Scene, running: Running, role: str) -> list[Process]:
    """Those of the build's tree that play this role now."""
    found = processes.marked(MARK, here.cli.environment[MARK])
    return [p for p in found if role in ("any", role_of(p, running.pid))]


def kill_one(here: Scene, running: Running, role: str, rng: random.Random) -> str:
    """At a random moment of its life; the role of who was killed, "" if all had ended."""

    def is_on_stage() -> bool:
        if role == "packer-fork" and not aftermath.is_held(here.folder):
            return running.process.poll() is not None
        return bool(victims(here, running, role)) or running.process.poll() is not None

    eventually(is_on_stage)
    time.sleep(rng.uniform(0, 0.5 if role in ("any", "packer-fork") else 0.05))
    found = victims(here, running, role)
    if not found:
        return ""
    victim = rng.choice(found)
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim.pid, signal.SIGKILL)
        return role_of(victim, running.pid)
    return ""


def last_run(folder: Path) -> int:
    state = open_store(folder).read()
    return state.last_run.number if state and state.last_run else 0


def assert_true(here: Scene, root: Path, run: int) -> None:
    """What this run is said to have completed has left its proof."""
    state = open_store(here.folder).read()
    for build in map(decode_build, state.builds.values() if state else ()):
        if build.status is BuildStatus.COMPLETE and build.run == run:
            assert (root / PROOFS[build.name]).exists(), build


def test_any_process_is_killed_at_any_time(
    cli: Cli, project: Project, scale: Scale, rng: random.Random, figure: Say
) -> None:
    here, killed, checked = aftermath.scene(cli, project, LIVELY), Counter[str](), 0
    for index, _ in enumerate(scale.some(ROUNDS)):
        for proof in PROOFS.values():
            (project.root / proof).unlink(missing_ok=True)
        before = last_run(here.folder)
        running = here.start("build", "--rebuild", TEMPLATE)
        role = kill_one(here, running, ROLES[index % len(ROLES)], rng)
        result = running.wait()
        aftermath.assert_calm(result)
        assert (result.rc == -signal.SIGKILL) == (role == "packer-fork"), (role, result)
        eventually(lambda: aftermath.settled(here.folder))
        assert_true(here, project.root, before + 1)
        killed[role] += 1
        checked = aftermath.check(here)
    for role in sorted({*ROLES[:-1], *killed} - {""}):
        figure(f"kills of: {role}", killed[role], "kills")
    figure("acknowledged changes checked", checked, "changes")
    assert sum(killed[role] for role in ROLES[:-1]) > 0


def test_killed_at_any_call_of_a_build(
    cli: Cli, project: Project, tmp_path: Path, scale: Scale, figure: Say
) -> None:
    here, trace, killed, checked = aftermath.scene(cli, project, ALONE), tmp_path / "trace", 0, 0
    aftermath.builds_next(here)
    assert here.build(under=faults.watched(trace).under).rc == 0
    points = faults.points(trace)
    for index in scale.some(len(points)):
        traced = faults.with_fault(trace, points[index], "signal=SIGKILL")
        result = here.build(under=traced.under)
        assert (result.rc == -signal.SIGKILL) == traced.was_hit(), (points[index], result)
        killed += traced.was_hit()
        checked = aftermath.check(here)
    figure("calls at which it was killed", killed, "kills")
    figure("acknowledged changes checked", checked, "changes")
    assert killed


COMMANDS = {
    "prune": ("state", "prune", "--keep-runs", "1", TEMPLATE),
    "rollback": ("state", "rollback", TEMPLATE, "4", "--yes"),
}


def test_killed_at_any_call_of_a_command(
    cli: Cli, project: Project, tmp_path: Path, scale: Scale, figure: Say
) -> None:
    here, killed, checked = aftermath.scene(cli, project, ALONE), Counter[str](), 0
    before, let_go = several_segments(here, tmp_path)
    points = [(name, point) for name in COMMANDS for point in points_of(here, name, before)]
    for index in scale.some(len(points)):
        name, point = points[index]
        aftermath.put_back(here, before)
        traced = faults.with_fault(cli.files / "trace", point, "signal=SIGKILL")
        result = here.run(*COMMANDS[name], under=traced.under)
        assert (result.rc == -signal.SIGKILL) == traced.was_hit(), (name, point, result)
        killed[name] += traced.was_hit()
        aftermath.assert_whole(here.folder)
        checked += aftermath.assert_kept(here, let_go[name])
        runs_again(here, name)
        aftermath.check(here, let_go=let_go[name])
    for name in COMMANDS:
        figure(f"calls of {name} at which it was killed", killed[name], "kills")
        assert killed[name]
    figure("acknowledged changes checked", checked, "changes")


def runs_again(here: Scene, name: str) -> None:
    """Taking over the lock is a change, after which rollback must be repeated."""
    result = here.run(*COMMANDS[name])
    if "changed while you were asked" in result.err:
        result = here.run(*COMMANDS[name])
    assert result.rc == 0, result


def several_segments(here: Scene, tmp_path: Path) -> tuple[Path, dict[str, int]]:
    """A copy of a state with much history, and up to which serial a command lets go of it."""
    local_states.small(here.folder)
    assert here.run("state", "recover", TEMPLATE).rc == 0
    asked = answer(here.cli, *COMMANDS["prune"][1:], "--dry-run")
    assert asked["last"] > 0
    return shutil.copytree(here.folder, tmp_path / "before"), {
        "prune": asked["last"],
        "rollback": 0,
    }


def points_of(here: Scene, name: str, before: Path) -> list[Point]:
    aftermath.put_back(here, before)
    watched = faults.watched(here.cli.files / "trace")
    result = here.run(*COMMANDS[name], under=watched.under)
    assert result.rc == 0, result
    return faults.points(watched.trace)
