"""Runs that many machines share, some of which die: proven by the checker, and with real Packer."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from packer_fork.stores.local import (
    held_lock,  # noqa: F401 (once, not by each worker anew)
)
from stress.checker import Acquired, AnyEvent, Committed, Ended, Killed, violations
from stress.conftest import Say
from stress.leased import proven
from stress.scale import Scale
from stress.shared_builds import Crew
from stress.shared_runs import SharedRuns, unfinished
from tests.conftest import Cli, Project
from tests.support.servers import Cluster, consul_cluster, etcd_cluster
from tests.support.stores import Ground

RUNS = 50

FEW = {"local": 10, "etcd": 5, "consul": 5}
"""At the smallest scale; after a death a lease has to end."""

Make = Callable[[Path], contextlib.AbstractContextManager[Cluster]]


@contextlib.contextmanager
def no_cluster(_: Path) -> Iterator[Cluster]:
    yield Cluster([])


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("kind", "make"), [("local", no_cluster), ("etcd", etcd_cluster), ("consul", consul_cluster)]
)
def test_no_source_is_in_two_hands(
    tmp_path: Path, scale: Scale, rng: random.Random, figure: Say, kind: str, make: Make
) -> None:
    random.seed(rng.random())
    with make(tmp_path / "servers") as cluster:
        ground = Ground(kind, tmp_path, tuple(cluster.endpoints), "stress")
        with contextlib.closing(ground):
            runs = SharedRuns(ground, tmp_path)
            runs.run(FEW[kind] if scale.name == "ci" else RUNS)
            found, events, kept = list(runs.problems()), runs.events(), runs.kept()
    tell(figure, events)
    figure("freezes", runs.had["frozen"] + runs.had["last_one_frozen"], "freezes")
    found += violations(events if kind == "local" else proven(events), kept)
    found += unfinished(events)
    assert not found, found[:10]


def tell(figure: Say, events: Sequence[AnyEvent]) -> None:
    ended = {event.token for event in events if isinstance(event, Ended)}
    counted = Counter((type(event), bool(event.scope)) for event in events)
    figure("runs", len(ended), "runs")
    figure("claims", counted[Acquired, True], "claims")
    figure("locks", counted[Acquired, False], "locks")
    figure("commits", counted[Committed, False], "commits")
    figure("kills", counted[Killed, False], "kills")
    assert counted[Committed, True]


@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("packer")
def test_builds_go_on_with_what_the_killed_have_left(
    cli: Cli, project: Project, scale: Scale, rng: random.Random, figure: Say
) -> None:
    crew = Crew(cli, project, rng)
    for number in range(1, 1 + (3 if scale.name == "ci" else RUNS)):
        assert not (wrong := crew.build(number)), wrong
    for what, times in crew.had.items():
        figure(what, times, "times")
