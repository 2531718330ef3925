"""etcd: its command line, its users, and its own client."""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.servers.certificates import Certificates
from tests.support.servers.cluster import Cluster, running
from tests.support.servers.places import Place, loopback
from tests.support.servers.process import SILENT, Server, ask, program


class User(NamedTuple):
    """Somebody who may read and write what begins with `prefix`."""

    name: str
    password: str
    prefix: str


ROOT = User("root", "of-all-tests", "")


@contextlib.contextmanager
def etcd_cluster(
    folder: Path,
    nodes: int = 1,
    *,
    places: Sequence[Place] = (),
    tls: Certificates | None = None,
    auth: Sequence[User] = (),
    options: Sequence[str] = (),
) -> Iterator[Cluster]:
    """Etcd on loopback, or at `places`, ready.

    With `tls` its clients need a certificate, with `auth` they are these users (and ROOT,
    who may everything); `options` are further ones of its command line.
    """
    with contextlib.ExitStack() as stack:
        chosen = list(places) or stack.enter_context(loopback(nodes))
        members = ",".join(f"n{i}=http://{place.at[1]}" for i, place in enumerate(chosen))
        common = [f"--initial-cluster={members}", *_beats(len(chosen)), *options]
        servers = [
            _server(folder / f"etcd-{i}", i, place, tls, common) for i, place in enumerate(chosen)
        ]
        cluster = stack.enter_context(running(Cluster(servers, tls)))
        if auth:
            _enable_auth(cluster, auth)
        yield cluster


def etcdctl(cluster: Cluster, *args: str, user: User | None = None) -> str:
    """What etcd's own client prints; raises subprocess.CalledProcessError if it fails."""
    command = [program("etcdctl"), f"--endpoints={','.join(cluster.endpoints)}"]
    if cluster.tls:
        client = cluster.tls.client
        command += [f"--cacert={cluster.tls.ca}", f"--cert={client.certificate}"]
        command += [f"--key={client.key}"]
    if user:
        command += [f"--user={user.name}:{user.password}"]
    return subprocess.run([*command, *args], check=True, capture_output=True, text=True).stdout


def _beats(nodes: int) -> list[str]:
    """Several elect a new leader in a fraction of a second, where the defaults take one and a half.

    Each beat costs processor time: one that is alone beats less often.
    """
    beat, election = (100, 500) if nodes == 1 else (20, 200)
    return [f"--heartbeat-interval={beat}", f"--election-timeout={election}"]


def _server(
    folder: Path, number: int, place: Place, tls: Certificates | None, options: Sequence[str]
) -> Server:
    folder.mkdir(parents=True)
    client, peer, health = place.at
    scheme = "https" if tls else "http"
    argv = [
        *place.inside,
        program("etcd"),
        f"--name=n{number}",
        f"--data-dir={folder / 'data'}",
        f"--listen-client-urls={scheme}://{client}",
        f"--advertise-client-urls={scheme}://{client}",
        f"--listen-peer-urls=http://{peer}",
        f"--initial-advertise-peer-urls=http://{peer}",
        # Here it tells of itself without TLS and without a login.
        f"--listen-metrics-urls=http://{health}",
        "--logger=zap",
        "--log-level=warn",
        *_secured(tls),
        *options,
    ]
    return Server(
        name=f"etcd {number}",
        endpoint=client,
        argv=argv,
        folder=folder,
        ready=lambda: '"true"' in ask(health, "GET", "/health"),
        leads=lambda: (
            "\netcd_server_is_leader 1\n" in ask(health, "GET", "/metrics", timeout=SILENT)
        ),
    )


def _secured(tls: Certificates | None) -> list[str]:
    if tls is None:
        return []
    return [
        f"--cert-file={tls.server.certificate}",
        f"--key-file={tls.server.key}",
        f"--trusted-ca-file={tls.ca}",
        "--client-cert-auth",
    ]


def _enable_auth(cluster: Cluster, users: Sequence[User]) -> None:
    """For each user a role of the same name; from then on nothing goes without a login."""
    etcdctl(cluster, "user", "add", f"{ROOT.name}:{ROOT.password}")
    etcdctl(cluster, "user", "grant-role", ROOT.name, "root")
    for user in users:
        grant = ("role", "grant-permission", user.name, "readwrite", user.prefix, "--prefix=true")
        etcdctl(cluster, "user", "add", f"{user.name}:{user.password}")
        etcdctl(cluster, "role", "add", user.name)
        etcdctl(cluster, *grant)
        etcdctl(cluster, "user", "grant-role", user.name, user.name)
    etcdctl(cluster, "auth", "enable")
