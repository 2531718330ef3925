"""The instance that a build runs on, from the few words that builders say of it. Pure."""

from __future__ import annotations

import re

from msgspec import structs

from packer_fork.model import Instance

_HINTS = (
    (re.compile(r"Instance ID: (\S+)"), "id"),
    (re.compile(r"Container ID: (\S+)"), "id"),
    (re.compile(r"(?:Public IP|IP address|IP): (\S+)"), "address"),
    (re.compile(r"\s*-> IP Address\s*: '([^']*)'"), "address"),
    (re.compile(r"Using \S+ communicator to connect: (\S+)"), "address"),
)
_MOST_ADDRESSES = 16


def learn(instance: Instance | None, text: str, provider: str) -> Instance | None:
    """`instance` with what `text` tells; the same object if that is nothing."""
    for pattern, kind in _HINTS:
        found = pattern.match(text)
        if found:
            before = instance or Instance(provider=provider)
            after = _with_id(before, found[1]) if kind == "id" else _with_address(before, found[1])
            return instance if after == instance else after
    return instance


def _with_id(instance: Instance, value: str) -> Instance:
    return structs.replace(instance, id=value)


def _with_address(instance: Instance, value: str) -> Instance:
    if value in instance.addresses or len(instance.addresses) >= _MOST_ADDRESSES:
        return instance
    return structs.replace(instance, addresses=(*instance.addresses, value))
