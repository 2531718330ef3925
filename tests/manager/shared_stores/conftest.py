"""A team: machines that share one project's states on etcd, on Consul, or in a bucket."""

import pytest

from tests.conftest import Cli
from tests.stores.shared.conftest import (
    consul_server,
    etcd_server,
    one_s3_server,
    prefix,
    s3_credentials,
)
from tests.support.servers import Cluster
from tests.support.team import Team, bucket_team

__all__ = ["consul_server", "etcd_server", "one_s3_server", "prefix", "s3_credentials"]


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
    if kind == "s3":
        return bucket_team(cli, prefix, cluster.endpoints[0])
    return Team(cli, kind, prefix, tuple(cluster.endpoints))
