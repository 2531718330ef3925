"""A server that says what a test has written down, whatever it is asked."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Say = Callable[[socket.socket], None]
"""What is done with a connection on which a request has come."""


def answer(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """An answer that leaves the connection open."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Scripted:
    """Each entry of the script is for one request: bytes to send, or what to do; then the end.

    After bytes the connection stays open; the last entry is for all further requests.
    """

    def __init__(self, port: int, listener: socket.socket, script: list[bytes | Say]) -> None:
        self.endpoint = f"127.0.0.1:{port}"
        self.connections = 0
        self.requests: list[bytes] = []
        self._listener = listener
        self._script = script
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=[connection])
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while b"\r\n\r\n" in (request := _request(connection)):
                self.requests.append(request)
                say = self._script.pop(0) if len(self._script) > 1 else self._script[0]
                if callable(say):
                    say(connection)
                    return
                connection.sendall(say)

    def end(self) -> None:
        for opened in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


def _request(connection: socket.socket) -> bytes:
    """A request without a body, or what was sent until the client gave up."""
    request = b""
    while b"\r\n\r\n" not in request and (piece := connection.recv(1 << 16)):
        request += piece
    return request


@contextlib.contextmanager
def scripted(*script: bytes | Say, host: str = "127.0.0.1") -> Iterator[Scripted]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        server = Scripted(listener.getsockname()[1], listener, list(script))
        try:
            yield server
        finally:
            server.end()
