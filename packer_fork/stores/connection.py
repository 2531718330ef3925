"""One HTTP/1.1 connection to one server (RFC 9112, by ``http.client``), kept alive.

No redirect is followed, no proxy taken from the environment, and no more than a bound
of an answer is read.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import time
from collections.abc import Iterator, Mapping

from msgspec import Struct

from packer_fork.errors import StoreError, UsageError
from packer_fork.stores import trouble
from packer_fork.stores.access import Access, Endpoint

MOST = 64 << 20
"""Bytes of an answer at the most, and of a line in a stream."""

RESTED = 15.0
"""Seconds after which an idle connection is not used any more."""

PROBED = 1.0
"""Seconds in which a server shows whether it speaks TLS."""

_PIECE = 1 << 18


class LargeError(StoreError):
    """An answer has more than MOST bytes."""


class Request(Struct, frozen=True, kw_only=True):
    """``target``: path and query, quoted."""

    method: str
    target: str
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Response(Struct, frozen=True):
    """An answer of a server, whatever its status. ``headers``: names in small letters."""

    endpoint: Endpoint
    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """For one thread at a time; only `end` may come from others."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext | None, access: Access) -> None:
        """Connect. Raises Trouble; nothing was sent then."""
        self.endpoint = endpoint
        try:
            self._sock = _connected(endpoint, context, access.connect_timeout)
        except (OSError, UnicodeError) as error:
            raise trouble.connecting(error, access.connect_timeout) from error
        self._http = http.client.HTTPConnection(endpoint.host, endpoint.port)
        self._http.auto_open = 0  # or it would connect again by itself, unseen
        self._http.sock = self._sock
        self._used = time.monotonic()

    def is_fresh(self) -> bool:
        """Whether what is sent on it arrives, as far as that can be known.

        A server that has closed an idle connection has made it readable. One that rested
        for long may be dead without that, as a firewall forgets it. So a write fails only if
        the server goes away in the very moment in which it is sent.
        """
        if self._http.sock is None or time.monotonic() - self._used > RESTED:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def exchange(self, request: Request, timeout: float) -> Response:
        """Raises Trouble if there is no whole answer within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with _explained(timeout):
            return self._whole(self._send(request, timeout), deadline)

    def begin(self, request: Request, timeout: float) -> Response | None:
        """Ask for a stream: None if its `lines` follow, else the answer, which says why not."""
        deadline = time.monotonic() + timeout
        with _explained(timeout):
            self._stream = self._send(request, timeout)
            if self._stream.status == http.client.OK:
                return None
            return self._whole(self._stream, deadline)

    def lines(self, deadline: float) -> Iterator[bytes]:
        """Each line of the stream when it comes, until its end or `deadline` (monotonic)."""
        with contextlib.suppress(TimeoutError):
            while not self._stream.isclosed() and (left := deadline - time.monotonic()) > 0:
                self._sock.settimeout(left)
                line = self._line()
                if not line:
                    return
                yield line

    def _line(self) -> bytes:
        try:
            return self._stream.readline(MOST)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise trouble.exchanging(error, 0) from error

    def _send(self, request: Request, timeout: float) -> http.client.HTTPResponse:
        self._sock.settimeout(timeout)
        headers = dict(request.headers)
        # A server that hangs up before it has heard all may have said why.
        with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
            self._http.request(request.method, request.target, request.body or None, headers)
        return self._http.getresponse()

    def _whole(self, response: http.client.HTTPResponse, deadline: float) -> Response:
        pieces, size = [], 0
        while piece := response.read1(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > MOST:
                raise LargeError(
                    f"{self.endpoint} answers with more than {MOST >> 20} MiB, which is not read.",
                    hint="Look at what stands there.",
                )
            if response.isclosed():  # from Python 3.13 on with the last byte
                break
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            self._sock.settimeout(left)
        if response.length:  # http.client says nothing where an answer is cut short
            raise http.client.IncompleteRead(b"", response.length)
        response.close()  # else http.client takes no further request
        self._used = time.monotonic()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Response(self.endpoint, response.status, headers, b"".join(pieces))

    def end(self) -> None:
        """Let the thread that waits for an answer wait no more."""
        with contextlib.suppress(OSError):
            # Not that of ssl, which takes away what the other thread reads with.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self._http.close()
        self._sock.close()


def speaks_plainly(endpoint: Endpoint) -> bool:
    """Whether the server answers HTTP without TLS, and not that it wants TLS."""
    with contextlib.suppress(OSError), _connected(endpoint, None, PROBED) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = sock.recv(1 << 12)
        return answer.startswith(b"HTTP/") and b"HTTPS" not in answer
    return False


def speaks_tls(endpoint: Endpoint) -> bool:
    """Whether the server answers TLS, whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent
    try:
        _connected(endpoint, context, PROBED).close()
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
    return True


def tls_context(access: Access) -> ssl.SSLContext:
    """What servers are proven by, and ourselves to them. Raises UsageError."""
    try:
        context = ssl.create_default_context(cafile=access.ca or None)
    except OSError as error:
        raise UsageError(
            f"{access.ca} cannot be used as the certificate of an authority: {_reason(error)}.",
            hint="Name a readable PEM file.",
        ) from error
    if access.certificate:
        try:
            # A password is never asked for: nobody may be there to answer.
            context.load_cert_chain(access.certificate, access.key or None, password="")
        except OSError as error:
            raise UsageError(
                f"{access.certificate} with the key {access.key or access.certificate} cannot be"
                f" used as a client certificate: {_reason(error)}.",
                hint="Name readable PEM files that belong together; the key must have no password.",
            ) from error
    return context


def _connected(endpoint: Endpoint, context: ssl.SSLContext | None, timeout: float) -> socket.socket:
    sock = socket.create_connection((endpoint.host, endpoint.port), timeout)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(sock, server_hostname=endpoint.host) if context else sock
    except BaseException:
        sock.close()
        raise


@contextlib.contextmanager
def _explained(timeout: float) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise trouble.exchanging(error, timeout) from error
    except ValueError:
        # No header can hold that. The text of the exception has the secret in it.
        raise trouble.unsendable() from None


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return reason.replace("_", " ").lower() if reason else error.strerror or str(error)
