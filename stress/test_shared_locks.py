"""Locks on three servers that fail, of many machines that fail, proven by the checker."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from packer_fork.stores.local import (
    kernel_locks,  # noqa: F401 (once, not by each worker anew)
)
from stress.checker import Acquired, Committed, violations
from stress.conftest import Say
from stress.leased import proven
from stress.scale import Scale
from stress.shared_chaos import SharedChaos, Site
from tests.support.servers import Cluster, consul_cluster, etcd_cluster, namespaces
from tests.support.stores import Ground

LOCKS = 60
"""At the smallest scale."""

Make = Callable[..., contextlib.AbstractContextManager[Cluster]]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("kind", "make"), [("etcd", etcd_cluster), ("consul", consul_cluster)])
def test_lock_of_many_machines_never_overlap(
    tmp_path: Path, scale: Scale, rng: random.Random, figure: Say, kind: str, make: Make
) -> None:
    random.seed(rng.random())
    with namespaces(3) as network, make(tmp_path / "servers", places=network.places) as cluster:
        ground = Ground(kind, tmp_path, tuple(cluster.endpoints), "stress")
        with contextlib.closing(ground):
            chaos = SharedChaos(Site(ground, cluster, network), tmp_path)
            chaos.run(LOCKS * scale.times)
            found, events, kept = list(chaos.problems()), chaos.events(), chaos.kept()
    committed = sum(isinstance(event, Committed) for event in events)
    figure("locks", sum(isinstance(event, Acquired) for event in events), "locks")
    figure("commits", committed, "commits")
    figure("changes found", len(kept), "changes")
    for trouble, times in chaos.had.items():
        figure(trouble.replace("_", " "), times, "times")
    assert committed
    assert not found, found[:10]
    wrong = violations(proven(events), kept)
    assert not wrong, wrong[:10]
