"""An object store over HTTP with nothing but conditional writes, and a client of it.

It behaves as S3 does: equal bytes have equal ETags, If-Match on an object that does not exist
fails, reads and lists are consistent. A `Proxy` before it loses, delays and holds what passes.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec
from msgspec import structs

from packer_fork.errors import StoreError
from packer_fork.stores.access import Access, Address, Endpoint
from packer_fork.stores.http_client import HttpClient, Request, Response
from packer_fork.stores.object_store import Listed, Object
from packer_fork.stores.objects import ObjectKeys
from packer_fork.stores.retry import Retry
from packer_fork.stores.transport_error import TransportError
from tests.support.servers.places import LOOPBACK

MARGIN = 0.5
"""Seconds of grace of a lease: this server's times are exact."""

POLL = 0.05

_Reply = tuple[HTTPStatus, dict[str, str], bytes]


class ObjectServer:
    """`endpoints` as a `Cluster` has them. ``ignores_conditions``: as old servers do."""

    def __init__(self) -> None:
        self.ignores_conditions = False
        self.conflict: Callable[[str], bool] = lambda _: False
        """Which conditional writes are answered 409 without being carried out, by their names."""
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()
        self._http = http.server.ThreadingHTTPServer((LOOPBACK, 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=[0.01])
        self._thread.start()

    @property
    def endpoints(self) -> list[str]:
        return [f"{LOOPBACK}:{self._http.server_port}"]

    def end(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def names(self, prefix: str = "") -> list[str]:
        with self._lock:
            return sorted(name for name in self._objects if name.startswith(prefix))

    def reply(self, method: str, target: str, headers: Callable[[str], str], body: bytes) -> _Reply:
        parts = urlsplit(target)
        name = unquote(parts.path.removeprefix("/objects/"))
        with self._lock:
            match method:
                case "GET" if parts.path == "/list":
                    return self._list(parse_qs(parts.query).get("prefix", [""])[0])
                case "GET":
                    return self._get(name)
                case "PUT":
                    return self._put(name, headers("If-Match"), headers("If-None-Match"), body)
                case _:
                    self._objects.pop(name, None)
                    return HTTPStatus.OK, {}, b""

    def _list(self, prefix: str) -> _Reply:
        found = [(name, at) for name, (_, at) in self._objects.items() if name.startswith(prefix)]
        return HTTPStatus.OK, {}, msgspec.json.encode(found)

    def _get(self, name: str) -> _Reply:
        if name not in self._objects:
            return HTTPStatus.NOT_FOUND, {}, b""
        data, _ = self._objects[name]
        return HTTPStatus.OK, {"ETag": _etag(data)}, data

    def _put(self, name: str, match: str, none_match: str, body: bytes) -> _Reply:
        stands = _etag(self._objects[name][0]) if name in self._objects else ""
        if (match or none_match) and self.conflict(name):
            return HTTPStatus.CONFLICT, {}, b""
        is_met = stands == match if match else not (none_match and stands)
        if not is_met and not self.ignores_conditions:
            return HTTPStatus.PRECONDITION_FAILED, {}, b""
        self._objects[name] = body, time.time()
        return HTTPStatus.OK, {"ETag": _etag(body)}, b""

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, data = server.reply(
                    self.command, self.path, lambda name: self.headers.get(name) or "", body
                )
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_DELETE = serve  # noqa: N815 (the names that are looked for)

            def log_message(self, *_: object) -> None:
                """Nothing is logged."""

        return Handler


@contextlib.contextmanager
def object_server() -> Iterator[ObjectServer]:
    server = ObjectServer()
    try:
        yield server
    finally:
        server.end()


class HttpObjectStore:
    """Implements ``stores.object_store.ObjectStore`` on an `ObjectServer`."""

    kind = "objects"

    def __init__(self, endpoints: Sequence[str], prefix: str, access: Access) -> None:
        places = (each.rpartition(":") for each in endpoints)
        found = tuple(Endpoint(host, int(port)) for host, _, port in places)
        self._address = _Address(self.kind, tls=False, endpoints=found, prefix=prefix)
        self._client = HttpClient(self._address, _single(access), _judge)

    @property
    def location(self) -> str:
        return str(self._address)

    def get(self, name: str) -> Object | None:
        response = self._client.repeat(self._request("GET", name))
        if response.status == HTTPStatus.NOT_FOUND:
            return None
        return Object(response.body, response.headers["etag"])

    def put(self, name: str, data: bytes) -> str:
        return self._client.repeat(self._request("PUT", name, data)).headers["etag"]

    def put_new(self, name: str, data: bytes) -> str | None:
        return self._put(self._request("PUT", name, data, {"If-None-Match": "*"}))

    def put_if(self, name: str, data: bytes, etag: str) -> str | None:
        return self._put(self._request("PUT", name, data, {"If-Match": etag}))

    def list(self, prefix: str) -> Sequence[Listed]:
        begin = f"{self._address.prefix}/"
        target = f"/list?prefix={quote(begin + prefix, safe='')}"
        body = self._client.repeat(Request(method="GET", target=target)).body
        found = msgspec.json.decode(body, type=list[tuple[str, float]])
        return [Listed(name.removeprefix(begin), at) for name, at in found]

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._client.repeat(self._request("DELETE", name))

    def close(self) -> None:
        self._client.close()

    def _put(self, request: Request) -> str | None:
        response = self._client.send_once(request)
        if response.status in (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED):
            return None
        if response.status != HTTPStatus.OK:
            raise StoreError(f"{self.location} answers with {response.status}.")
        return response.headers["etag"]

    def _request(
        self, method: str, name: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Request:
        target = f"/objects/{quote(f'{self._address.prefix}/{name}')}"
        return Request(method=method, target=target, body=body, headers=headers or {})


def object_keys(endpoints: Sequence[str], prefix: str, access: Access) -> ObjectKeys:
    retry = Retry(access.retry_timeout, access.breaker, access.warn)
    store = HttpObjectStore(endpoints, prefix, access)
    return ObjectKeys(store, retry, margin=MARGIN, poll=POLL)


class _Address(Address, frozen=True):
    @property
    def product(self) -> str:
        return self.kind


def _single(access: Access) -> Access:
    """One attempt a request: `ObjectKeys` retries."""
    return structs.replace(access, retry_timeout=0, breaker=None, warn=None)


def _judge(response: Response) -> TransportError | None:
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TransportError(f"answers with {response.status}", outcome_unknown=True)
    return None


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
