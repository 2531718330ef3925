"""Connections to a cluster that are kept for the next request, for any number of threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from packer_fork.stores.access import Access, Address, Endpoint
from packer_fork.stores.connection import Connection, tls_context


class Pool:
    """Connections at rest, each with the server that it leads to, and those at work."""

    def __init__(self, address: Address, access: Access) -> None:
        self._access = access
        self._context = tls_context(access) if address.tls else None
        self._lock = threading.Lock()
        self._resting: list[Connection] = []
        self._working: set[Connection] = set()
        self.is_closed = False

    @contextlib.contextmanager
    def lent(self, endpoint: Endpoint) -> Iterator[Connection]:
        """A connection for one exchange; it is kept if nothing is raised."""
        connection = self.take(endpoint)
        try:
            yield connection
        except BaseException:
            self.drop(connection)
            raise
        self._give(connection)

    def take(self, endpoint: Endpoint) -> Connection:
        while (found := self._rested(endpoint)) is not None:
            if found.is_fresh():
                return found
            self.drop(found)
        made = Connection(endpoint, self._context, self._access)
        with self._lock:
            self._working.add(made)
            if self.is_closed:
                made.end()
        return made

    def drop(self, connection: Connection) -> None:
        with self._lock:
            self._working.discard(connection)
        connection.close()

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
            resting, self._resting = self._resting, []
            for connection in self._working:
                connection.end()
        for connection in resting:
            connection.close()

    def _rested(self, endpoint: Endpoint) -> Connection | None:
        with self._lock:
            for connection in reversed(self._resting):
                if connection.endpoint == endpoint:
                    self._resting.remove(connection)
                    self._working.add(connection)
                    return connection
        return None

    def _give(self, connection: Connection) -> None:
        with self._lock:
            self._working.discard(connection)
            if not self.is_closed:
                self._resting.append(connection)
                return
        connection.close()
