"""The servers of the tests, and what is done to them, do what they say."""

import base64
import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from packer_fork.processes import Process, all_processes
from tests.conftest import descendants, eventually
from tests.support.servers import (
    ROOT,
    Cluster,
    Network,
    Proxy,
    User,
    certificates,
    consul_cluster,
    etcd_cluster,
    etcdctl,
    loopback,
    namespaces,
    program,
    token_for,
)
from tests.support.servers.process import ask

pytestmark = pytest.mark.processes

CHECKOUT = Path(__file__).parents[3]
TOKEN = str(uuid.uuid4())

Make = Callable[..., AbstractContextManager[Cluster]]

both = pytest.mark.parametrize("make", [etcd_cluster, consul_cluster])


@pytest.fixture
def network() -> Iterator[Network]:
    with namespaces(3) as network:
        yield network


class TestLeader:
    def test_changes_when_it_is_frozen_and_when_it_is_killed(self, tmp_path: Path) -> None:
        with etcd_cluster(tmp_path, 3) as cluster:
            first = cluster.leader()
            first.freeze()
            second = cluster.leader()
            first.thaw()
            eventually(first.ready)
            second.kill()
            third = cluster.leader()
            second.start()
            second.await_ready()
        assert first is not second
        assert second is not third

    def test_changes_when_it_is_cut_off(self, tmp_path: Path, network: Network) -> None:
        """A Consul does so in tests/manager/shared_stores/test_leaders.py."""
        with etcd_cluster(tmp_path, places=network.places) as cluster:
            first = cluster.leader()
            number = cluster.servers.index(first)
            network.cut(number)
            second = cluster.leader()
            assert second is not first
            host, port = first.endpoint.split(":")
            assert not reaches([], host, port)
            assert reaches(network.inside(number), host, port)
            network.heal(number)
            eventually(lambda: reaches([], host, port))
            eventually(first.ready)


def reaches(where: list[str], host: str, port: str) -> bool:
    """Whether a program that runs there can connect."""
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.3)"
    command = [*where, sys.executable, "-S", "-c", script, host, port]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


class TestServer:
    def test_keeps_its_data_and_ports_over_a_restart(self, tmp_path: Path) -> None:
        with etcd_cluster(tmp_path) as cluster:
            etcdctl(cluster, "put", "a", "1")
            before = cluster.endpoints
            cluster.servers[0].restart()
            assert cluster.endpoints == before
            assert etcdctl(cluster, "get", "a", "--print-value-only") == "1\n"

    def test_that_does_not_start_says_why(self, tmp_path: Path) -> None:
        with (
            pytest.raises(AssertionError, match="flag provided but not defined: -unheard-of"),
            etcd_cluster(tmp_path, options=["--unheard-of"]),
        ):
            pass

    def test_resets_connections_above_consuls_limit(self, tmp_path: Path) -> None:
        limits = {"limits": {"http_max_conns_per_client": 2}}
        with consul_cluster(tmp_path, settings=limits) as cluster:
            (endpoint,) = cluster.endpoints

            def lets_in() -> bool:
                return ask(endpoint, "GET", "/v1/status/leader") != ""

            with kept_open(endpoint), kept_open(endpoint):
                eventually(lambda: not lets_in())
            eventually(lets_in)

    def test_ports_are_given_once(self) -> None:
        with loopback(20) as some, loopback(20) as others:
            ports = [port for place in [*some, *others] for port in place.ports]
            assert len(ports) == len(set(ports)) == 120


@contextlib.contextmanager
def kept_open(endpoint: str) -> Iterator[None]:
    """One more connection that is open and idle."""
    host, port = endpoint.split(":")
    with socket.create_connection((host, int(port))):
        yield


class TestNothingIsLeft:
    def test_of_the_servers_of_tests_that_were_killed(self, tmp_path: Path) -> None:
        program("consul"), program("etcd")
        with started("etcd_cluster(folder), consul_cluster(folder)", tmp_path) as tests:
            servers = descendants(tests.pid)
            tests.kill()
        assert sorted(server.command for server in servers) == ["consul", "etcd"]
        eventually(lambda: not still_live(servers))

    def test_of_the_network_of_tests_that_were_killed(self, tmp_path: Path) -> None:
        with namespaces(0):
            pass  # skipped here where there can be none
        with started("namespaces(2)", tmp_path) as tests:
            holders = descendants(tests.pid)
            cables = {f"pf{holder.pid}" for holder in holders} & interfaces()
            tests.kill()
        assert len(cables) == 1
        eventually(lambda: not still_live(holders) and not cables & interfaces())

    def test_of_a_network_after_a_failure(self) -> None:
        def failing() -> None:
            with namespaces(1) as network:
                cables.extend(interfaces() & {f"pf{network.switch[2]}"})
                raise ZeroDivisionError

        cables: list[str] = []
        with pytest.raises(ZeroDivisionError):
            failing()
        assert len(cables) == 1
        assert not set(cables) & interfaces()


@contextlib.contextmanager
def started(what: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has started that and waits."""
    script = f"""if True:
        import signal, sys
        from pathlib import Path
        from tests.support.servers import *
        folder = Path(sys.argv[1])
        with {what}:
            print("ready", flush=True)
            signal.pause()
    """
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHECKOUT) as tests:
        assert tests.stdout is not None
        assert tests.stdout.readline() == b"ready\n"
        yield tests


def still_live(some: list[Process]) -> list[Process]:
    """Those of them that live; their parent may be another one by now."""
    live = {(process.pid, process.started) for process in all_processes()}
    return [process for process in some if (process.pid, process.started) in live]


def interfaces() -> set[str]:
    """The network interfaces where the tests run."""
    return {name for _, name in socket.if_nameindex()}


class TestAccess:
    def test_of_etcd_is_refused_outside_of_the_prefix(self, tmp_path: Path) -> None:
        ci = User("ci", "secret", "images/")
        with etcd_cluster(tmp_path, auth=[ci]) as cluster:
            etcdctl(cluster, "put", "images/a", "1", user=ci)
            etcdctl(cluster, "put", "other/a", "1", user=ROOT)
            for key, user, why in [
                ("other/a", ci, "permission denied"),
                ("images/a", None, "user name is empty"),
            ]:
                with pytest.raises(subprocess.CalledProcessError) as refused:
                    etcdctl(cluster, "put", key, "2", user=user)
                assert why in refused.value.stderr
            values = etcdctl(cluster, "get", "", "--prefix", "--print-value-only", user=ROOT)
            assert values == "1\n1\n"

    def test_of_consul_is_refused_outside_of_the_prefix(self, tmp_path: Path) -> None:
        with consul_cluster(tmp_path, token=TOKEN) as cluster:
            token = token_for(cluster, "images/")

            def may_put(key: str, token: str) -> bool:
                return ask(cluster.endpoints[0], "PUT", f"/v1/kv/{key}", "1", token=token) != ""

            assert may_put("images/a", token)
            assert may_put("other/a", TOKEN)
            assert not may_put("other/a", token)
            assert not may_put("images/a", "")

    @both
    def test_over_tls_is_for_those_with_a_certificate(self, tmp_path: Path, make: Make) -> None:
        ours, others = certificates(tmp_path / "ours"), certificates(tmp_path / "others")
        unknown = ssl.create_default_context(cafile=str(ours.ca))
        untrusted = ssl.create_default_context(cafile=str(ours.ca))
        untrusted.load_cert_chain(others.client.certificate, others.client.key)
        path = "/version" if make is etcd_cluster else "/v1/status/leader"
        with make(tmp_path, tls=ours) as cluster:
            (endpoint,) = cluster.endpoints
            assert ask(endpoint, "GET", path, context=ours.context(), timeout=10) != ""
            for context in (None, unknown, untrusted, others.context()):
                assert ask(endpoint, "GET", path, context=context, timeout=10) == ""

    def test_certificates_name_a_client_or_not(self, tmp_path: Path) -> None:
        made = certificates(tmp_path, "somebody")
        assert "CN" not in subject(made.client.certificate)
        assert "CN = somebody" in subject(made.named.certificate)
        assert made.client.key.stat().st_mode & 0o077 == 0


def subject(certificate: Path) -> str:
    command = ["openssl", "x509", "-in", str(certificate), "-noout", "-subject"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class TestProxy:
    @pytest.fixture
    def proxy(self, etcd_server: Cluster) -> Iterator[Proxy]:
        with Proxy(etcd_server.endpoints[0]) as proxy:
            yield proxy

    def test_passes_all_on_one_connection(self, proxy: Proxy, prefix: str) -> None:
        with connected(proxy) as connection:
            assert [put(connection, prefix) for _ in range(3)] == [1, 2, 3]
        assert proxy.requests == ["POST /v3/kv/put"] * 3
        assert proxy.dropped == []

    def test_drops_an_answer_to_what_was_done(self, proxy: Proxy, prefix: str) -> None:
        proxy.drop_reply("POST /v3/kv/put", nth=2)
        with connected(proxy) as connection:
            assert put(connection, prefix) == 1
            with pytest.raises(http.client.RemoteDisconnected):
                put(connection, prefix)
        assert proxy.dropped == ["POST /v3/kv/put"]
        with connected(proxy) as connection:
            assert put(connection, prefix) == 3  # so the second one had come to the server

    def test_drops_answers_again_and_again(self, proxy: Proxy, prefix: str) -> None:
        proxy.drop_reply("POST /v3/kv/put", nth=2, every=3)
        lost = []
        for number in range(1, 10):
            with connected(proxy) as connection:
                try:
                    put(connection, prefix)
                except http.client.RemoteDisconnected:
                    lost.append(number)
        assert lost == [2, 5, 8]

    def test_refuses_and_ends_what_is_open(self, proxy: Proxy, prefix: str) -> None:
        with connected(proxy) as connection:
            assert put(connection, prefix) == 1
            proxy.refuse()
            with pytest.raises(ConnectionError):
                put(connection, prefix)
        with connected(proxy) as connection, pytest.raises(ConnectionRefusedError):
            put(connection, prefix)
        proxy.let_pass()
        with connected(proxy) as connection:
            assert put(connection, prefix) == 2

    @pytest.mark.parametrize(
        "slow", [Proxy.hang, lambda proxy: proxy.delay(600)], ids=["hang", "delay"]
    )
    def test_holds_requests_which_come_late(
        self, proxy: Proxy, etcd_server: Cluster, prefix: str, slow: Callable[[Proxy], None]
    ) -> None:
        slow(proxy)
        with connected(proxy, timeout=0.2) as connection, pytest.raises(TimeoutError):
            put(connection, prefix)
        assert etcdctl(etcd_server, "get", prefix) == ""
        proxy.let_pass()
        eventually(lambda: etcdctl(etcd_server, "get", prefix) != "")

    def test_lets_what_it_holds_go_nowhere_at_its_end(
        self, etcd_server: Cluster, prefix: str
    ) -> None:
        with Proxy(etcd_server.endpoints[0]) as proxy:
            proxy.hang()
            with connected(proxy, timeout=0.2) as connection, pytest.raises(TimeoutError):
                put(connection, prefix)
        assert etcdctl(etcd_server, "get", prefix) == ""


@contextlib.contextmanager
def connected(proxy: Proxy, timeout: float = 30) -> Iterator[http.client.HTTPConnection]:
    host, port = proxy.endpoint.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    with contextlib.closing(connection):
        yield connection


def put(connection: http.client.HTTPConnection, key: str) -> int:
    """Put it into etcd; how often it has been put by now."""
    name = base64.b64encode(key.encode()).decode()
    body = json.dumps({"key": name, "value": name, "prev_kv": True})
    connection.request("POST", "/v3/kv/put", body)
    before = json.loads(connection.getresponse().read()).get("prev_kv", {})
    return int(before.get("version", 0)) + 1
