"""Keys on etcd 3.4 or newer, by the JSON gateway to its v3 API (see `etcd_wire`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from packer_fork.errors import StoreError
from packer_fork.malformed import MALFORMED
from packer_fork.stores import etcd_errors
from packer_fork.stores.access import Access, Address
from packer_fork.stores.etcd_errors import Fault
from packer_fork.stores.etcd_wire import (
    Done,
    Event,
    Lease,
    Names,
    Nothing,
    Page,
    Renewed,
    Token,
    Watched,
    posted,
)
from packer_fork.stores.http_client import HttpClient, LargeError, Request, Response, decode
from packer_fork.stores.shared.keys import Condition, Delete, Item, Write
from packer_fork.stores.transport_error import TransportError, printable

MOST = (1536 - 128) << 10
"""Bytes of a value: of the 1.5 MiB that a request may have before base64, with keys and all."""

OPERATIONS = 128
"""Conditions, or writes, in a transaction at the most; the servers' default."""

_NAMES = 1000
"""Keys in a page without values."""

_ITEMS, _SMALL_ITEMS = 32, 256
"""Keys in a page with values: so many of the largest are still read, and so many small ones."""

_SMALL = 1 << 20
"""Bytes of a page of small items."""

R = TypeVar("R")


class _LeaseGoneError(StoreError):
    """The lease that was named has ended."""


class EtcdKeys:
    """See `Keys`. Raises UsageError if the certificates cannot be used."""

    kind = "etcd"
    most = MOST
    look = 1.0

    def __init__(self, address: Address, access: Access) -> None:
        self._address = address
        self._access = access
        self._names = Names(address.prefix)
        self._client = HttpClient(address, access, self._judge)
        self._token: str | None = None if access.username else ""

    @property
    def location(self) -> str:
        return str(self._address)

    def get(self, key: str) -> Item | None:
        page = self._ask("kv/range", {"key": self._names.full(key)}, Page)
        return self._names.item(page.kvs[0]) if page.kvs else None

    def items(self, prefix: str, *, start: str = "") -> Iterator[Item]:
        # Not pinned to the first page's revision: that may be compacted before the last page.
        after, limit = self._names.full(max(prefix, start)), _ITEMS
        while True:
            try:
                page = self._page(prefix, after, limit)
            except LargeError:
                if limit == _ITEMS:
                    raise
                limit = _ITEMS
                continue
            yield from map(self._names.item, page.kvs)
            if not page.more:
                return
            after = _behind(page)
            is_small = sum(len(found.value) for found in page.kvs) < _SMALL
            limit = min(2 * limit, _SMALL_ITEMS) if is_small else _ITEMS

    def names(self, prefix: str) -> list[str]:
        after = self._names.full(prefix)
        names: list[str] = []
        while True:
            page = self._page(prefix, after, _NAMES, keys_only=True)
            names += [self._names.relative(found.key) for found in page.kvs]
            if not page.more:
                return names
            after = _behind(page)

    def put(self, key: str, value: bytes) -> None:
        self._ask("kv/put", {"key": self._names.full(key), "value": value}, Nothing)

    def remove(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), OPERATIONS):
            group = [self._names.written(Delete(key)) for key in keys[start : start + OPERATIONS]]
            self._ask("kv/txn", {"success": group}, Nothing)

    def transact(self, conditions: Sequence[Condition], writes: Sequence[Write]) -> int:
        if max(len(conditions), len(writes)) > OPERATIONS:
            raise ValueError(f"more than {OPERATIONS} conditions or writes in a transaction")
        transaction = {
            "compare": [self._names.compared(condition) for condition in conditions],
            "success": [self._names.written(write) for write in writes],
        }
        try:
            done = self._ask("kv/txn", transaction, Done, once=True)
        except _LeaseGoneError:
            return 0
        return done.header.revision if done.succeeded else 0

    def grant(self, ttl: float) -> str:
        return str(self._ask("lease/grant", {"TTL": math.ceil(ttl)}, Lease).id)

    def renew(self, lease: str) -> bool:
        # A lease that has ended is answered without a TTL, not with an error.
        renewed = self._ask("lease/keepalive", {"ID": lease}, Renewed, once=True)
        return renewed.result.ttl > 0

    def left(self, lease: str) -> float | None:
        # Whole seconds, rounded down; -1 if it has ended.
        found = self._ask("lease/timetolive", {"ID": lease}, Lease)
        return min(found.ttl + 1.0, found.granted) if found.ttl >= 0 else None

    def revoke(self, lease: str) -> None:
        try:
            self._ask("lease/revoke", {"ID": lease}, Nothing)
        except _LeaseGoneError:
            return

    def wait(self, key: str, modified: int, timeout: float) -> None:
        """A watch from now on, and one look when it stands.

        It is not from the revision `modified`, which may be compacted.
        """
        message = {"create_request": {"key": self._names.full(key)}}
        with self._client.stream(self._request("watch", message), timeout) as lines:
            for line in lines:
                event = self._event(line)
                if event.events or event.canceled:
                    return
                if event.created and self._modified(key) != modified:
                    return

    def close(self) -> None:
        self._client.close()

    def _modified(self, key: str) -> int:
        asked = {"key": self._names.full(key), "keys_only": True}
        found = self._ask("kv/range", asked, Page).kvs
        return found[0].mod_revision if found else 0

    def _event(self, line: bytes) -> Event:
        if fault := etcd_errors.fault_in(line):
            raise etcd_errors.unavailable(fault) or self._refusal(fault)
        event = self._decoded(line, Watched).result
        if event.canceled and event.cancel_reason:
            fault = etcd_errors.fault_of_watch(event.cancel_reason)
            if fault.is_login_over and self._access.username:
                self._token = None  # the next request logs in
            else:
                raise etcd_errors.unavailable(fault) or self._refusal(fault)
        return event

    def _page(self, prefix: str, after: bytes, limit: int, *, keys_only: bool = False) -> Page:
        span = self._names.span(prefix, after)
        return self._ask("kv/range", {**span, "limit": limit, "keys_only": keys_only}, Page)

    def _ask(
        self, path: str, message: Mapping[str, Any], reply: type[R], *, once: bool = False
    ) -> R:
        response = self._sent(path, message, once=once)
        fault = self._fault(response)
        if fault and fault.is_login_over and self._access.username:
            self._token = None
            response = self._sent(path, message, once=once)
            fault = self._fault(response)
        if fault:
            raise self._refusal(fault)
        return self._decoded(response.body, reply)

    def _sent(self, path: str, message: Mapping[str, Any], *, once: bool) -> Response:
        request = self._request(path, message)
        return self._client.send_once(request) if once else self._client.repeat(request)

    def _request(self, path: str, message: Mapping[str, Any]) -> Request:
        token = self._login() if self._token is None else self._token
        return posted(path, message, token)

    def _login(self) -> str:
        """A token, which is kept; "" where the servers want none."""
        login = {"name": self._access.username, "password": self._access.password}
        response = self._client.repeat(posted("auth/authenticate", login))
        fault = self._fault(response)
        if fault and not fault.is_login_needless:
            raise self._refusal(fault)
        token = "" if fault else self._decoded(response.body, Token).token
        self._token = token
        return token

    def _judge(self, response: Response) -> TransportError | None:
        return etcd_errors.judge(
            response, lambda target: self._client.fetch(response.endpoint, target)
        )

    def _fault(self, response: Response) -> Fault | None:
        return None if response.status == 200 else etcd_errors.fault_in(response.body)

    def _refusal(self, fault: Fault) -> StoreError:
        if fault.is_lease_gone:
            return _LeaseGoneError("The lease has ended.")
        return etcd_errors.refusal(fault, self._address, self._access.username)

    def _decoded(self, body: bytes, reply: type[R]) -> R:
        try:
            return decode(body, reply, strict=False)
        except MALFORMED as error:
            why = printable(str(error))
            raise StoreError(
                f"etcd at {self.location} answers what is not in its protocol ({why}).",
                hint="Look at the versions of etcd, and at what stands before it.",
            ) from error


def _behind(page: Page) -> bytes:
    """The first key that can follow those of `page`."""
    return page.kvs[-1].key + b"\0"
