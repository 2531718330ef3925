"""Going back to an earlier state, by a new change: nothing of the history is rewritten."""

from __future__ import annotations

from packer_fork.errors import UsageError
from packer_fork.manager import past, replacing
from packer_fork.manager.places import Place


def look(place: Place, *, to: int | None, run: int | None) -> replacing.Replacement:
    """What rolling back would change. Raises UsageError if there is no such point."""
    if (to is None) == (run is None):
        raise UsageError("Give one of --to SERIAL and --run N.", hint="`state history` lists both.")
    now = place.store.read()
    if now is None:
        raise UsageError("There is no state yet, so there is nothing to go back to.")
    then = past.at(place.store, to) if to is not None else past.after_run(place.store, run or 0)
    return replacing.look(now, then)
