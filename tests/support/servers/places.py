"""Addresses and ports that are nobody's, also while several test processes look for some."""

import contextlib
import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """Where one server runs: its address, its three ports there, and how a program is run there."""

    address: str
    ports: tuple[int, int, int]
    inside: Sequence[str] = ()

    @property
    def at(self) -> tuple[str, str, str]:
        """The three as "host:port"."""
        first, second, third = (f"{self.address}:{port}" for port in self.ports)
        return first, second, third


@contextlib.contextmanager
def claimed(name: str) -> Iterator[bool]:
    """Whether `name` is ours among all test processes of this machine.

    A claim is a socket in the abstract namespace, so that it vanishes with its process.
    """
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(f"\0packer-fork-tests-{name}")
        except OSError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Loopback ports below those that the kernel gives to outgoing connections."""
    ports: list[int] = []
    with contextlib.ExitStack() as kept:
        for port in random.sample(range(15_000, 32_000), 1_000):
            if len(ports) == count:
                break
            with contextlib.ExitStack() as claim:
                if claim.enter_context(claimed(f"port-{port}")) and _is_free(port):
                    kept.push(claim.pop_all())
                    ports.append(port)
        assert len(ports) == count, f"found only {len(ports)} free ports of {count}"
        yield ports


@contextlib.contextmanager
def loopback(nodes: int) -> Iterator[list[Place]]:
    """A place for each node, all on 127.0.0.1."""
    with free_ports(3 * nodes) as ports:
        triples = zip(ports[0::3], ports[1::3], ports[2::3], strict=True)
        yield [Place(LOOPBACK, triple) for triple in triples]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
