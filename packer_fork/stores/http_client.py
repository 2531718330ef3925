"""A client of a cluster over HTTP: which server it asks, what it reads, and how errors read.

urllib3 has the connections, the pool, TLS and the framing; it follows no redirect, uses no
proxy and retries nothing. A request that may be carried out twice is sent by `repeat`, after
any error. One that must not is sent by `send_once`: it goes to another server, or is retried,
only as long as no server can have carried it out. `long_poll` and `stream` wait for an event on
the server: they are not retried, and do not count for the circuit breaker.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import msgspec
import urllib3
from msgspec import Struct
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationParseError, ReadTimeoutError

from packer_fork.errors import StoreError
from packer_fork.stores import transport_error
from packer_fork.stores.access import Access, Address, Endpoint
from packer_fork.stores.retry import AnsweredError, Retry, UnavailableError
from packer_fork.stores.shared.keys import UnsureError
from packer_fork.stores.tls import expects_plain_http, expects_tls, tls_context
from packer_fork.stores.transport_error import TransportError

MAX_RESPONSE = 64 << 20
"""Bytes of a response at most, and of a line in a stream."""

IDLE_LIMIT = 15.0
"""Seconds after its last request for which a connection is used again."""

_POOL_SIZE = 16
"""Idle connections to one server that are kept."""

_PIECE = 1 << 18
_WANTS_TLS = b"HTTP request to an HTTPS server"
"""Part of the response of servers written in Go."""

T = TypeVar("T")

_decoding = threading.Lock()


class LargeError(AnsweredError):
    """A response has more than MAX_RESPONSE bytes."""


class Request(Struct, frozen=True, kw_only=True):
    """``target``: path and query, quoted."""

    method: str
    target: str
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Response(Struct, frozen=True):
    """A server's response, of any status. ``headers``: names in lower case."""

    endpoint: Endpoint
    status: int
    headers: Mapping[str, str]
    body: bytes


Judge = Callable[[Response], TransportError | None]
"""Why a response means that this server did not carry out the request; None if it did, or if
the whole cluster would refuse it."""


def decode(body: bytes, kind: type[T], *, strict: bool = True) -> T:
    """The document in a response. Raises msgspec.DecodeError or ValidationError.

    msgspec 0.22 analyses a type when it is first decoded, and crashes if two threads do so
    at once; the lease and the build decode side by side.
    """
    with _decoding:
        return msgspec.json.decode(body, type=kind, strict=strict)


class HttpClient:
    """A client of one cluster, for any number of threads. Each method raises StoreError."""

    def __init__(self, address: Address, access: Access, judge: Judge) -> None:
        """Raises UsageError if certificates cannot be used. Connects at the first request."""
        self._address = address
        self._access = access
        self._judge = judge
        self._retry = Retry(access.retry_timeout, access.breaker, access.warn)
        self._sockets = _Sockets()
        context = tls_context(access) if address.tls else None
        self._pools = {
            endpoint: _pool(endpoint, context, access, self._sockets)
            for endpoint in address.endpoints
        }
        self._first = 0
        self._known: set[Endpoint] = set()

    def repeat(self, request: Request) -> Response:
        """Send until there is a response, or the retry timeout is over."""
        return self._retry.call(lambda: self._by_any(self._sending(request)))

    def send_once(self, request: Request) -> Response:
        """Have it carried out once at most. Raises UnsureError if the outcome is unknown."""
        return self._retry.call(lambda: self._by_any(self._sending(request), once=True))

    def long_poll(self, request: Request, timeout: float) -> Response:
        """Send what is answered at an event on the server, within `timeout` seconds."""
        return self._by_any(self._sending(request, timeout))

    def fetch(self, endpoint: Endpoint, target: str) -> Response:
        """The response of this one server, unjudged. Raises TransportError."""
        return self._exchange(endpoint, Request(method="GET", target=target), None)

    @contextlib.contextmanager
    def stream(self, request: Request, timeout: float) -> Iterator[Iterator[bytes]]:
        """The lines of an endless response as they arrive, for `timeout` seconds at most."""
        deadline = time.monotonic() + timeout
        endpoint, response = self._by_any(lambda endpoint: self._begin(endpoint, request))
        try:
            yield _lines(endpoint, response, deadline)
        except TransportError as error:
            raise self._error({endpoint: error}) from error
        finally:
            response.close()

    def close(self) -> None:
        """Close all connections; a thread that waits on one gets a StoreError."""
        self._sockets.shut_down()
        for pool in self._pools.values():
            pool.close()

    def _by_any(self, ask: Callable[[Endpoint], T], *, once: bool = False) -> T:
        """The result of the first server that has one, beginning with the last that had."""
        endpoints = self._address.endpoints
        errors: dict[Endpoint, TransportError] = {}
        for number in range(self._first, self._first + len(endpoints)):
            endpoint = endpoints[number % len(endpoints)]
            try:
                return ask(endpoint)
            except TransportError as error:
                errors[endpoint] = self._explained(endpoint, error)
                self._first = (number + 1) % len(endpoints)
                if once and errors[endpoint].outcome_unknown:
                    break
        raise self._error(errors, once=once)

    def _explained(self, endpoint: Endpoint, error: TransportError) -> TransportError:
        """The cause behind an error, if the connection ended without a response."""
        if self._sockets.are_shut_down:
            unknown = error.outcome_unknown
            return TransportError("was let go of", outcome_unknown=unknown, permanent=True)
        if error.abrupt and endpoint not in self._known:
            expects_other = expects_plain_http if self._address.tls else expects_tls
            if expects_other(endpoint):
                return self._wrong_scheme()
        return error

    def _wrong_scheme(self) -> TransportError:
        kind, tls = self._address.kind, self._address.tls
        return TransportError(
            "does not speak TLS" if tls else "speaks only TLS",
            hint=f"Let the store's URL begin with {kind if tls else f'{kind}s'}://.",
            permanent=True,
        )

    def _sending(
        self, request: Request, timeout: float | None = None
    ) -> Callable[[Endpoint], Response]:
        return lambda endpoint: self._judged(self._exchange(endpoint, request, timeout))

    def _exchange(self, endpoint: Endpoint, request: Request, timeout: float | None) -> Response:
        allowed = timeout or self._access.request_timeout
        deadline = time.monotonic() + allowed
        response = self._open(endpoint, request, allowed)
        return _whole(endpoint, response, allowed, deadline)

    def _begin(
        self, endpoint: Endpoint, request: Request
    ) -> tuple[Endpoint, urllib3.BaseHTTPResponse]:
        allowed = self._access.request_timeout
        deadline = time.monotonic() + allowed
        response = self._open(endpoint, request, allowed)
        if response.status != http.client.OK:
            refusal = self._judged(_whole(endpoint, response, allowed, deadline))
            raise TransportError(f"answers with {refusal.status}", permanent=True)
        return endpoint, response

    def _open(
        self, endpoint: Endpoint, request: Request, timeout: float
    ) -> urllib3.BaseHTTPResponse:
        """Send; status and headers have arrived by then. Raises TransportError."""
        if self._sockets.are_shut_down:
            raise TransportError("was let go of", permanent=True)
        limits = urllib3.Timeout(connect=self._access.connect_timeout, read=timeout)
        with _worded(timeout):
            return self._pools[endpoint].urlopen(
                request.method,
                request.target,
                body=request.body or None,
                headers=request.headers,
                timeout=limits,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )

    def _judged(self, response: Response) -> Response:
        if 300 <= response.status < 400:
            raise TransportError("sends us elsewhere", hint="Look at the port.", permanent=True)
        if response.status == 400 and _WANTS_TLS in response.body:
            raise self._wrong_scheme()
        self._known.add(response.endpoint)
        if error := self._judge(response):
            raise error
        return response

    def _error(
        self, errors: Mapping[Endpoint, TransportError], *, once: bool = False
    ) -> StoreError:
        unsure = once and any(error.outcome_unknown for error in errors.values())
        permanent = all(error.permanent for error in errors.values())
        kind = UnsureError if unsure else StoreError if permanent else UnavailableError
        what = "may have made a change, or not" if unsure else "cannot be used"
        tried = "; ".join(f"{endpoint} {error.why}" for endpoint, error in errors.items())
        hints = (error.hint for error in errors.values() if error.hint)
        return kind(
            f"{self._address.product} at {self._address} {what}: {tried}.",
            hint=next(hints, "Look whether the servers run and can be reached from here."),
        )


class _Sockets:
    """The sockets of a client, which another thread may shut down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.are_shut_down = False

    def add(self, sock: socket.socket) -> None:
        with self._lock:
            self._opened.add(sock)
            if self.are_shut_down:
                _shut_down(sock)

    def shut_down(self) -> None:
        with self._lock:
            self.are_shut_down = True
            for sock in self._opened:
                _shut_down(sock)


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not that of ssl, which takes away what the other thread reads with.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    """One that can be shut down while a thread waits, and is not used after a long rest.

    A server that has closed an idle connection has made it readable, which urllib3 notices. A
    firewall that forgets one does not. So a write fails only if the server goes away in the very
    moment in which it is sent.
    """

    def __init__(self, *args: Any, sockets: _Sockets, send_timeout: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sockets = sockets
        self._send_timeout = send_timeout
        self._used = 0.0

    def connect(self) -> None:
        """Raises TransportError, which urllib3 lets pass."""
        try:
            super().connect()
        except LocationParseError:
            raise transport_error.connect_failed(UnicodeError(), 0) from None
        except (OSError, HTTPError) as error:
            seconds = self.timeout or 0
            raise transport_error.connect_failed(_cause(error), seconds) from error
        self.socket: socket.socket = self.sock
        self._sockets.add(self.socket)
        self.socket.settimeout(self._send_timeout)

    def request(self, *args: Any, **options: Any) -> None:
        self._used = time.monotonic()
        if self.sock is not None:
            self.sock.settimeout(self._send_timeout)
        # A server that hangs up before it has read all may have said why; urllib3 knows the
        # other errors of that.
        with contextlib.suppress(ssl.SSLEOFError):
            super().request(*args, **options)

    @property
    def is_connected(self) -> bool:
        return time.monotonic() - self._used < IDLE_LIMIT and super().is_connected


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _pool(
    endpoint: Endpoint, context: ssl.SSLContext | None, access: Access, sockets: _Sockets
) -> urllib3.HTTPConnectionPool:
    options: dict[str, Any] = {
        "maxsize": _POOL_SIZE,
        "sockets": sockets,
        "send_timeout": access.request_timeout,
    }
    if context is None:
        return _Pool(endpoint.host, endpoint.port, **options)
    return _TlsPool(endpoint.host, endpoint.port, ssl_context=context, **options)


def _whole(
    endpoint: Endpoint, response: urllib3.BaseHTTPResponse, timeout: float, deadline: float
) -> Response:
    """The response, read before `deadline` (monotonic). Closes the connection if it cannot be."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        with _worded(timeout):
            body = _body(endpoint, response, deadline)
    except BaseException:
        response.close()
        raise
    return Response(endpoint, response.status, headers, body)


def _body(endpoint: Endpoint, response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    pieces, size = [], 0
    while piece := _next_piece(response, deadline):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_RESPONSE:
            raise _too_large(endpoint)
    return b"".join(pieces)


def _lines(
    endpoint: Endpoint, response: urllib3.BaseHTTPResponse, deadline: float
) -> Iterator[bytes]:
    """Each line when it arrives, until the end of the response or `deadline` (monotonic)."""
    rest = b""
    with _worded(0), contextlib.suppress(TimeoutError, ReadTimeoutError):
        while piece := _next_piece(response, deadline):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > MAX_RESPONSE:
                raise _too_large(endpoint)
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest


def _next_piece(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """What has arrived, b"" at the end. Raises TimeoutError, or what urllib3 raises."""
    connection = response.connection
    if connection is None:  # with the last byte it went back to its pool
        return b""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    cast("_Connection", connection).socket.settimeout(left)
    return response.read1(_PIECE)


def _too_large(endpoint: Endpoint) -> LargeError:
    return LargeError(
        f"{endpoint} answers with more than {MAX_RESPONSE >> 20} MiB, which is not read.",
        hint="Look at what stands there.",
    )


@contextlib.contextmanager
def _worded(timeout: float) -> Iterator[None]:
    """Raises TransportError for what goes wrong within `timeout` seconds of a request."""
    try:
        yield
    except (OSError, HTTPError, http.client.HTTPException) as error:
        raise transport_error.exchange_failed(_cause(error), timeout) from error
    except ValueError:
        # No header can hold that. The text of the exception has the secret in it.
        raise transport_error.unusable_credentials() from None


def _cause(error: BaseException) -> BaseException:
    """The exception that one of urllib3's stands for."""
    last = error.args[-1] if error.args else None
    return error.__cause__ or (last if isinstance(last, BaseException) else error)
