"""Everything that is measured of states, now and from their histories.

Times are seconds, sizes bytes.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from packer_fork.codec.builds import decode_once
from packer_fork.errors import PackerForkError
from packer_fork.locks import LockStatus, Status
from packer_fork.manager.reports.collector import Collected, Window, collect
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import BuildStatus, State
from packer_fork.terminal import clean

_PARTS = ("history", "backups", "logs")
"""Folders that are measured separately; all other files count as the state's."""


class Now(Struct, frozen=True, kw_only=True):
    """What holds at the moment only; None if it cannot be found out.

    ``loading``: seconds that reading the state took. ``failures``: of the store, in a row.
    """

    status: Status | None
    queue: int | None
    breaker: str
    failures: int
    loading: float | None


class Standing(Struct, frozen=True, kw_only=True):
    """The current state: ``size`` in bytes as one document, number of builds by status."""

    serial: int
    size: int
    segments: int
    builds: Mapping[BuildStatus, int]


class Measures(Struct, frozen=True, kw_only=True):
    """Everything about one state. A part is None if it could not be measured, or if it will no
    longer hold when the metrics are read.

    ``outbox``: number of spooled results; ``files``: bytes by purpose; ``history`` with the
    seconds that ``reading`` it took.
    """

    template: str
    workspace: str
    location: str
    readable: bool
    outbox: int | None
    files: Mapping[str, int]
    now: Now | None = None
    standing: Standing | None = None
    history: Collected | None = None
    reading: float | None = None


class GatheredMetrics(Struct, frozen=True):
    """The measures of one state, and the error that prevented some of them."""

    place: StateRef
    measures: Measures
    error: PackerForkError | None


def of(places: Iterable[StateRef]) -> list[GatheredMetrics]:
    """Each location once: Prometheus refuses duplicate samples."""
    return [gather(place) for place in {each.store.location: each for each in places}.values()]


def gather(place: StateRef, *, lasting: bool = False) -> GatheredMetrics:
    """Read the state and all of its history, and measure it.

    `lasting`: without what changes as soon as our own lock is released.
    """
    state: State | None = None
    history: Collected | None = None
    error: PackerForkError | None = None
    start = time.perf_counter()
    loading = reading = None
    try:
        state = place.store.read()
        loading = time.perf_counter() - start
        history = collect(place.store, state, Window())
        reading = time.perf_counter() - start - loading
    except PackerForkError as found:
        error = found
    measures = Measures(
        template=clean(state.template.path if state else place.folder.label),
        workspace=place.folder.workspace,
        location=clean(place.store.location),
        readable=error is None,
        outbox=_spooled(place.outbox or place.store.logs),
        files=_sizes(place.folder.folder),
        now=None if lasting else _now(place, loading),
        standing=_standing(state) if state else None,
        history=history,
        reading=reading,
    )
    return GatheredMetrics(place, measures, error)


def _now(place: StateRef, loading: float | None) -> Now:
    try:
        lock: LockStatus | None = place.store.status()
    except PackerForkError:
        lock = None
    circuit = place.circuit_breaker.state()
    return Now(
        status=lock.status if lock else None,
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


def _spooled(folder: Path) -> int | None:
    """The number of spooled results in `folder`; None if it cannot be read."""
    try:
        return sum(path.name.endswith(".late.json") for path in folder.iterdir())
    except FileNotFoundError:
        return 0
    except OSError:
        return None


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of the files below `folder` by purpose; empty if it cannot be read."""
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
    """0 for a file that was removed meanwhile."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0
