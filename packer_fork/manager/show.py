"""Reading states, for whoever wants to look: no lock, no change."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from packer_fork import codec
from packer_fork.errors import EXIT_DONE, PackerForkError, UsageError
from packer_fork.manager.places import Place
from packer_fork.model import Build, State


class Shown(Struct, frozen=True):
    """One place with what was found there: a state, nothing yet, or an error."""

    label: str
    workspace: str
    location: str
    state: State | None = None
    error: PackerForkError | None = None

    @property
    def exit_code(self) -> int:
        return self.error.exit_code if self.error else EXIT_DONE


def states(places: Iterable[Place]) -> list[Shown]:
    return [_state(place) for place in places]


def _state(place: Place) -> Shown:
    where = (place.folder.label, place.folder.workspace, place.store.location)
    try:
        return Shown(*where, state=place.store.read())
    except PackerForkError as error:
        return Shown(*where, error=error)


def builds(state: State) -> list[Build]:
    return [codec.decode_build(raw) for raw in state.builds.values()]


def build(place: Place, name: str) -> Build:
    """Raises UsageError if the state knows no such build."""
    state = place.store.read()
    known = state.builds if state else {}
    if name not in known:
        raise UsageError(
            f"There is no build {name!r} in this state.",
            hint=f"It knows: {', '.join(known) or 'none'}",
        )
    return codec.decode_build(known[name])
