"""What must be true after any fault: the state, what was acknowledged, the lock, the next build."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from packer_fork.locks import LockStatus, Status
from packer_fork.stores.local import lock_status
from packer_fork.stores.local.layout import Layout
from stress import noting
from stress.checker import Kept
from stress.noting import Noted
from stress.recorder import kept
from tests.conftest import Cli, Project, Result, Running, eventually
from tests.support.local_store import holder, open_store

TEMPLATE = "t.pkr.hcl"

ALONE = """
    source "null" "n" { communicator = "none" }
    build { sources = ["null.n"] }
"""
"""The shortest build that there is."""

IN_ORDER = frozenset({Status.FREE, Status.ABANDONED})
"""What a lock is said to be once nobody lives who had it."""


class Scene(NamedTuple):
    """A project with one template, its state, and notes of what was acknowledged of it."""

    cli: Cli
    folder: Path
    notes: Path
    env: Mapping[str, str]

    def start(
        self, *args: str, under: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Running:
        """packer-fork that notes what is acknowledged."""
        by = (*under, *noting.under(self.notes))
        return self.cli.start(*args, under=by, env={**self.env, **(env or {})})

    def run(
        self, *args: str, under: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Result:
        return self.start(*args, under=under, env=env).wait()

    def build(self, *args: str, under: Sequence[str] = ()) -> Result:
        return self.run("build", "--rebuild", *args, TEMPLATE, under=under)

    def acknowledged(self) -> list[Noted]:
        return noting.read(self.notes)


def scene(cli: Cli, project: Project, template: str, states: Path | None = None) -> Scene:
    """`states`: where all states are, if not beside the template; notes are never there."""
    project.write(TEMPLATE, template)
    root = states or project.root / ".packer-fork"
    env = {**noting.environment, **({"PACKER_FORK_STATE": str(states)} if states else {})}
    return Scene(cli, root / TEMPLATE / "default", cli.files / "notes", env)


def settled(folder: Path) -> bool:
    """Whether nothing lives any more that ever had the lock."""
    layout = Layout(folder)
    return not any(lock_status.is_alive(layout, number) for number in layout.known_tokens())


def is_held(folder: Path) -> bool:
    return lock_status.judge(Layout(folder)).status is Status.HELD


def put_back(here: Scene, before: Path) -> None:
    """The folder as it was copied, all of its history acknowledged."""
    shutil.rmtree(here.folder)
    shutil.copytree(before, here.folder)
    noting.write(here.notes, (Noted(c.serial, c.token, "made") for c in kept(here.folder)))


def check(here: Scene, *, let_go: int = 0) -> int:
    """Everything, the next build included; how many acknowledged changes were found.

    `let_go`: the serial up to which somebody asked for the history to go.
    """
    eventually(lambda: settled(here.folder))
    status = open_store(here.folder).status()
    assert status.status in IN_ORDER, status
    assert_whole(here.folder)
    checked = assert_kept(here, let_go)
    builds_next(here)
    assert_kept(here, let_go)
    return checked


def builds_next(here: Scene) -> None:
    """A build as if nothing had been, after which nothing tells of what was."""
    before = len(here.acknowledged())
    result = here.build()
    assert result.rc == 0, result
    assert_calm(result)
    assert len(here.acknowledged()) > before
    assert open_store(here.folder).status().status is Status.FREE
    assert not [path.name for path in here.folder.iterdir() if path.name.startswith(".")]
    assert {path.suffix for path in (here.folder / "logs").iterdir()} <= {".log", ".json"}
    assert_whole(here.folder)


def assert_whole(folder: Path) -> None:
    """All that is stored reads well, down to the last byte."""
    store = open_store(folder)
    state, found = store.read(), store.verify()
    assert not found.problems
    assert (state.serial if state else None) == found.serial


def assert_kept(here: Scene, let_go: int = 0) -> int:
    noted = here.acknowledged()
    assert not missing(kept(here.folder) if noted else (), noted, let_go)
    return len(noted)


def missing(found: Iterable[Kept], noted: Iterable[Noted], let_go: int = 0) -> list[Noted]:
    """What was acknowledged and is not there, or not as it was."""
    there = {(change.serial, change.token) for change in found}
    return [each for each in noted if each.serial > let_go and each[:2] not in there]


def assert_calm(result: Result) -> None:
    """It may have failed, but it was not surprised."""
    assert "Traceback" not in result.err, result
    assert "fault of packer-fork" not in result.err, result


def can_acquire(folder: Path) -> None:
    """As the next one does, who then gives it back."""
    found = open_store(folder).try_acquire(holder("next"))
    assert not isinstance(found, LockStatus), found
    with contextlib.closing(found):
        assert found.is_open()
