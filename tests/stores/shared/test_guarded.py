"""The circuit breaker before a real cluster: who asks patiently waits for it, nobody else asks."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from packer_fork.errors import StoreError
from packer_fork.stores.access import Access, parse_address
from packer_fork.stores.circuit_breaker import THRESHOLD, Circuit, CircuitBreaker, Phase
from packer_fork.stores.consul import ConsulKeys
from packer_fork.stores.retry import UnavailableError
from tests.conftest import eventually
from tests.support.servers import Cluster, Proxy


@pytest.fixture
def proxy(consul_server: Cluster) -> Iterator[Proxy]:
    with Proxy(consul_server.endpoints[0]) as proxy:
        yield proxy


@pytest.fixture
def breaker(tmp_path: Path) -> CircuitBreaker:
    return CircuitBreaker("consul://somewhere", folder=tmp_path / "run")


@contextlib.contextmanager
def client(
    proxy: Proxy, prefix: str, breaker: CircuitBreaker, retry_timeout: float
) -> Iterator[ConsulKeys]:
    address = parse_address(f"consul://{proxy.endpoint}/{prefix}")
    with contextlib.closing(
        ConsulKeys(address, Access(retry_timeout=retry_timeout, breaker=breaker))
    ) as keys:
        yield keys


def opened_for(folder: Path, seconds: float) -> None:
    """As processes before us would have left it."""
    CircuitBreaker("consul://somewhere", folder=folder).succeeded()
    (path,) = folder.iterdir()
    now = time.time()
    circuit = Circuit(failures=THRESHOLD, since=now, reason="is gone", again=now + seconds)
    path.write_bytes(msgspec.json.encode(circuit))


def test_a_retry_waits_for_the_end_of_an_open_circuit(
    proxy: Proxy, prefix: str, breaker: CircuitBreaker, tmp_path: Path
) -> None:
    opened_for(tmp_path / "run", 0.5)
    with client(proxy, prefix, breaker, retry_timeout=30) as keys:
        keys.put("a", b"1")
        assert keys.transact([], [])
    assert breaker.state().phase is Phase.CLOSED


def test_nobody_asks_while_it_is_open(
    proxy: Proxy, prefix: str, breaker: CircuitBreaker, tmp_path: Path
) -> None:
    opened_for(tmp_path / "run", 14)
    with (
        client(proxy, prefix, breaker, retry_timeout=0.1) as keys,
        pytest.raises(UnavailableError, match="is taken as away: 5 failures since") as refusal,
    ):
        keys.put("a", b"1")
    assert "is gone" in refusal.value.hint
    assert proxy.requests == []


def test_it_opens_when_the_servers_go_and_closes_when_they_are_back(
    proxy: Proxy, prefix: str, breaker: CircuitBreaker
) -> None:
    with client(proxy, prefix, breaker, retry_timeout=0) as keys:
        keys.put("a", b"1")
        proxy.refuse()
        for _ in range(THRESHOLD):
            with pytest.raises(UnavailableError):
                keys.put("a", b"2")
        assert breaker.state().failures == THRESHOLD
        assert "refuses the connection" in breaker.state().reason
        proxy.let_pass()

        def is_back() -> bool:
            with contextlib.suppress(UnavailableError):
                keys.put("a", b"3")
                return True
            return False

        eventually(is_back)
    assert breaker.state().phase is Phase.CLOSED


def test_what_the_cluster_refuses_does_not_count(
    proxy: Proxy, prefix: str, breaker: CircuitBreaker
) -> None:
    with client(proxy, prefix, breaker, retry_timeout=0) as keys:
        for _ in range(THRESHOLD + 1):
            with pytest.raises(StoreError, match="does not take a request of this size"):
                keys.put("a", bytes(600_000))
    assert breaker.state().failures == 0
