"""Histories that many processes write at once, proven by the checker."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from packer_fork.stores.archive import history
from packer_fork.stores.local import (
    kernel_locks,  # noqa: F401 (once, not by each worker anew)
)
from stress import disks, recorder
from stress.checker import Acquired, Committed, violations
from stress.conftest import Say
from stress.disks import Disk
from stress.history_chaos import HistoryChaos, problems
from stress.scale import Scale

PROCESSES = 16
"""At the smallest scale."""

MANY = 300


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk | None]:
    """One that can be filled, or None: that of the machine, where a sync takes its time."""
    if not request.param:
        yield None
        return
    request.getfixturevalue("root")
    with disks.tmpfs(tmp_path, "32m") as memory:
        yield memory


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("disk", [False, True], ids=["syncs", "fills up"], indirect=True)
def test_histories_of_many_contenders_keep_every_promise(
    tmp_path: Path,
    scale: Scale,
    rng: random.Random,
    figure: Say,
    monkeypatch: pytest.MonkeyPatch,
    disk: Disk | None,
) -> None:
    monkeypatch.setattr(history, "SEGMENT_SIZE", 20_000)  # many segments of a short history
    random.seed(rng.random())
    chaos = HistoryChaos(tmp_path, PROCESSES if scale.times == 1 else MANY, disk)
    chaos.run(scale.seconds * 2)
    events, changes = recorder.events(chaos.history), chaos.kept()
    held = sum(isinstance(event, Acquired) for event in events)
    committed = sum(isinstance(event, Committed) for event in events)
    figure("locks", held, "locks")
    figure("kills", chaos.kills, "kills")
    figure("unlocks of what lived", chaos.unlocks, "unlocks")
    figure("freezes", chaos.freezes, "freezes")
    figure("times the disk was full", chaos.fills, "times")
    figure("commits", committed, "commits")
    figure("changes found", len(changes), "changes")
    said = Counter(problems(chaos))
    assert not said, said.most_common(10)
    found = violations(events, changes, in_order=True)
    assert not found, found[:10]
    assert chaos.kills, "nobody was killed"
    assert committed > chaos.kills / 2, "hardly anything was committed"
