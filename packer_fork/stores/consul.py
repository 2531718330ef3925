"""Keys of a shared store on Consul, over its HTTP API (/v1/kv, /v1/txn, /v1/session).

Leases are sessions with a TTL, which Consul ends between once and twice that time after the last
renewal. A session ends with its node, too, and a client agent that is stopped in good order
takes its own node away: so ours belong to the node of a server, and hang on no health check.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import TypeVar
from urllib.parse import quote

import msgspec

from packer_fork.errors import StoreError
from packer_fork.malformed import MALFORMED
from packer_fork.stores import consul_errors
from packer_fork.stores.access import Access, Address
from packer_fork.stores.consul_errors import Refused
from packer_fork.stores.consul_wire import (
    Done,
    Entry,
    Member,
    NewSession,
    Operation,
    Session,
    Step,
    seconds,
)
from packer_fork.stores.http_client import HttpClient, Request, Response, decode
from packer_fork.stores.shared.keys import (
    Condition,
    Delete,
    Item,
    Leased,
    Put,
    Unchanged,
    Write,
)

OPERATIONS = 64
"""Conditions and writes together in a transaction at the most."""

MOST = 360 << 10
"""Bytes of a value: of the 512 KiB of JSON that a transaction may have, with keys and all."""

_PAGE = 32
_LONGEST_WAIT = 600.0
T = TypeVar("T")


class ConsulKeys:
    """See `Keys`. Raises UsageError if the certificates cannot be used.

    A write without a lease leaves a key to the lease that it hangs on.
    """

    kind = "Consul"
    most = MOST
    look = 1.0

    def __init__(self, address: Address, access: Access) -> None:
        self._address = address
        self._access = access
        self._root = f"{address.prefix}/"
        self._headers = {"X-Consul-Token": access.token} if access.token else {}
        self._client = HttpClient(address, access, consul_errors.judge)

    @property
    def location(self) -> str:
        return str(self._address)

    def get(self, key: str) -> Item | None:
        response = self._told(self._read(key))
        if response.status == 404:
            return None
        (entry,) = self._decoded(response, list[Entry])
        return self._item(entry)

    def items(self, prefix: str, *, start: str = "") -> Iterator[Item]:
        """Consul has no pages: the names come all at once, the values page by page."""
        names = [name for name in self.names(prefix) if name >= start]
        for first in range(0, len(names), _PAGE):
            yield from self._values(names[first : first + _PAGE])

    def names(self, prefix: str) -> list[str]:
        response = self._told(self._read(prefix, "&keys"))
        if response.status == 404:
            # Keys that the token may not read are left out; one that is asked for is refused.
            self.get(prefix)
            return []
        return [key.removeprefix(self._root) for key in self._decoded(response, list[str])]

    def put(self, key: str, value: bytes) -> None:
        self._told(self._request("PUT", f"kv/{self._quoted(key)}", value))

    def remove(self, keys: Sequence[str]) -> None:
        for first in range(0, len(keys), OPERATIONS):
            group = keys[first : first + OPERATIONS]
            operations = [Operation("delete", self._root + key) for key in group]
            self._told(self._transaction(operations))

    def transact(self, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        operations = [*map(self._check, conditions), *map(self._write, writes)]
        if len(operations) > OPERATIONS:
            raise ValueError(f"more than {OPERATIONS} conditions and writes in a transaction")
        response = self._told(self._transaction(operations), once=True)
        if response.status != 200:
            return 0
        results = self._decoded(response, Done).results or []
        return max((result.kv.modify_index for result in results), default=1)

    def grant(self, ttl: float) -> str:
        wanted = NewSession(
            ttl=f"{round(ttl * 1000)}ms",
            node=self._lasting_node(),
            name="packer-fork",
            behavior="release",
            lock_delay="0s",
            node_checks=(),
            checks=(),
        )
        request = self._request("PUT", "session/create", msgspec.json.encode(wanted))
        return self._decoded(self._told(request), Session).id

    def renew(self, lease: str) -> bool:
        request = self._request("PUT", f"session/renew/{quote(lease)}")
        return self._told(request, once=True).status == 200

    def left(self, lease: str) -> float | None:
        """Twice the TTL: when it was renewed is not told."""
        request = self._request("GET", f"session/info/{quote(lease)}?consistent")
        sessions = self._decoded(self._told(request), list[Session])
        return 2 * seconds(sessions[0].ttl) if sessions else None

    def revoke(self, lease: str) -> None:
        self._told(self._request("PUT", f"session/destroy/{quote(lease)}"))

    def wait(self, key: str, modified: int, timeout: float) -> None:
        index = f"{modified}" if modified else self._index_without(key)
        if not index:
            return
        # Consul adds up to a sixteenth, so that not all wake at once; 0 would be 5 minutes.
        wait = max(1, int(1000 * min(timeout, _LONGEST_WAIT) * 16 / 17))
        request = self._read(key, f"&index={index}&wait={wait}ms")
        self._allowed(self._client.long_poll(request, timeout + self._access.request_timeout))

    def close(self) -> None:
        self._client.close()

    def _index_without(self, key: str) -> str:
        """From where on the making of a key that does not exist is news; "" if it does."""
        response = self._told(self._read(key))
        return response.headers.get("x-consul-index", "") if response.status == 404 else ""

    def _lasting_node(self) -> str:
        """The name of a server's node; "", which is the agent's own, if the token sees none."""
        request = self._request("GET", "health/service/consul?passing&consistent")
        members = self._decoded(self._told(request), list[Member])
        return members[0].node.node if members else ""

    def _values(self, keys: list[str]) -> Iterator[Item]:
        """Those of `keys` that still exist; where one does not, Consul tells of none."""
        while keys:
            operations = [Operation("get", self._root + key) for key in keys]
            response = self._told(self._transaction(operations))
            if response.status == 200:
                yield from self._visible(response, len(keys))
                return
            refusals = self._decoded(response, Refused).errors
            gone = {refusal.op_index for refusal in refusals}
            keys = [key for number, key in enumerate(keys) if number not in gone]

    def _visible(self, response: Response, number: int) -> Iterator[Item]:
        results = self._decoded(response, Done).results or []
        if len(results) < number:
            raise StoreError(
                f"Consul at {self.location} hides keys from this token.",
                hint=consul_errors.rules(self._address),
            )
        yield from (self._item(result.kv) for result in results)

    def _check(self, condition: Condition) -> Operation:
        key = self._root + condition.key
        match condition:
            case Unchanged(modified=0):
                return Operation("check-not-exists", key)
            case Unchanged(modified=modified):
                return Operation("check-index", key, index=modified)
            case Leased(lease=lease):
                return Operation("check-session", key, session=lease)

    def _write(self, write: Write) -> Operation:
        key = self._root + write.key
        match write:
            case Put(value=value, lease=""):
                return Operation("set", key, value, flags=_nonce())
            case Put(value=value, lease=lease):
                return Operation("lock", key, value, lease, flags=_nonce())
            case Delete():
                return Operation("delete", key)

    def _item(self, entry: Entry) -> Item:
        return Item(
            key=entry.key.removeprefix(self._root),
            value=entry.value or b"",
            created=entry.create_index,
            modified=entry.modify_index,
            lease=entry.session,
        )

    def _quoted(self, key: str) -> str:
        return quote(self._root + key)

    def _read(self, key: str, query: str = "") -> Request:
        return self._request("GET", f"kv/{self._quoted(key)}?consistent{query}")

    def _transaction(self, operations: Sequence[Operation]) -> Request:
        body = msgspec.json.encode([Step(operation) for operation in operations])
        return self._request("PUT", "txn?consistent", body)

    def _request(self, method: str, target: str, body: bytes = b"") -> Request:
        return Request(method=method, target=f"/v1/{target}", body=body, headers=self._headers)

    def _told(self, request: Request, *, once: bool = False) -> Response:
        send = self._client.send_once if once else self._client.repeat
        return self._allowed(send(request))

    def _allowed(self, response: Response) -> Response:
        refusal = consul_errors.refusal(response, self._address, self._access.token)
        if refusal:
            raise refusal
        return response

    def _decoded(self, response: Response, kind: type[T]) -> T:
        try:
            return decode(response.body, kind)
        except MALFORMED as error:
            raise StoreError(
                f"Consul at {self.location} answers what is not in its API ({error}).",
                hint="Look at host and port, and at what stands before it.",
            ) from error


def _nonce() -> int:
    """Flags of a write: one of what stands there already would leave a key its `modified`."""
    return secrets.randbits(62)
