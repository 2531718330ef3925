"""Reading states: takes no lock, changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec import Raw, Struct

from packer_fork.codec.builds import decode_build, decode_once
from packer_fork.errors import EXIT_DONE, PackerForkError, UsageError, nearest
from packer_fork.manager.state import history
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import Build, State

_LISTED = 20
"""Builds that an error lists; a state may have very many."""


class Shown(Struct, frozen=True):
    """One state reference and what was read there: a state, nothing yet, or an error."""

    label: str
    workspace: str
    location: str
    state: State | None = None
    error: PackerForkError | None = None

    @property
    def exit_code(self) -> int:
        return self.error.exit_code if self.error else EXIT_DONE


def states(refs: Iterable[StateRef]) -> list[Shown]:
    return [_state(ref) for ref in refs]


def _state(ref: StateRef) -> Shown:
    where = (ref.folder.label, ref.folder.workspace, ref.store.location)
    try:
        return Shown(*where, state=ref.store.read())
    except PackerForkError as error:
        return Shown(*where, error=error)


def at(ref: StateRef, *, serial: int | None, run: int | None) -> Shown:
    """The state now, or at a point of its history. Raises UsageError if the history lacks it."""
    where = (ref.folder.label, ref.folder.workspace, ref.store.location)
    if serial is not None and run is not None:
        raise UsageError("--serial and --run exclude each other", hint="give one of them")
    if serial is not None:
        return Shown(*where, state=history.at(ref.store, serial))
    if run is not None:
        return Shown(*where, state=history.after_run(ref.store, run))
    return Shown(*where, state=ref.store.read())


def builds(state: State) -> Iterator[Build]:
    """Decoded lazily: there may be very many."""
    return map(decode_once, state.builds.values())


def build(shown: Shown, name: str) -> Build:
    """Raises UsageError if the state has no build `name`."""
    return decode_build(require(shown.state, name))


def require(state: State | None, name: str) -> Raw:
    """The document of build `name`. Raises UsageError if the state has none."""
    known = state.builds if state else {}
    if name not in known:
        listed = ", ".join(islice(known, _LISTED)) or "none"
        more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
        raise UsageError(
            f"there is no build {name!r} in this state",
            hint=nearest(name, known, f"it has: {listed}{more}"),
        )
    return known[name]
