"""Consul: its configuration, and tokens that may do less than all."""

import contextlib
import json
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.servers.certificates import Certificates
from tests.support.servers.cluster import Cluster, running
from tests.support.servers.places import Place, loopback
from tests.support.servers.process import SILENT, Server, ask, program

# Development mode elects its leader within 0.1 s. What else it turns on costs processor time.
IN_MEMORY = {
    "connect": {"enabled": False},
    "gossip_lan": {"gossip_interval": "5s", "probe_interval": "5s", "probe_timeout": "500ms"},
}


@contextlib.contextmanager
def consul_cluster(
    folder: Path,
    nodes: int = 1,
    *,
    places: Sequence[Place] = (),
    tls: Certificates | None = None,
    token: str = "",
    settings: Mapping[str, Any] | None = None,
    durable: bool = False,
) -> Iterator[Cluster]:
    """Consul servers on loopback, or at `places`, ready.

    A single server keeps its data in memory, and is ready in a tenth of the time, unless it
    is `durable`: then it may be restarted, as may each of several servers.

    With `tls` their clients need a certificate. With `token`, a UUID, they need it, which
    may everything, or one from `token_for`. `settings` are further ones of the
    configuration file, such as {"limits": {"http_max_conns_per_client": 10}}.
    """
    with contextlib.ExitStack() as stack:
        chosen = list(places) or stack.enter_context(loopback(nodes))
        in_memory = len(chosen) == 1 and not durable
        common = {
            **(IN_MEMORY if in_memory else _joined(chosen)),
            **_secured(tls),
            **_controlled(token),
            **(settings or {}),
        }
        servers = [
            _server(
                *(folder / f"consul-{i}", i, place, tls, token, common),
                options=["-dev"] if in_memory else [],
            )
            for i, place in enumerate(chosen)
        ]
        yield stack.enter_context(running(Cluster(servers, tls, token)))


def token_for(cluster: Cluster, prefix: str) -> str:
    """A new token that may write what begins with `prefix`, and have sessions."""
    rules = f'key_prefix "{prefix}" {{ policy = "write" }} session_prefix "" {{ policy = "write" }}'
    name = secrets.token_hex(8)
    _told(cluster, "/v1/acl/policy", {"Name": name, "Rules": rules})
    return str(_told(cluster, "/v1/acl/token", {"Policies": [{"Name": name}]})["SecretID"])


def _told(cluster: Cluster, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    context = cluster.tls.context() if cluster.tls else None
    server, text = cluster.endpoints[0], json.dumps(body)
    said = ask(server, "PUT", path, text, token=cluster.token, context=context, timeout=10)
    assert said, f"Consul did not do PUT {path}"
    answer: dict[str, Any] = json.loads(said)
    return answer


def _server(
    folder: Path,
    number: int,
    place: Place,
    tls: Certificates | None,
    token: str,
    common: Mapping[str, Any],
    *,
    options: Sequence[str],
) -> Server:
    client, rpc, _ = place.at
    _configure(folder, number, place, tls, common)
    context = tls.context() if tls else None

    def ready() -> bool:
        """Whether sessions can be had, for which a leader must have registered this node."""
        made = ask(
            client, "PUT", "/v1/session/create", '{"TTL": "1s"}', token=token, context=context
        )
        if not made:
            return False
        path = f"/v1/session/destroy/{json.loads(made)['ID']}"
        return bool(ask(client, "PUT", path, token=token, context=context))

    def leads() -> bool:
        path = "/v1/status/leader"
        said = ask(client, "GET", path, token=token, context=context, timeout=SILENT)
        return said.strip() == f'"{rpc}"'

    command = [program("consul"), "agent", *options, f"-config-file={folder / 'consul.json'}"]
    argv = [*place.inside, *command]
    return Server(f"consul {number}", client, argv, folder, ready, leads)


def _configure(
    folder: Path, number: int, place: Place, tls: Certificates | None, common: Mapping[str, Any]
) -> None:
    client, rpc, gossip = place.ports
    unused = ["serf_wan", "dns", "grpc", "http" if tls else "https"]
    if _version() >= (1, 14):
        unused.append("grpc_tls")  # on by default from there, unknown before
    ports = {"https" if tls else "http": client, "server": rpc, "serf_lan": gossip}
    configuration = {
        "node_name": f"n{number}",
        "server": True,
        "data_dir": str(folder / "data"),
        "bind_addr": place.address,
        "client_addr": place.address,
        "ports": ports | dict.fromkeys(unused, -1),
        "performance": {"raft_multiplier": 1},  # the fastest elections that it offers
        "session_ttl_min": "1s",
        # It would take a server that was away for some seconds for gone, and two are no quorum.
        "autopilot": {"cleanup_dead_servers": False},
        "disable_update_check": True,
        "log_level": "warn",
        **common,
    }
    folder.mkdir(parents=True)
    file = folder / "consul.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(configuration), encoding="utf-8")


@cache
def _version() -> tuple[int, int]:
    said = subprocess.run(
        [program("consul"), "version"], check=True, capture_output=True, text=True
    )
    found = re.match(r"Consul v(\d+)\.(\d+)", said.stdout)
    assert found, said.stdout
    return int(found[1]), int(found[2])


def _joined(places: Sequence[Place]) -> dict[str, Any]:
    return {"bootstrap_expect": len(places), "retry_join": [place.at[2] for place in places]}


def _secured(tls: Certificates | None) -> dict[str, Any]:
    if tls is None:
        return {}
    return {
        "ca_file": str(tls.ca),
        "cert_file": str(tls.server.certificate),
        "key_file": str(tls.server.key),
        "verify_incoming_https": True,
    }


def _controlled(token: str) -> dict[str, Any]:
    if not token:
        return {}
    tokens = {"master": token, "agent": token}
    return {"acl": {"enabled": True, "default_policy": "deny", "tokens": tokens}}
