"""One etcd, Consul and object store for most tests, and a place of its own there for each."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.object_server import ObjectServer, object_server
from tests.support.servers import CREDENTIALS, Cluster, consul_cluster, etcd_cluster, s3_server
from tests.support.stores import Ground


@pytest.fixture(scope="session")
def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node, started when the first test of this worker asks for it."""
    with etcd_cluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def consul_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """As `etcd_server`."""
    with consul_cluster(tmp_path_factory.mktemp("consul")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def objects_server() -> Iterator[ObjectServer]:
    """As `etcd_server`."""
    with object_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environ:
        for name, value in CREDENTIALS.items():
            environ.setenv(name, value)
        yield


@pytest.fixture(scope="session", name="s3_server")
def one_s3_server(
    tmp_path_factory: pytest.TempPathFactory, s3_credentials: None
) -> Iterator[Cluster]:
    """As `etcd_server`."""
    del s3_credentials
    with s3_server(tmp_path_factory.mktemp("s3")) as cluster:
        yield cluster


@pytest.fixture
def prefix() -> str:
    """Where no other test has keys; without a slash at either end."""
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture(params=["etcd", "consul", "objects"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Iterator[Ground]:
    """A place in each of the three, for one test."""
    server: Cluster | ObjectServer = request.getfixturevalue(f"{request.param}_server")
    with contextlib.closing(
        Ground(request.param, tmp_path, tuple(server.endpoints), prefix)
    ) as ground:
        yield ground


@pytest.fixture(params=["local", "etcd", "consul", "objects"])
def ground(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Iterator[Ground]:
    """A place in each of the four kinds of store, for one test."""
    endpoints: tuple[str, ...] = ()
    if request.param != "local":
        endpoints = tuple(request.getfixturevalue(f"{request.param}_server").endpoints)
    ground = Ground(request.param, tmp_path, endpoints, prefix)
    yield ground
    ground.close()
