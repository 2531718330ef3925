"""A team: machines that share one project's states on etcd, or on Consul."""

import pytest

from tests.conftest import Cli
from tests.stores.shared.conftest import consul_server, etcd_server, prefix
from tests.support.servers import Cluster
from tests.support.team import Team

__all__ = ["consul_server", "etcd_server", "prefix"]


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """What the servers are: another one, or both, where a test names them with `on`."""
    return str(getattr(request, "param", "etcd"))


@pytest.fixture
def cluster(request: pytest.FixtureRequest, kind: str) -> Cluster:
    """The one node that most tests share."""
    found = request.getfixturevalue(f"{kind}_server")
    assert isinstance(found, Cluster)
    return found


@pytest.fixture
def team(cli: Cli, kind: str, cluster: Cluster, prefix: str) -> Team:
    return Team(cli, kind, prefix, tuple(cluster.endpoints))
