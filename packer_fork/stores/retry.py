"""The retry policy and the circuit breaker around every client of a shared store.

A client hands `Retry.call` one attempt: a request to each of its servers, or to the one it has.
An attempt that fails with UnavailableError did nothing, so it is repeated in growing pauses.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from packer_fork.errors import StoreError

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 2.0
"""Longest pause before the second attempt, and before any later one, in seconds."""

T = TypeVar("T")


class UnavailableError(StoreError):
    """No server carried out the request. A later attempt may succeed."""


class AnsweredError(StoreError):
    """The store answered, but the answer cannot be used. The circuit breaker stays closed."""


class Breaker(Protocol):
    """A circuit breaker: asked before each attempt, informed of each result."""

    def before(self) -> None:
        """Raises StoreError if no attempt may be made now."""

    def succeeded(self) -> None: ...

    def failed(self, reason: str) -> None: ...


class Retry:
    """Retries attempts until the store has been unavailable for `timeout` seconds.

    While it stays so after that, every further call makes one attempt only. `breaker` guards
    each attempt. `warn` receives a sentence when the first retry begins. Safe for threads.
    """

    def __init__(
        self, timeout: float, breaker: Breaker | None, warn: Callable[[str], None] | None
    ) -> None:
        self._timeout = timeout
        self._breaker = breaker
        self._warn = warn
        self._deadline: float | None = None
        """Until when calls of all threads retry; None while the store is available."""

    def call(self, attempt: Callable[[], T]) -> T:
        """The result of `attempt`. Raises what its last call raised."""
        try:
            result = self._guarded(attempt)
        except UnavailableError as error:
            left = self._left(error)
            if left <= 0:
                raise
            result = _retried(lambda: self._guarded(attempt), error, left)
        self._deadline = None
        return result

    def _left(self, error: UnavailableError) -> float:
        """Seconds for which retries go on, beginning now if they have not begun."""
        now, deadline = time.monotonic(), self._deadline
        if deadline is not None:
            return deadline - now
        self._deadline = now + self._timeout
        if self._warn is not None and self._timeout > 0:
            self._warn(f"{error.message} It is tried for {self._timeout:.0f} s.")
        return self._timeout

    def _guarded(self, attempt: Callable[[], T]) -> T:
        """One attempt, if the circuit breaker admits it."""
        breaker = self._breaker
        if breaker is None:
            return attempt()
        try:
            breaker.before()
        except StoreError as error:
            raise UnavailableError(error.message, hint=error.hint) from error
        try:
            result = attempt()
        except AnsweredError:
            breaker.succeeded()
            raise
        except StoreError as error:
            breaker.failed(error.message)
            raise
        breaker.succeeded()
        return result


def _retried(attempt: Callable[[], T], failed: UnavailableError, timeout: float) -> T:
    """Repeat an attempt that `failed`, with exponential back-off and jitter.

    The first pause is random, up to FIRST_PAUSE; each later one is twice the one before.
    """
    is_ours = "stamina" not in sys.modules
    import random

    import stamina

    if is_ours:
        # Its default hooks log each pause to stderr.
        stamina.instrumentation.set_on_retry_hooks(())
    failures = [failed]

    def next_attempt() -> T:
        if failures:
            raise failures.pop()
        return attempt()

    caller = stamina.RetryingCaller(
        attempts=None,
        timeout=timeout,
        wait_initial=random.uniform(0, FIRST_PAUSE),  # noqa: S311 (spreads clients, no secret)
        wait_max=LONGEST_PAUSE,
        wait_jitter=0,
    )
    return caller(UnavailableError, next_attempt)
