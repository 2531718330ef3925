"""The circuit breaker of each store, shared by all processes of this user on this machine."""

from __future__ import annotations

from packer_fork.manager.places import Place
from packer_fork.stores.breaker import Breaker


def of(place: Place) -> Breaker:
    """A local store has one of its own, all states on the same servers have one together."""
    if place.folder.is_shared:
        from packer_fork.manager import remote

        return remote.breaker(place.settings)
    return Breaker(place.store.location)
