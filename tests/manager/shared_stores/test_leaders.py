"""Of three nodes the one that leads goes in the middle of a build, and the build goes on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.support import states
from tests.support.queries import answers
from tests.support.servers import (
    Cluster,
    Network,
    Server,
    consul_cluster,
    etcd_cluster,
    namespaces,
)
from tests.support.team import Machine, Team, on
from tests.support.templates import GATED

pytestmark = [pytest.mark.usefixtures("packer"), pytest.mark.timeout(240)]

LOCK = {"lock_ttl": "12s"}
"""Longer than all leaders together are away; a sixth of it is waited for a server's answer."""


@pytest.fixture
def network() -> Iterator[Network]:
    with namespaces(3) as network:
        yield network


@pytest.fixture
def cluster(kind: str, network: Network, tmp_path: Path) -> Iterator[Cluster]:
    start = etcd_cluster if kind == "etcd" else consul_cluster
    with start(tmp_path / "servers", places=network.places) as cluster:
        yield cluster


@contextlib.contextmanager
def killed(cluster: Cluster, _: Network) -> Iterator[Server]:
    leader = cluster.leader()
    leader.kill()
    yield leader
    leader.start()
    leader.await_ready()


@contextlib.contextmanager
def frozen(cluster: Cluster, _: Network) -> Iterator[Server]:
    leader = cluster.leader()
    leader.freeze()
    yield leader
    leader.thaw()
    leader.await_ready()


@contextlib.contextmanager
def cut_off(cluster: Cluster, network: Network) -> Iterator[Server]:
    leader = cluster.leader()
    number = cluster.servers.index(leader)
    network.cut(number)
    yield leader
    network.heal(number)


@on("etcd", "consul")
def test_the_leader_goes_and_the_build_goes_on(
    team: Team, cluster: Cluster, network: Network
) -> None:
    """Leaders go while Packer works, the last one is away when its results come.

    With Consul, whose elections take seconds, it is that one alone; more go in `stress/`.
    """
    here, there = (team.machine(name, GATED, settings=LOCK) for name in ("here", "there"))
    build = here.begun()
    for gone in (killed, frozen) if team.kind == "etcd" else ():
        with gone(cluster, network) as leader:
            assert cluster.leader() is not leader
    with cut_off(cluster, network) as leader:
        eventually(lambda: cluster.leader() is not leader)
        here.go_on()
        ended = build.wait()
    assert ended.rc == 0, ended
    is_whole(there)


def is_whole(machine: Machine) -> None:
    """Nothing is missing, and one lock alone has written."""
    changes = answers(machine.cli, "history", "t.pkr.hcl", "--limit", "0")
    assert [each["serial"] for each in changes] == list(range(len(changes), 0, -1))
    assert changes[0]["operation"] == "finish"
    assert {each["token"] for each in changes} == {1}
    assert states.statuses(machine.cli) == {"null.n": "complete"}
    assert states.lock(machine.cli)["status"] == "free"
