"""A lease that is renewed for as long as its owner lives and wants it.

What counts is when a renewal was sent, not when it was answered: a server that was cut
off goes on answering for a while.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from packer_fork.errors import StoreError
from packer_fork.stores.shared.keys import Keys

DANGER = 2 / 3
"""Part of its time after which a lease that was not renewed is in danger."""

_RENEWALS = 3
"""How often a lease is renewed in its time."""

_RETRIES = 12
"""How often that is tried in the lease's time once it has failed."""


class Lease:
    """Safe for threads."""

    def __init__(self, keys: Keys, renewals: Keys, ttl: float) -> None:
        """Asks the servers for it, as patiently as `keys` is. Raises StoreError."""
        self.ttl = ttl
        self._keys = keys
        self._renewals = renewals
        self._closed = threading.Event()
        self._on_end: Callable[[], None] | None = None
        self._sent = time.monotonic()
        self.id = keys.grant(ttl)
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def watch(self, on_end: Callable[[], None] | None) -> None:
        """Have `on_end` called, in a thread of the lease's own, when it has ended."""
        self._on_end = on_end

    def anew(self) -> None:
        """Begin another lease in the place of one that has ended. Raises StoreError."""
        sent = time.monotonic()
        self.id = self._keys.grant(self.ttl)
        self._sent = sent

    def adopt(self, lease: str) -> None:
        """Renew that one from now on, which was granted to us, too."""
        self.id = lease

    @property
    def is_in_danger(self) -> bool:
        """Whether it may end before anybody here learns of it."""
        return time.monotonic() - self._sent > self.ttl * DANGER

    def stop(self) -> None:
        """Renew it no more; it ends by itself."""
        self._closed.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=self.ttl)

    def close(self) -> None:
        """End it, if the servers can be told; else it ends by itself."""
        self.stop()
        with contextlib.suppress(StoreError):
            self._renewals.revoke(self.id)

    def _renew(self) -> None:
        pause = self.ttl / _RENEWALS
        while not self._closed.wait(pause):
            sent = time.monotonic()
            pause = self.ttl / _RETRIES
            with contextlib.suppress(StoreError):
                if self._renewals.renew(self.id):
                    self._sent, pause = sent, self.ttl / _RENEWALS
                elif self._on_end is not None and not self._closed.is_set():
                    self._on_end()
