"""A client agent of Consul between us and the servers, as on most hosts that have Consul."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from packer_fork.errors import StoreError
from packer_fork.stores.access import Access, parse_address
from packer_fork.stores.consul import ConsulKeys
from packer_fork.stores.shared.keys import Leased, Put
from tests.conftest import eventually
from tests.support.servers import Cluster, Server, loopback, program
from tests.support.servers.process import ask

pytestmark = pytest.mark.processes


@contextlib.contextmanager
def agent(folder: Path, joined: Sequence[str]) -> Iterator[Server]:
    """One that has joined the servers at these gossip addresses, if any; started."""
    with loopback(1) as (place,):
        http, _, gossip = place.ports
        configuration = {
            "node_name": "agent",
            "data_dir": str(folder / "data"),
            "bind_addr": place.address,
            "retry_join": joined,
            "ports": {"http": http, "serf_lan": gossip, "serf_wan": -1, "dns": -1, "grpc": -1},
            "disable_update_check": True,
        }
        file = folder / "consul.json"
        file.write_text(json.dumps(configuration), encoding="utf-8")
        endpoint = place.at[0]

        def ready() -> bool:
            """Whether it listens, and if it has joined, whether its node is known."""
            path = "/v1/catalog/node/agent" if joined else "/v1/agent/self"
            return '"agent"' in ask(endpoint, "GET", path)

        argv = [program("consul"), "agent", f"-config-file={file}"]
        server = Server("agent", endpoint, argv, folder, ready, lambda: False)
        server.start()
        try:
            server.await_ready()
            yield server
        finally:
            if server.process:
                server.kill()


def connect(server: Server, prefix: str) -> ConsulKeys:
    address = parse_address(f"consul://{server.endpoint}/{prefix}")
    return ConsulKeys(address, Access(retry_timeout=0))


def gossip_of(server: Server) -> str:
    ports = json.loads((server.folder / "consul.json").read_text(encoding="utf-8"))["ports"]
    return f"127.0.0.1:{ports['serf_lan']}"


def test_a_lease_outlives_the_restart_of_the_agent_that_it_was_had_from(
    consul_server: Cluster, tmp_path: Path, prefix: str
) -> None:
    """An agent that is stopped in good order leaves, and its node is forgotten with its leases."""
    (server,) = consul_server.servers
    with (
        agent(tmp_path, [gossip_of(server)]) as between,
        contextlib.closing(connect(between, prefix)) as keys,
        contextlib.closing(connect(server, prefix)) as direct,
    ):
        own = json.dumps({"NodeChecks": [], "TTL": "60s"})
        of_its_node = json.loads(ask(between.endpoint, "PUT", "/v1/session/create", own))["ID"]
        lease = keys.grant(60)
        assert keys.transact([], [Put("lock", b"1", lease)])
        os.kill(between.pid, signal.SIGTERM)
        eventually(lambda: direct.left(of_its_node) is None)
        between.kill()  # it would take seconds more
        assert direct.renew(lease)
        between.start()
        between.await_ready()
        assert keys.renew(lease)
        assert keys.transact([Leased("lock", lease)], [Put("lock", b"2")])
        keys.revoke(lease)


def test_an_agent_that_knows_no_server(tmp_path: Path, prefix: str) -> None:
    with (
        agent(tmp_path, []) as alone,
        contextlib.closing(connect(alone, prefix)) as keys,
        pytest.raises(StoreError, match="is an agent that knows no server") as refusal,
    ):
        keys.get("a")
    assert "consul members" in refusal.value.hint
