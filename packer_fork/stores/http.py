"""Asking a cluster over HTTP: one server after the other, and again while it makes sense.

What may be done twice is `repeated`, after any trouble. What must not is sent `once`: it goes
to another server, or is tried again, only as long as no server can have done it. `long` and
`stream` wait for something to happen there: they are not tried again, and tell the circuit
breaker nothing, since silence says nothing of the servers.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import msgspec

from packer_fork.errors import StoreError
from packer_fork.stores.access import Access, Address, Endpoint, Guard
from packer_fork.stores.connection import (
    Connection,
    LargeError,
    Request,
    Response,
    speaks_plainly,
    speaks_tls,
)
from packer_fork.stores.patience import AwayError, again
from packer_fork.stores.pool import Pool
from packer_fork.stores.shared.keys import UnsureError
from packer_fork.stores.trouble import Trouble

Judge = Callable[[Response], Trouble | None]
"""Why an answer says that this server did not do it, if it does; None for all else."""

_WANTS_TLS = b"HTTP request to an HTTPS server"
"""In the answer of servers written in Go."""

T = TypeVar("T")

_decoding = threading.Lock()


def decode(body: bytes, kind: type[T], *, strict: bool = True) -> T:
    """The document in a response. Raises msgspec.DecodeError or ValidationError.

    msgspec 0.22 analyses a type when it is first decoded, and crashes if two threads do so
    at once; the lease and the build decode side by side.
    """
    with _decoding:
        return msgspec.json.decode(body, type=kind, strict=strict)


class Transport:
    """A client of one cluster, for any number of threads. Each method raises StoreError."""

    def __init__(self, address: Address, access: Access, judge: Judge) -> None:
        """Raises UsageError if certificates cannot be used. Connects when it is asked."""
        self._address = address
        self._access = access
        self._judge = judge
        self._pool = Pool(address, access)
        self._first = 0
        self._heard: set[Endpoint] = set()
        self._gave_up = False

    def repeated(self, request: Request) -> Response:
        """Ask until there is an answer, or patience is over."""
        return self._patiently(lambda: self._attempt(self._asking(request)))

    def once(self, request: Request) -> Response:
        """Have it done once at the most. Raises UnsureError if nobody knows whether it was."""
        return self._patiently(lambda: self._attempt(self._asking(request), once=True))

    def long(self, request: Request, timeout: float) -> Response:
        """Ask for what is answered when it happens, within `timeout` seconds."""
        return self._by_one_of_them(self._asking(request, timeout), once=False)

    def look(self, endpoint: Endpoint, target: str) -> Response:
        """What this one server says there, unjudged. Raises Trouble."""
        return self._exchange(endpoint, Request(method="GET", target=target), None)

    @contextlib.contextmanager
    def stream(self, request: Request, timeout: float) -> Iterator[Iterator[bytes]]:
        """The lines of an endless answer as they come, for `timeout` seconds at the most."""
        deadline = time.monotonic() + timeout
        connection = self._by_one_of_them(
            lambda endpoint: self._begin(endpoint, request), once=False
        )
        try:
            yield connection.lines(deadline)
        except Trouble as trouble:
            raise self._error({connection.endpoint: trouble}) from trouble
        finally:
            self._pool.drop(connection)

    def close(self) -> None:
        """Let go of all connections; whoever waits on one gets a StoreError."""
        self._pool.close()

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Patience is had once: while the cluster stays away after that, each is tried once."""
        try:
            answer = attempt()
        except AwayError as error:
            if self._gave_up or self._access.patience <= 0:
                raise
            self._gave_up = True
            if self._access.complain is not None:
                self._access.complain(
                    f"{error.message} It is tried for {self._access.patience:.0f} s."
                )
            answer = again(attempt, error, self._access.patience)
        self._gave_up = False
        return answer

    def _attempt(self, ask: Callable[[Endpoint], T], *, once: bool = False) -> T:
        with _guarded(self._access.guard):
            return self._by_one_of_them(ask, once=once)

    def _by_one_of_them(self, ask: Callable[[Endpoint], T], *, once: bool) -> T:
        """The first one that can; first is asked the one that could the last time."""
        endpoints = self._address.endpoints
        troubles: dict[Endpoint, Trouble] = {}
        for number in range(self._first, self._first + len(endpoints)):
            endpoint = endpoints[number % len(endpoints)]
            try:
                return ask(endpoint)
            except Trouble as trouble:
                troubles[endpoint] = self._examined(endpoint, trouble)
                self._first = (number + 1) % len(endpoints)
                if once and troubles[endpoint].unsure:
                    break
        raise self._error(troubles, once=once)

    def _examined(self, endpoint: Endpoint, trouble: Trouble) -> Trouble:
        """What is behind it, if the connection ended without a word."""
        if self._pool.is_closed:
            return Trouble("was let go of", unsure=trouble.unsure, lasting=True)
        if trouble.abrupt and endpoint not in self._heard:
            speaks = speaks_plainly if self._address.tls else speaks_tls
            if speaks(endpoint):
                return self._wrong_scheme()
        return trouble

    def _wrong_scheme(self) -> Trouble:
        kind, tls = self._address.kind, self._address.tls
        return Trouble(
            "does not speak TLS" if tls else "speaks only TLS",
            hint=f"Let the store's URL begin with {kind if tls else f'{kind}s'}://.",
            lasting=True,
        )

    def _asking(
        self, request: Request, timeout: float | None = None
    ) -> Callable[[Endpoint], Response]:
        return lambda endpoint: self._judged(self._exchange(endpoint, request, timeout))

    def _exchange(self, endpoint: Endpoint, request: Request, timeout: float | None) -> Response:
        with self._pool.lent(endpoint) as connection:
            return connection.exchange(request, timeout or self._access.request_timeout)

    def _begin(self, endpoint: Endpoint, request: Request) -> Connection:
        connection = self._pool.take(endpoint)
        try:
            refusal = connection.begin(request, self._access.request_timeout)
            if refusal is not None:
                self._judged(refusal)
                raise Trouble(f"answers with {refusal.status}", lasting=True)  # noqa: TRY301
        except BaseException:
            self._pool.drop(connection)
            raise
        return connection

    def _judged(self, response: Response) -> Response:
        if 300 <= response.status < 400:
            raise Trouble("sends us elsewhere", hint="Look at the port.", lasting=True)
        if response.status == 400 and _WANTS_TLS in response.body:
            raise self._wrong_scheme()
        self._heard.add(response.endpoint)
        if trouble := self._judge(response):
            raise trouble
        return response

    def _error(self, troubles: Mapping[Endpoint, Trouble], *, once: bool = False) -> StoreError:
        unsure = once and any(trouble.unsure for trouble in troubles.values())
        lasting = all(trouble.lasting for trouble in troubles.values())
        kind = UnsureError if unsure else StoreError if lasting else AwayError
        what = "may have made a change, or not" if unsure else "cannot be used"
        tried = "; ".join(f"{endpoint} {trouble.why}" for endpoint, trouble in troubles.items())
        hints = (trouble.hint for trouble in troubles.values() if trouble.hint)
        return kind(
            f"{self._address.product} at {self._address} {what}: {tried}.",
            hint=next(hints, "Look whether the servers run and can be reached from here."),
        )


@contextlib.contextmanager
def _guarded(guard: Guard | None) -> Iterator[None]:
    """One attempt, if the circuit breaker lets it pass; it is told how that ended."""
    if guard is None:
        yield
        return
    try:
        guard.before()
    except StoreError as error:
        raise AwayError(error.message, hint=error.hint) from error
    try:
        yield
    except LargeError:
        guard.succeeded()
        raise
    except StoreError as error:
        guard.failed(error.message)
        raise
    guard.succeeded()
