"""Which source a machine takes next, of those that many build together. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from packer_fork.codec.builds import decode_build
from packer_fork.locks import Share
from packer_fork.manager import forecast
from packer_fork.model import State

UNKNOWN = float("inf")
"""Seconds of a source that was never built: it may be the longest of all."""


def longest_first(names: Iterable[str], state: State | None) -> tuple[str, ...]:
    """By how long they took before, so that none begins late that ends last."""
    known = state.builds if state else {}

    def seconds(name: str) -> float:
        usual = forecast.usual(decode_build(known[name])) if name in known else None
        return UNKNOWN if usual is None else usual

    return tuple(sorted(names, key=seconds, reverse=True))


def free(share: Share, dead: frozenset[int], member: int) -> tuple[str, ...]:
    """Sources that somebody wants, and that nobody else who lives has taken."""
    taken = others(share, dead, member)
    return tuple(name for name in share.wanted if name not in taken and name not in share.done)


def others(share: Share, dead: frozenset[int], member: int) -> tuple[str, ...]:
    """Sources that others, who live, are building."""
    return tuple(c.source for c in share.claims if c.participant not in dead | {member})
