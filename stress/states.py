"""Made-up states, as large as asked for, in our shape and in that of the Go ancestor."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, structs

from packer_fork.changes import new_state
from packer_fork.locks import LockStatus
from packer_fork.model import (
    Actor,
    Artifact,
    Build,
    BuildStatus,
    File,
    Git,
    Instance,
    PendingChange,
    Run,
    RunStatus,
    State,
    Step,
    StepStatus,
    Template,
    WorkItem,
)
from packer_fork.stores.base import HeldLock
from packer_fork.stores.local.journal import Journal
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.reader import Reader
from packer_fork.stores.local.store import LocalStore
from tests.support.local_store import holder, open_store

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ACTOR = Actor(user="bench", host="bench", pid=1)
TEMPLATE = "t.pkr.hcl"
_PROVISIONERS = ("shell", "file", "ansible")
_DIGEST = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"


def name(number: int) -> str:
    return f"amazon-ebs.image-{number:05d}"


def build(number: int, *, run: int = 1, status: BuildStatus = BuildStatus.COMPLETE) -> Build:
    """A build of the ancestor's shape: an instance, three provisioners, one artifact."""
    begun = BEGIN + timedelta(seconds=number)
    return Build(
        name=name(number),
        type="amazon-ebs",
        status=status,
        run=run,
        inputs=_DIGEST,
        started=begun,
        ended=begun + timedelta(minutes=7),
        provisioners=tuple(
            Step(
                type=kind,
                name=f"step {place}",
                status=StepStatus.COMPLETE,
                started=begun + timedelta(minutes=place),
                ended=begun + timedelta(minutes=place + 1),
            )
            for place, kind in enumerate(_PROVISIONERS, 1)
        ),
        instance=Instance(
            id=f"i-{number:017x}",
            provider="amazon",
            region="eu-central-1",
            addresses=(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",),
            user="ubuntu",
            port=22,
        ),
        artifacts=(
            Artifact(
                builder_id="mitchellh.amazonebs",
                id=f"eu-central-1:ami-{number:017x}",
                string=f"AMI ami-{number:017x}",
                files=(File(path=f"/srv/images/{number:05d}.json"),),
            ),
        ),
    )


def run(number: int, status: RunStatus = RunStatus.RUNNING) -> Run:
    begun = BEGIN + timedelta(minutes=10 * number)
    return Run(
        number=number,
        token=1,
        started=begun,
        by=ACTOR,
        status=status,
        ended=None if status is RunStatus.RUNNING else begun + timedelta(minutes=7),
        directory="/srv/images",
        command=("packer-fork", "build", TEMPLATE),
        packer_version="1.11.2",
        git=Git(commit=f"{number:040x}", branch="main"),
        exit_code=None if status is RunStatus.RUNNING else 0,
    )


def item(run: int, offset: int) -> WorkItem:
    begun = BEGIN + timedelta(minutes=10 * run)
    return WorkItem(run=run, number=1, token=1, started=begun, by=ACTOR, log_offset=offset)


def documents(builds: list[Build]) -> dict[str, Raw]:
    encoder = msgspec.json.Encoder()
    return {each.name: Raw(encoder.encode(each)) for each in builds}


def empty() -> State:
    lineage = "00000000-0000-4000-8000-000000000000"
    template = Template(path=TEMPLATE)
    return new_state(lineage=lineage, key="00" * 32, template=template, workspace="default")


def state(count: int) -> State:
    """One of `count` builds, each kept as a document."""
    builds = documents([build(number) for number in range(count)])
    return structs.replace(empty(), serial=1, builds=builds, last_run=run(1, RunStatus.COMPLETE))


def progress(offset: int, number: int = 2) -> PendingChange:
    """What a run commits when its log has grown to `offset`, and one of its builds moved on."""
    moved = build(0, run=number, status=BuildStatus.PROVISIONING)
    return PendingChange(
        operation="progress", builds={moved.name: moved}, items=(item(number, offset),)
    )


def ancestor(count: int) -> dict[str, Any]:
    """The document of the Go program, whose every save writes all of it."""
    return {
        "version": 1,
        "serial": 1,
        "lineage": empty().lineage,
        "builder_version": "1.0.0",
        "packer_version": "1.11.2",
        "template": {"path": TEMPLATE, "hash": _DIGEST, "variables": {}, "files": []},
        "builds": {name(number): _ancestors_build(number) for number in range(count)},
    }


def _ancestors_build(number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(build(number)))
    found["started_at"], found["completed_at"] = found.pop("started"), found.pop("ended")
    for step in found["provisioners"]:
        step["started_at"], step["completed_at"] = step.pop("started"), step.pop("ended")
    return found


def journal(folder: Path) -> Journal:
    layout = Layout(folder)
    return Journal(layout, empty, Reader(layout))


def place(folder: Path, content: State) -> LocalStore:
    """A store in `folder` that holds `content`."""
    store = store_in(folder)
    lock = acquired(store)
    lock.put(content)
    lock.close()
    return store


def store_in(folder: Path) -> LocalStore:
    """A store that has not read anything yet."""
    return open_store(folder / "default")


def acquired(store: LocalStore) -> HeldLock:
    lock = store.try_acquire(holder("bench"))
    assert not isinstance(lock, LockStatus), lock
    return lock
