"""The messages of Consul's HTTP API in JSON, as far as they are used.

Protocol: https://developer.hashicorp.com/consul/api-docs, for kv, txn, session and health.
Values are base64, which msgspec makes of bytes.
"""

from __future__ import annotations

import re

from msgspec import Struct, field

_DURATION = re.compile(r"([0-9.]+)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Entry(Struct, rename="pascal"):
    key: str
    create_index: int
    modify_index: int
    value: bytes | None = None
    session: str = ""


class Operation(Struct, rename="pascal", omit_defaults=True):
    verb: str
    key: str
    value: bytes | None = None
    session: str = ""
    index: int = 0
    flags: int = 0


class Step(Struct):
    kv: Operation = field(name="KV")


class Result(Struct):
    kv: Entry = field(name="KV")


class Done(Struct, rename="pascal"):
    results: list[Result] | None


class NewSession(Struct, rename="pascal", omit_defaults=True):
    """`checks` is what `node_checks` was called before 1.7. Both empty: no check ends it."""

    ttl: str = field(name="TTL")
    node: str = ""
    name: str = field(name="Name", default="")
    behavior: str = ""
    lock_delay: str = ""
    node_checks: tuple[str, ...] | None = None
    checks: tuple[str, ...] | None = None


class Session(Struct):
    id: str = field(name="ID")
    ttl: str = field(name="TTL", default="")


class Node(Struct, rename="pascal"):
    node: str


class Member(Struct, rename="pascal"):
    node: Node


def seconds(duration: str) -> float:
    """Of a duration as Go writes it: "1h2m3s", "60000ms"."""
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(duration))
