"""All metrics: name, help, labels and where each value comes from; printed or in a file.

Every sample also carries the labels of its state. The help texts stand in README.md as well.
"""

from __future__ import annotations

import os
import uuid
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from math import fsum
from pathlib import Path
from typing import Generic, TypeVar

from msgspec import Struct
from prometheus_client import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from packer_fork import durable
from packer_fork.errors import StoreError
from packer_fork.locks import Status
from packer_fork.manager.reports.collector import Collected, LockUse
from packer_fork.manager.reports.metrics import GatheredMetrics, Measures, Now, Standing
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import BuildStatus, RunStatus
from packer_fork.terminal import clean

STATE_LABELS = ("template", "workspace", "location")
"""Labels that every sample has: they name its state."""

PHASES = ("closed", "open", "half-open")
"""Of a circuit breaker."""

RESULTS = ("at_once", "waited", "taken_over")
"""How a build acquired its lock."""

WAITS = (0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)
"""Buckets in seconds for waiting: from another `plan` to the whole build of an image."""

DURATIONS = (
    *(1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0),
    *(1800.0, 2700.0, 3600.0, 7200.0, 14400.0, 28800.0),
)
"""Buckets in seconds for building, and for the lock that is held meanwhile."""

RUN_ENDS = tuple(each for each in RunStatus if each is not RunStatus.RUNNING)

MODE = 0o644
"""Of a textfile: node_exporter runs as another user, and the metrics hold no secret."""

T = TypeVar("T")
Name = TypeVar("Name", bound=str)

Labels = tuple[str, ...]
Values = Iterable[tuple[Labels, float]]
Samples = Iterable[tuple[Labels, Sequence[float]]]


class Row(Struct, Generic[T], frozen=True):
    """A metric: its own labels, and the samples that it takes from a state."""

    name: str
    help: str
    labels: Labels
    of: Callable[[Measures], Iterable[tuple[Labels, T]]]
    buckets: tuple[float, ...] = ()


def _now(samples: Callable[[Now], Values]) -> Callable[[Measures], Values]:
    return lambda measures: samples(measures.now) if measures.now else ()


def _standing(samples: Callable[[Standing], Values]) -> Callable[[Measures], Values]:
    return lambda measures: samples(measures.standing) if measures.standing else ()


def _history(
    samples: Callable[[Collected], Iterable[tuple[Labels, T]]],
) -> Callable[[Measures], Iterable[tuple[Labels, T]]]:
    return lambda measures: samples(measures.history) if measures.history else ()


def _one(value: T | None) -> Iterable[tuple[Labels, T]]:
    return [] if value is None else [((), value)]


def _which(found: str | None, known: Iterable[str]) -> Values:
    """1 for the current one, 0 for all others, so that a query finds each."""
    return [((each,), float(each == found)) for each in known] if found else []


def _all(known: Iterable[Name], counts: Mapping[Name, int]) -> Values:
    """Also those that are 0, so that the first one is seen as an increase."""
    return [((each,), counts.get(each, 0)) for each in known]


def _result(lock: LockUse) -> str:
    return "taken_over" if lock.is_taken_over else "waited" if lock.waited else "at_once"


def _builds(history: Collected) -> Values:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, source in history.sources.items():
        if source.builds:
            counts[clean(name)].update(point.status for point in source.builds)
    for name, ends in sorted(counts.items()):
        yield from (((name, s), ends[s]) for s in BuildStatus if s.is_final)


def _build_durations(history: Collected) -> Samples:
    found: defaultdict[Labels, list[float]] = defaultdict(list)
    for name, source in history.sources.items():
        for point in source.builds:
            if point.seconds is not None:
                found[clean(name), point.status].append(point.seconds)
    return sorted(found.items())


def _saved(history: Collected, value: Callable[[Sequence[float]], float]) -> Values:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for name, source in history.sources.items():
        found[clean(name)] += source.saved
    return [((name,), value(seconds)) for name, seconds in sorted(found.items())]


GAUGES: tuple[Row[float], ...] = (
    Row(
        "packer_fork_state_readable",
        "1 if the state and its history can be read, 0 if they are damaged, in a newer format, "
        "or unreachable. If 0, metrics of the state and its history are missing.",
        (),
        lambda measures: _one(measures.readable),
    ),
    Row(
        "packer_fork_lock_status",
        "1 for the status of the lock, 0 for all others.",
        ("status",),
        _now(lambda now: _which(now.status, Status)),
    ),
    Row(
        "packer_fork_lock_queue_length",
        "Processes that wait for the lock.",
        (),
        _now(lambda now: _one(now.queue)),
    ),
    Row(
        "packer_fork_breaker_phase",
        "1 for the phase of the store's circuit breaker, 0 for all others.",
        ("phase",),
        _now(lambda now: _which(now.breaker, PHASES)),
    ),
    Row(
        "packer_fork_breaker_failures",
        "Failures of the store in a row, as seen by this user on this machine.",
        (),
        _now(lambda now: _one(now.failures)),
    ),
    Row(
        "packer_fork_outbox_length",
        "Results that are spooled on this machine and not yet in the state.",
        (),
        lambda measures: _one(measures.outbox),
    ),
    Row(
        "packer_fork_state_size_bytes",
        "Size of the state as one JSON document, without its history.",
        (),
        _standing(lambda standing: _one(standing.size)),
    ),
    Row(
        "packer_fork_files_size_bytes",
        "Size of the files that this machine keeps for the state: state, history, backups, logs.",
        ("part",),
        lambda measures: [((part,), size) for part, size in measures.files.items()],
    ),
    Row(
        "packer_fork_history_segments",
        "Sealed segments of the history, including pruned ones.",
        (),
        _standing(lambda standing: _one(standing.segments)),
    ),
    Row(
        "packer_fork_state_builds",
        "Builds in the state, by the status of their last run.",
        ("status",),
        _standing(lambda standing: _all(BuildStatus, standing.builds)),
    ),
    Row(
        "packer_fork_state_load_seconds",
        "Time to read and verify the state just now.",
        (),
        _now(lambda now: _one(now.loading)),
    ),
    Row(
        "packer_fork_history_read_seconds",
        "Time to read the whole history for these metrics.",
        (),
        lambda measures: _one(measures.reading),
    ),
)

COUNTERS: tuple[Row[float], ...] = (
    Row(
        "packer_fork_lock_acquisitions",
        "Locks acquired by builds, including builds with nothing to do, by result: at once, after "
        "waiting, or taken over from a dead holder. Not counted: builds that gave up waiting or "
        "were refused, participants that joined a shared run, and other commands.",
        ("result",),
        _history(lambda history: _all(RESULTS, Counter(map(_result, history.locks)))),
    ),
    Row(
        "packer_fork_lock_abandoned",
        "Abandoned locks that any command took over.",
        (),
        _history(lambda history: _one(history.abandoned)),
    ),
    Row(
        "packer_fork_lock_force_unlocks",
        "Locks, and participants of shared runs, that were force-unlocked.",
        (),
        _history(lambda history: _one(history.force_unlocked)),
    ),
    Row(
        "packer_fork_commits_refused",
        "Locks whose holder had a commit refused after their release.",
        (),
        _history(lambda history: _one(history.refused)),
    ),
    Row(
        "packer_fork_commits",
        "Changes committed by runs, without the final change of each run. Not counted: changes "
        "of shared runs.",
        (),
        _history(lambda history: _one(history.commits)),
    ),
    Row(
        "packer_fork_commit_seconds",
        "Time until the changes in packer_fork_commits_total were durable.",
        (),
        _history(lambda history: _one(history.commit_seconds)),
    ),
    Row(
        "packer_fork_state_changes",
        "Changes ever made to the state: its serial. Pruning does not lower it.",
        (),
        _standing(lambda standing: _one(standing.serial)),
    ),
    Row(
        "packer_fork_runs",
        "Runs that have ended, by status.",
        ("status",),
        _history(lambda history: _all(RUN_ENDS, Counter(_run_ends(history)))),
    ),
    Row(
        "packer_fork_builds",
        "Builds that have ended, by source and status; also in runs that have not ended.",
        ("source", "status"),
        _history(_builds),
    ),
    Row(
        "packer_fork_skips",
        "Builds that were skipped as up to date, both in runs and by builds with nothing to do. "
        "Not counted: skips whose complete build is no longer known.",
        ("source",),
        _history(lambda history: _saved(history, len)),
    ),
    Row(
        "packer_fork_skips_saved_seconds",
        "Time that these skips saved: the duration of the complete build that each relies on.",
        ("source",),
        _history(lambda history: _saved(history, fsum)),
    ),
)

HISTOGRAMS: tuple[Row[Sequence[float]], ...] = (
    Row(
        "packer_fork_lock_wait_seconds",
        "Time that builds waited for the locks in packer_fork_lock_acquisitions_total.",
        (),
        _history(lambda history: _one([lock.waited for lock in history.locks])),
        WAITS,
    ),
    Row(
        "packer_fork_lock_hold_seconds",
        "Time that builds held these locks, up to the end of the last run, or until there was "
        "nothing to do. Not counted: killed runs and shared runs.",
        (),
        _history(
            lambda history: _one([lock.held for lock in history.locks if lock.held is not None])
        ),
        DURATIONS,
    ),
    Row(
        "packer_fork_run_duration_seconds",
        "Duration of runs that have ended, whatever their status.",
        (),
        _history(
            lambda history: _one([run.seconds for run in history.runs if run.seconds is not None])
        ),
        DURATIONS,
    ),
    Row(
        "packer_fork_build_duration_seconds",
        "Duration of builds that have started and ended, by source and status.",
        ("source", "status"),
        _history(_build_durations),
        DURATIONS,
    ),
)


def _run_ends(history: Collected) -> Iterator[RunStatus]:
    return (RunStatus(run.status) for run in history.runs)


def text(measured: Sequence[Measures]) -> bytes:
    """All metrics of these states in Prometheus's text format, UTF-8."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(measured))
    return generate_latest(registry)


class _Collector(Collector):
    """What a registry asks for its metrics."""

    def __init__(self, measured: Sequence[Measures]) -> None:
        self._measured = measured

    def collect(self) -> Iterator[Metric]:
        for row in GAUGES:
            gauge = GaugeMetricFamily(row.name, row.help, labels=(*STATE_LABELS, *row.labels))
            for labels, value in self._samples(row):
                gauge.add_metric(labels, value)
            yield gauge
        for row in COUNTERS:
            counter = CounterMetricFamily(row.name, row.help, labels=(*STATE_LABELS, *row.labels))
            for labels, value in self._samples(row):
                counter.add_metric(labels, value)
            yield counter
        for many in HISTOGRAMS:
            labels_of = (*STATE_LABELS, *many.labels)
            family = HistogramMetricFamily(many.name, many.help, labels=labels_of)
            for labels, values in self._samples(many):
                # A rounded sum could fall when a value is added to it.
                family.add_metric(labels, cumulative(values, many.buckets), fsum(values))
            yield family

    def _samples(self, row: Row[T]) -> Iterator[tuple[Labels, T]]:
        for each in self._measured:
            for labels, value in row.of(each):
                yield (each.template, each.workspace, each.location, *labels), value


def cumulative(values: Iterable[float], buckets: Iterable[float]) -> list[tuple[str, float]]:
    """For each bucket, and for infinity, how many of `values` are not above its bound."""
    ordered = sorted(values)
    counts = [(str(float(bound)), bisect_right(ordered, bound)) for bound in buckets]
    return [*counts, ("+Inf", len(ordered))]


def write(gathered: Sequence[GatheredMetrics], path: Path) -> None:
    """Replace the file in one step. If `path` is a folder, write one file per state there.

    Raises StoreError.
    """
    try:
        if path.is_dir():
            for each in gathered:
                _replace(path / _name(each.place), text([each.measures]))
        else:
            _replace(path, text([each.measures for each in gathered]))
    except OSError as error:
        raise StoreError(
            f"The metrics cannot be written to {path}: {error.strerror}.",
            hint="Make the folder writable, or choose another path.",
        ) from error


def _name(place: StateRef) -> str:
    """Unique among all states of a machine."""
    digest = sha256(os.fsencode(place.store.location)).hexdigest()[:12]
    return f"packer-fork.{place.folder.template[:80]}.{place.folder.workspace}.{digest}.prom"


def _replace(path: Path, data: bytes) -> None:
    """A reader never sees half a file, nor one that it may not read."""
    hidden = path.with_name(f".packer-fork.{uuid.uuid4().hex}")
    try:
        durable.replace(hidden, data, durable=False)
        hidden.chmod(MODE)
        hidden.rename(path)
    finally:
        hidden.unlink(missing_ok=True)
