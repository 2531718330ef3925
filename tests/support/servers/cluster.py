"""Servers that agree with one another."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conftest import eventually
from tests.support.servers.certificates import Certificates
from tests.support.servers.process import START, Server


@dataclass(frozen=True)
class Cluster:
    """The servers, and what its clients have to show: certificates of theirs, Consul's token."""

    servers: list[Server]
    tls: Certificates | None = None
    token: str = ""

    @property
    def endpoints(self) -> list[str]:
        """Of each server its "host:port" for clients."""
        return [server.endpoint for server in self.servers]

    def leader(self) -> Server:
        """The server that leads, as soon as exactly one says so of itself."""

        def only() -> Server | None:
            leading = [server for server in self.servers if server.process and server.leads()]
            return leading[0] if len(leading) == 1 else None

        found = eventually(only, START)
        assert found is not None
        return found

    def followers(self) -> list[Server]:
        leader = self.leader()
        return [server for server in self.servers if server is not leader]


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, once all of it is ready; its servers are ended in whatever state they are."""
    try:
        for server in cluster.servers:
            server.start()
        for server in cluster.servers:
            server.await_ready()
        yield cluster
    finally:
        for server in cluster.servers:
            if server.process is not None:
                server.kill()
