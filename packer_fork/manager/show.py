"""Reading states, for whoever wants to look: no lock, no change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec import Raw, Struct

from packer_fork.codec.builds import decode_build, decode_once
from packer_fork.errors import EXIT_DONE, PackerForkError, UsageError, nearest
from packer_fork.manager import past
from packer_fork.manager.places import Place
from packer_fork.model import Build, State

_LISTED = 20
"""Builds that an error names; a state may know very many."""


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


def at(place: Place, *, serial: int | None, run: int | None) -> Shown:
    """The state as it is, or was. Raises UsageError if that is not kept."""
    where = (place.folder.label, place.folder.workspace, place.store.location)
    if serial is not None and run is not None:
        raise UsageError("Give one of --serial N and --run N.")
    if serial is not None:
        return Shown(*where, state=past.at(place.store, serial))
    if run is not None:
        return Shown(*where, state=past.after_run(place.store, run))
    return Shown(*where, state=place.store.read())


def builds(state: State) -> Iterator[Build]:
    """Decoded one by one, as they are taken: there may be very many."""
    return map(decode_once, state.builds.values())


def build(shown: Shown, name: str) -> Build:
    """Raises UsageError if the state knows no such build."""
    return decode_build(require(shown.state, name))


def require(state: State | None, name: str) -> Raw:
    """The document of build `name`. Raises UsageError if the state knows no such build."""
    known = state.builds if state else {}
    if name not in known:
        listed = ", ".join(islice(known, _LISTED)) or "none"
        more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
        raise UsageError(
            f"There is no build {name!r} in this state.",
            hint=nearest(name, known, f"It knows: {listed}{more}"),
        )
    return known[name]
