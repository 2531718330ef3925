"""The circuit breaker of each store, shared by all processes of this user on this machine."""

from __future__ import annotations

from packer_fork.manager.state_ref import StateRef as Place
from packer_fork.stores.breaker import Breaker


def of(place: Place) -> Breaker:
    """A local store has one of its own, all states on the same servers have one together."""
    if place.folder.is_shared:
        from packer_fork.manager import shared_store

        return shared_store.breaker(place.settings)
    return Breaker(place.store.location)
