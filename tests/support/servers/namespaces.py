"""A network of the test's own, of which nodes can be cut off.

Each node has a network namespace with one end of a cable (veth), whose other end is a
port of a switch (a bridge, in a namespace too). One more cable leads from the switch to
where the tests run. A namespace lives as long as the process that holds it, a cable as
long as both its ends: when the tests end, in whatever way, all of it is gone.
"""

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import eventually, unavailable
from tests.support.servers.places import Place, claimed
from tests.support.servers.process import TIED

# Of networks for benchmarks (RFC 2544): nobody's in earnest. A subnet for each test process.
SUBNETS = [f"198.{high}.{low}" for high in (18, 19) for low in range(256)]
PORTS = (2379, 2380, 2381)


@dataclass(frozen=True)
class Network:
    """Places for servers, each in its own namespace, numbered from 0."""

    places: list[Place]
    switch: Sequence[str]

    def inside(self, number: int) -> list[str]:
        """What to put before a command, so that it runs on that node."""
        return list(self.places[number].inside)

    def cut(self, number: int) -> None:
        """Pull the node's cable: nothing reaches it, nothing leaves it, nobody is told."""
        _run(*self.switch, *_ip("link set", f"port{number}", "down"))

    def heal(self, number: int) -> None:
        _run(*self.switch, *_ip("link set", f"port{number}", "up"))


@contextlib.contextmanager
def namespaces(nodes: int = 3) -> Iterator[Network]:
    """A network of so many nodes, all connected. Needs root: skipped without, but fails on CI."""
    if os.geteuid() != 0:
        unavailable("only root may make network namespaces")
    with contextlib.ExitStack() as stack:
        subnet = stack.enter_context(_subnet())
        switch = stack.enter_context(_namespace())
        _run(*_inside(switch), *_ip("link add", "switch", "up type bridge"))
        # Named for the process that holds the switch, so that no two have one name.
        ours = f"pf{switch}"
        _connect(switch, "tests", os.getpid(), ours, f"{subnet}.254/24")
        # It would vanish with the switch, but only some time later.
        stack.callback(_run, *_ip("link delete", ours))
        places = []
        for number in range(nodes):
            node, address = stack.enter_context(_namespace()), f"{subnet}.{number + 1}"
            _run(*_inside(node), *_ip("link set", "lo", "up"))
            _connect(switch, f"port{number}", node, "cable", f"{address}/24")
            places.append(Place(address, PORTS, _inside(node)))
        yield Network(places, _inside(switch))


def _connect(switch: int, port: str, node: int, cable: str, address: str) -> None:
    """A cable between the switch and the namespace of process `node`, which gets the address."""
    on_switch, on_node = _inside(switch), _inside(node)
    _run(*on_switch, *_ip("link add", port, "type veth peer name", cable, f"netns {node}"))
    _run(*on_switch, *_ip("link set", port, "up master switch"))
    _run(*on_node, *_ip("address add", address, "dev", cable))
    _run(*on_node, *_ip("link set", cable, "up"))


@contextlib.contextmanager
def _namespace() -> Iterator[int]:
    """The id of a process that holds a new network namespace."""
    holder = subprocess.Popen(
        [*TIED, "unshare", "--net", "sleep", "infinity"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C at the tests is not for it
    )
    try:
        ours = Path("/proc/self/ns/net").readlink()
        theirs = Path(f"/proc/{holder.pid}/ns/net")
        eventually(lambda: holder.poll() is not None or theirs.readlink() != ours)
        if holder.returncode is not None:
            unavailable("network namespaces cannot be made here")
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()


@contextlib.contextmanager
def _subnet() -> Iterator[str]:
    for subnet in random.sample(SUBNETS, len(SUBNETS)):
        with claimed(f"subnet-{subnet}") as ours:
            if ours:
                yield subnet
                return
    raise AssertionError("every subnet is taken")


def _inside(pid: int) -> list[str]:
    return ["nsenter", "--target", str(pid), "--net"]


def _ip(*words: str) -> list[str]:
    return ["ip", *" ".join(words).split()]


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
