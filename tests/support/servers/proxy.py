"""A way to a server that loses, delays or holds what passes: a TCP proxy for plain HTTP/1.1.

It understands a request as far as its end, by Content-Length (no request of ours has a
chunked body); answers pass as bytes, so that streams do, too.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Self

from tests.support.servers.places import LOOPBACK, free_ports

CONNECT = 5  # seconds within which the server must let itself be connected to


@dataclass
class _Connection:
    """From a client to the server: how far it is with its latest request."""

    client: socket.socket
    server: socket.socket
    asked: bool = False  # something was sent to which no answer has begun yet
    over: bool = False  # no answer will come any more
    dropping: str = ""  # the request whose answer is to be dropped


class Proxy:
    """Leads from `endpoint` to `target`, both "host:port", in `with`; passes all until told else.

    What it is told holds at once, from any thread, also for connections that are open.
    """

    endpoint: str

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._claimed = contextlib.ExitStack()
        self._changed = threading.Condition()
        self._hanging = self._ended = False
        self._delay = 0.0
        self._drop: tuple[re.Pattern[str], int, int] | None = None
        self._requests: list[str] = []
        self._dropped: list[str] = []
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        (self._port,) = self._claimed.enter_context(free_ports(1))
        self.endpoint = f"{LOOPBACK}:{self._port}"
        self.let_pass()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.refuse()  # before what is held goes on: it then goes nowhere
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._claimed.close()

    @property
    def requests(self) -> list[str]:
        """All that came, as "METHOD /path"."""
        return list(self._requests)

    @property
    def dropped(self) -> list[str]:
        """Those which the server answered, and whose answers were swallowed."""
        return list(self._dropped)

    def let_pass(self) -> None:
        """Behave as if there were no proxy. Requests that were held go on now, however late."""
        with self._changed:
            self._hanging, self._delay, self._drop = False, 0.0, None
            self._changed.notify_all()
            if self._listener is None:
                self._listener = socket.create_server((LOOPBACK, self._port), backlog=512)
                self._in_thread(self._accept, self._listener)

    def refuse(self) -> None:
        """Refuse connections, and end those that are open."""
        with self._changed:
            listener, self._listener = self._listener, None
            for each in [*self._open, *([listener] if listener else [])]:
                _shut(each)
            if listener:
                listener.close()

    def hang(self) -> None:
        """Take connections and requests, and do nothing with them."""
        with self._changed:
            self._hanging = True

    def delay(self, seconds: float) -> None:
        """Let each request wait before it goes on."""
        with self._changed:
            self._delay = seconds

    def drop_reply(self, matching: str = "", nth: int = 1, *, every: int = 0) -> None:
        """Of the requests from now on whose "METHOD /path" has `matching` (a regular expression)
        let the server do the n-th, swallow its answer and close the connection; then again
        with `every` so many-th after it.
        """
        with self._changed:
            self._drop = re.compile(matching), nth, every

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # told to refuse
            self._in_thread(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        """One connection: requests pass in this thread, answers in another."""
        with contextlib.suppress(OSError), self._until_refused(client):
            server = socket.create_connection(self._target, CONNECT)
            server.settimeout(None)
            with self._until_refused(server):
                connection = _Connection(client, server)
                answers = self._in_thread(self._pass_answers, connection)
                try:
                    self._pass_requests(connection)
                finally:
                    self._await_answer(connection)
                    _shut(server)
                    answers.join()

    def _pass_requests(self, connection: _Connection) -> None:
        with connection.client.makefile("rb") as stream:
            while request := _read_request(stream):
                name = request.split(b" HTTP/", 1)[0].decode()
                dropping = self._came(name)
                self._hold()
                connection.dropping = name if dropping else ""
                connection.asked = True
                connection.server.sendall(request)

    def _pass_answers(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while data := connection.server.recv(65536):
                if connection.dropping:
                    self._dropped.append(connection.dropping)
                    break
                self._note_answer(connection)
                connection.client.sendall(data)
        self._note_answer(connection, last=True)
        _shut(connection.client)

    def _note_answer(self, connection: _Connection, *, last: bool = False) -> None:
        with self._changed:
            connection.asked, connection.over = False, last
            self._changed.notify_all()

    def _await_answer(self, connection: _Connection) -> None:
        """A server that sees its client go may leave undone what it was asked: let it not see."""
        with self._changed:
            self._changed.wait_for(lambda: connection.over or not connection.asked)

    def _came(self, name: str) -> bool:
        """Whether it is the one whose answer is to be dropped."""
        with self._changed:
            self._requests.append(name)
            if self._drop is None or not self._drop[0].search(name):
                return False
            pattern, nth, every = self._drop
            left = nth - 1 or every
            self._drop = (pattern, left, every) if left else None
            return nth == 1

    def _hold(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or not self._delay, self._delay)
            self._changed.wait_for(lambda: self._ended or not self._hanging)

    @contextlib.contextmanager
    def _until_refused(self, opened: socket.socket) -> Iterator[None]:
        with self._changed:
            self._open.add(opened)
            if self._listener is None:
                _shut(opened)
        try:
            yield
        finally:
            with self._changed:
                self._open.discard(opened)
                opened.close()

    def _in_thread(self, target: Callable[..., None], *args: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()
        return thread


def _read_request(stream: BinaryIO) -> bytes:
    """Head and body of the next request; nothing at the end of the connection."""
    head = b""
    for line in stream:
        head += line
        if line == b"\r\n":
            length = re.search(rb"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
            return head + (stream.read(int(length[1])) if length else b"")
    return b""


def _shut(connection: socket.socket) -> None:
    """Wake whoever waits for it, in whatever thread: to close it does not."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
