"""Transactions whose answer may get lost: looked up before anything is sent again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from packer_fork.stores.shared.keys import Condition, Keys, UnsureError, Write

_ATTEMPTS = 5


def decide(
    keys: Keys,
    conditions: Sequence[Condition],
    writes: Sequence[Write],
    done: Callable[[], int],
) -> int:
    """The revision of what was written, 0 if a condition did not hold.

    `done` looks for what was written and returns its revision, or 0. One of the conditions
    must end to hold once it is written: then what is sent twice is done once, however late
    the first arrives. Raises UnsureError if no answer ever comes.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return keys.transact(conditions, writes) or (done() if attempt else 0)
        except UnsureError:
            if revision := done():
                return revision
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError
