"""The messages of etcd's v3 API in JSON, as far as they are used.

Protocol: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway and rpc.proto. Keys and values
are base64, which msgspec makes of bytes; integers come as strings; what is zero or false is
left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from packer_fork.stores.http_client import Request
from packer_fork.stores.shared.keys import Condition, Item, Put, Unchanged, Write

_encoder = msgspec.json.Encoder()


class Nothing(Struct):
    """A reply of which nothing is used."""


class KeyValue(Struct):
    key: bytes
    create_revision: int
    mod_revision: int
    value: bytes = b""
    lease: int = 0


class Page(Struct):
    kvs: list[KeyValue] = []
    more: bool = False


class Header(Struct):
    """``revision`` is the one that the store has by then."""

    revision: int = 0


class Done(Struct):
    header: Header
    succeeded: bool = False


class Lease(Struct):
    """Times are seconds."""

    id: int = field(default=0, name="ID")
    ttl: int = field(default=0, name="TTL")
    granted: int = field(default=0, name="grantedTTL")


class Renewed(Struct):
    result: Lease


class Token(Struct):
    token: str


class Event(Struct):
    created: bool = False
    canceled: bool = False
    cancel_reason: str = ""
    events: list[msgspec.Raw] = []


class Watched(Struct):
    result: Event


class Names(Struct, frozen=True):
    """How the keys of a store are called among those of the cluster."""

    prefix: str

    def full(self, key: str) -> bytes:
        return f"{self.prefix}/{key}".encode(errors="surrogateescape")

    def relative(self, key: bytes) -> str:
        return key[len(self.full("")) :].decode(errors="surrogateescape")

    def item(self, found: KeyValue) -> Item:
        return Item(
            key=self.relative(found.key),
            value=found.value,
            created=found.create_revision,
            modified=found.mod_revision,
            lease=str(found.lease) if found.lease else "",
        )

    def span(self, prefix: str, after: bytes) -> dict[str, Any]:
        """The keys that begin with `prefix`, from the full key `after` on."""
        first = self.full(prefix)
        return {"key": after, "range_end": first[:-1] + bytes([first[-1] + 1])}

    def compared(self, condition: Condition) -> dict[str, Any]:
        """A missing key has the revision 0, and hangs on no lease."""
        key = self.full(condition.key)
        if isinstance(condition, Unchanged):
            return {"key": key, "target": "MOD", "mod_revision": condition.modified}
        return {"key": key, "target": "LEASE", "lease": condition.lease}

    def written(self, write: Write) -> dict[str, Any]:
        key = self.full(write.key)
        if isinstance(write, Put):
            put = {"key": key, "value": write.value, "lease": write.lease or 0}
            return {"request_put": put}
        return {"request_delete_range": {"key": key}}


def posted(path: str, message: Mapping[str, Any], token: str = "") -> Request:
    """A server without a leader says so at once; a watch would otherwise be silent for ever."""
    headers = {"Grpc-Metadata-hasleader": "true"}
    if token:
        headers["Authorization"] = token
    return Request(
        method="POST", target=f"/v3/{path}", body=_encoder.encode(message), headers=headers
    )
