"""Which servers the settings name, and what their states are called on this machine."""

from __future__ import annotations

from msgspec import structs

from packer_fork import config
from packer_fork.errors import UsageError
from packer_fork.stores.access import Address, parse_address
from packer_fork.stores.circuit_breaker import CircuitBreaker


def address_of(settings: config.Settings) -> Address:
    """Raises UsageError for what is no store, or where the project has no name."""
    address = parse_address(settings.state)
    if not settings.project:
        raise UsageError(
            "A shared store needs the name of the project, below which its states stand.",
            hint='Set project = "NAME" in packer-fork.toml, or PACKER_FORK_PROJECT.',
        )
    return address


def name_of(settings: config.Settings) -> str:
    """The same for the same project on the same servers, in whatever order they are named.

    Raises UsageError.
    """
    from hashlib import sha256

    address = address_of(settings)
    servers = ",".join(sorted(map(str, address.endpoints)))
    name = f"{address.kind}://{servers}/{address.prefix}/{settings.project}"
    return sha256(name.encode()).hexdigest()[:16]


def circuit_breaker(settings: config.Settings) -> CircuitBreaker:
    """The one of all states on the same servers. Raises UsageError."""
    return CircuitBreaker(str(structs.replace(address_of(settings), prefix="")))
