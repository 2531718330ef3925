"""Looking for damage, and mending it."""

from __future__ import annotations

from collections.abc import Mapping

from packer_fork.events import Notify
from packer_fork.manager.changing import Command, changing
from packer_fork.manager.places import Place
from packer_fork.responses import Salvage


def look(place: Place) -> Salvage | None:
    """What can be saved and what would be lost; None if nothing is damaged."""
    return place.store.salvage() if place.store.verify().problems else None


def repair(place: Place, notify: Notify, *, environ: Mapping[str, str]) -> int:
    """Save what can be saved; the serial by then. Raises StateError if nothing can."""
    command = Command(operation="repair", words=("state", "repair"), environ=environ, mends=True)
    with changing(place, command, notify) as tenure:
        return tenure.repair().serial
