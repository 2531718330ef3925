"""Trying again what no server did, in growing pauses that spread the clients."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import TypeVar

from packer_fork.errors import StoreError

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 2.0
"""Seconds between two attempts at the most: the first time, and ever."""

T = TypeVar("T")


class AwayError(StoreError):
    """No server did it now; in a while one may."""


def again(attempt: Callable[[], T], failed: AwayError, patience: float) -> T:
    """Go on with an attempt that `failed`, with exponential back-off and jitter.

    The first pause is drawn from all up to FIRST_PAUSE, each further one is twice the one
    before: so every pause may have any length up to its bound.
    """
    is_ours = "stamina" not in sys.modules
    import stamina

    if is_ours:
        # By itself it would log each pause, to where only we write.
        stamina.instrumentation.set_on_retry_hooks(())
    failures = [failed]

    def next_attempt() -> T:
        if failures:
            raise failures.pop()
        return attempt()

    retry = stamina.RetryingCaller(
        attempts=None,
        timeout=patience,
        wait_initial=random.uniform(0, FIRST_PAUSE),  # noqa: S311 (spreads clients, no secret)
        wait_max=LONGEST_PAUSE,
        wait_jitter=0,
    )
    return retry(AwayError, next_attempt)
