"""Putting a state in place as a whole: where there is none, or where it is damaged.

Under the mutex only. Whatever was there is copied aside first, damaged or not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from packer_fork import durable
from packer_fork.codec.lines import seal
from packer_fork.codec.segment import encode_segment
from packer_fork.codec.witness import decode_witness
from packer_fork.errors import DamagedError, StateError
from packer_fork.model import Draft, Sealed, State
from packer_fork.stores.base import Committed
from packer_fork.stores.local import backups, history, salvage
from packer_fork.stores.local.journal import Journal
from packer_fork.stores.local.layout import Layout

Commit = Callable[[Draft], Committed]


def put(layout: Layout, journal: Journal, state: State) -> State:
    """`state` as it is stored; what was there is kept in a folder of the backups."""
    if layout.state.exists() or layout.acked.exists():
        backups.set_aside(layout, (layout.state, layout.acked))
    with contextlib.suppress(DamagedError):
        journal.read()  # raises NewerFormatError, over which nothing is put
    cuts, _ = salvage.mend(layout, state)
    placed = _beyond_witness(layout, structs.replace(state, cuts=cuts))
    journal.put(placed)
    return placed


def _beyond_witness(layout: Layout, state: State) -> State:
    """With a serial that was never acknowledged for anything else."""
    witness = decode_witness(durable.read(layout.acked, 4096) or b"")
    in_use = layout.state.exists() or layout.acked.exists()
    last = salvage.furthest(layout) if in_use and witness is None else None
    serial, digest = (last.serial, last.prev) if last else witness or (0, "")
    if serial < state.serial or digest == state.prev:
        return state
    return structs.replace(state, serial=serial + 1)


def repair(layout: Layout, journal: Journal, commit: Commit) -> Committed:
    """Raises StateError if nothing can be proven."""
    found = salvage.salvage(layout)
    if found.state is None or found.trail is None:
        raise StateError(
            f"Nothing that is left in {layout.folder} can be proven.",
            hint="Restore a backup: packer-fork state restore FILE.",
        )
    broken = [Path(problem.file) for problem in found.problems]
    broken += [Path(each.path) for each in backups.found(layout) if _is_damaged(Path(each.path))]
    broken += [
        layout.segment(name)
        for name in history.stored(layout)
        if history.prove(layout, name) is None and layout.segment(name) not in broken
    ]
    aside = backups.set_aside(layout, (layout.state, layout.acked, *broken))
    why = f"lost: {'; '.join(found.lost) or 'nothing'}; what was damaged is in {aside}"
    if not _is_sound(journal):
        sealed = _seal_tail(layout, found.trail)
        journal.put(_beyond_witness(layout, structs.replace(found.state, sealed=sealed)))
    committed = commit(Draft(operation="repair", why=why, cuts=found.state.cuts))
    for path in broken:
        path.unlink(missing_ok=True)
    return committed


def _is_sound(journal: Journal) -> bool:
    try:
        return journal.read() is not None
    except DamagedError:
        return False


def _is_damaged(backup: Path) -> bool:
    try:
        return bool(backups.read(backup).rest)
    except DamagedError:
        return True


def _seal_tail(layout: Layout, trail: salvage.Trail) -> Sealed | None:
    """Changes that were found outside of the history go into it."""
    if not trail.links:
        return trail.start.sealed
    lines = (seal(trail.start), *(link.line for link in trail.links))
    changes = tuple(link.change for link in trail.links)
    made = encode_segment(lines, changes, trail.start.serial, trail.start.sealed)
    return history.put(layout, made.data)


def discard_unused(layout: Layout, journal: Journal) -> tuple[str, ...]:
    """Raises DamagedError where it cannot be known what is used."""
    file = journal.read()
    used = {sealed.segment for sealed in history.chain(layout, file.state)} if file else set()
    pins = backups.pinned(layout)
    unused = [
        name
        for name in history.stored(layout)
        if name not in used and not history.is_pinned(name, pins)
    ]
    for name in unused:
        with contextlib.suppress(FileNotFoundError):
            layout.segment(name).unlink()
    return tuple(unused)
