"""What there is to measure of a state, out of what is on record and what holds now."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from packer_fork import durable
from packer_fork.codec.builds import decode_once
from packer_fork.errors import PackerForkError, StoreError
from packer_fork.locks import LockStatus
from packer_fork.manager import circuits, measures_past
from packer_fork.manager.state_ref import StateRef as Place
from packer_fork.metrics import exposition
from packer_fork.metrics.measures import Measures, Now, Past, Standing
from packer_fork.model import State
from packer_fork.terminal import clean

MODE = 0o644
"""Of a textfile: node_exporter runs as a user of its own, and no secret is in it."""

_PARTS = ("history", "backups", "logs")
"""Folders that are measured by themselves; all other files are the state's."""


class Measured(Struct, frozen=True):
    """One place with its measures, and what kept some of them from being had."""

    place: Place
    measures: Measures
    error: PackerForkError | None


def of(places: Iterable[Place]) -> list[Measured]:
    """Each once: Prometheus refuses what it is told twice."""
    return [gather(place) for place in {each.store.location: each for each in places}.values()]


def gather(place: Place, *, lasting: bool = False) -> Measured:
    """What can be had of it. `lasting`: only what still holds when our own tenure has ended.

    Reads all of the history.
    """
    state: State | None = None
    past: Past | None = None
    error: PackerForkError | None = None
    start = time.perf_counter()
    loading: float | None = None
    try:
        state = place.store.read()
        loading = time.perf_counter() - start
        past = measures_past.of(place.store, state)
    except PackerForkError as found:
        error = found
    measures = Measures(
        template=clean(state.template.path if state else place.folder.label),
        workspace=place.folder.workspace,
        location=clean(place.store.location),
        readable=error is None,
        outbox=_kept_back(place.outbox or place.store.logs),
        files=_sizes(place.folder.folder),
        now=None if lasting else _now(place, loading),
        standing=_standing(state) if state else None,
        past=past,
    )
    return Measured(place, measures, error)


def text(measured: Sequence[Measured]) -> bytes:
    """All of them as Prometheus reads it."""
    return exposition.text([each.measures for each in measured])


def write(measured: Sequence[Measured], path: Path) -> None:
    """Into a file, replaced at once; where `path` is a folder, a file there for each state.

    Raises StoreError.
    """
    try:
        if path.is_dir():
            for each in measured:
                _replace(path / _name(each.place), text([each]))
        else:
            _replace(path, text(measured))
    except OSError as error:
        raise StoreError(
            f"The metrics cannot be written to {path}: {error.strerror}.",
            hint="Make the folder writable, or choose another path.",
        ) from error


def _name(place: Place) -> str:
    """Of all states of a machine no two have the same one."""
    digest = sha256(os.fsencode(place.store.location)).hexdigest()[:12]
    return f"packer-fork.{place.folder.template[:80]}.{place.folder.workspace}.{digest}.prom"


def _replace(path: Path, data: bytes) -> None:
    """Nobody ever sees half of it, nor a file that may not be read."""
    hidden = path.with_name(f".packer-fork.{uuid.uuid4().hex}")
    try:
        durable.replace(hidden, data, durable=False)
        hidden.chmod(MODE)
        hidden.rename(path)
    finally:
        hidden.unlink(missing_ok=True)


def _now(place: Place, loading: float | None) -> Now:
    try:
        lock: LockStatus | None = place.store.status()
    except PackerForkError:
        lock = None
    circuit = circuits.of(place).state()
    return Now(
        verdict=lock.verdict if lock else None,
        queue=len(lock.waiters) if lock else None,
        breaker=str(circuit.phase),
        failures=circuit.failures,
        loading=loading,
    )


def _standing(state: State) -> Standing:
    return Standing(
        serial=state.serial,
        size=len(msgspec.json.encode(state)),
        segments=state.sealed.segments if state.sealed else 0,
        builds=Counter(decode_once(raw).status for raw in state.builds.values()),
    )


def _kept_back(folder: Path) -> int | None:
    """How many results wait there; None if that cannot be seen."""
    try:
        return sum(path.name.endswith(".late.json") for path in folder.iterdir())
    except FileNotFoundError:
        return 0
    except OSError:
        return None


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of the files below `folder`, none if it may not be looked into."""
    found = dict.fromkeys(("state", *_PARTS), 0)
    try:
        os.scandir(folder).close()
    except FileNotFoundError:
        return found
    except OSError:
        return {}
    for parent, _, names in os.walk(folder):
        first = Path(parent).relative_to(folder).parts[:1]
        part = first[0] if first and first[0] in _PARTS else "state"
        found[part] += sum(_size(Path(parent) / name) for name in names)
    return found


def _size(path: Path) -> int:
    """A file that goes meanwhile counts for nothing."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0
