"""Sites: one machine with a local store, or several with etcd, Consul or a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.stores.shared.conftest import (
    consul_server,
    etcd_server,
    one_s3_server,
    prefix,
    s3_credentials,
)
from tests.support.servers import Cluster, Network, consul_cluster, etcd_cluster, namespaces
from tests.support.shared_site import Site
from tests.support.team import bucket_team

__all__ = ["consul_server", "etcd_server", "one_s3_server", "prefix", "s3_credentials"]

TTL = "3s"


def shared(cli: Cli, folder: Path, kind: str, cluster: Cluster, prefix: str) -> Site:
    state = f"{kind}://{','.join(cluster.endpoints)}/{prefix}"
    if kind == "s3":
        team = bucket_team(cli, prefix, cluster.endpoints[0])
        cli, state = team.cli, team.url()
    return Site(kind, folder, cli, {"state": state, "project": "web", "lock_ttl": TTL})


@pytest.fixture
def local(cli: Cli, tmp_path: Path) -> Site:
    return Site("local", tmp_path, cli, {})


def made(kind: str, request: pytest.FixtureRequest, cli: Cli, tmp_path: Path, prefix: str) -> Site:
    if kind == "local":
        return Site("local", tmp_path, cli, {})
    cluster = request.getfixturevalue(f"{kind}_server")
    return shared(cli, tmp_path, kind, cluster, prefix)


@pytest.fixture
def site(request: pytest.FixtureRequest, cli: Cli, tmp_path: Path, prefix: str) -> Site:
    """Of the kind that a test names; what each store promises is tested without builds."""
    return made(request.param, request, cli, tmp_path, prefix)


@pytest.fixture
def on_etcd(request: pytest.FixtureRequest, cli: Cli, tmp_path: Path, prefix: str) -> Site:
    """Machines of a team, for what does not depend on their servers."""
    return made("etcd", request, cli, tmp_path, prefix)


@pytest.fixture
def network() -> Iterator[Network]:
    """One node for the servers, three for hosts."""
    with namespaces(4) as network:
        yield network


@pytest.fixture
def hosts(
    request: pytest.FixtureRequest, cli: Cli, tmp_path: Path, prefix: str, network: Network
) -> Iterator[Site]:
    """Three hosts, each in a network namespace of its own, beside that of the server.

    The test names the kind of the server.
    """
    start = etcd_cluster if request.param == "etcd" else consul_cluster
    with start(tmp_path / "servers", places=network.places[:1]) as cluster:
        site = shared(cli, tmp_path, request.param, cluster, prefix)
        inside = [network.inside(number) for number in (1, 2, 3)]
        yield site._replace(networks=inside)
