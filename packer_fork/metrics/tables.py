"""All metrics that there are: name, help, labels, and where each value comes from.

Every sample carries the labels of its state besides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import fsum
from typing import Generic, TypeVar

from msgspec import Struct

from packer_fork.locks import Verdict
from packer_fork.metrics.measures import HOW_TAKEN, PHASES, Measures, Now, Past, Standing
from packer_fork.model import BuildStatus, RunStatus

WAITS = (0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)
"""Bounds in seconds for waiting: from a neighbour's `plan` to an image's whole build."""

DURATIONS = (
    *(1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0),
    *(1800.0, 2700.0, 3600.0, 7200.0, 14400.0, 28800.0),
)
"""Bounds in seconds for building, and for the lock that is held meanwhile."""

RUN_ENDS = tuple(each for each in RunStatus if each is not RunStatus.RUNNING)

T = TypeVar("T")
Name = TypeVar("Name", bound=str)

Labels = tuple[str, ...]
Single = Iterable[tuple[Labels, float]]
Many = Iterable[tuple[Labels, Sequence[float]]]


class Row(Struct, Generic[T], frozen=True):
    """A metric: its own labels, and the samples that a state has of it."""

    name: str
    help: str
    labels: Labels
    of: Callable[[Measures], Iterable[tuple[Labels, T]]]
    bounds: tuple[float, ...] = ()


def _now(samples: Callable[[Now], Single]) -> Callable[[Measures], Single]:
    return lambda measures: samples(measures.now) if measures.now else ()


def _standing(samples: Callable[[Standing], Single]) -> Callable[[Measures], Single]:
    return lambda measures: samples(measures.standing) if measures.standing else ()


def _past(
    samples: Callable[[Past], Iterable[tuple[Labels, T]]],
) -> Callable[[Measures], Iterable[tuple[Labels, T]]]:
    return lambda measures: samples(measures.past) if measures.past else ()


def _one(value: T | None) -> Iterable[tuple[Labels, T]]:
    return [] if value is None else [((), value)]


def _which(found: str | None, known: Iterable[str]) -> Single:
    """1 for the one that holds, 0 for the others, so that a query finds them all."""
    return [((each,), float(each == found)) for each in known] if found else []


def _all(known: Iterable[Name], counts: Mapping[Name, int]) -> Single:
    """Of each that there may be, so that the first one is seen as a rise."""
    return [((each,), counts.get(each, 0)) for each in known]


def _builds(past: Past) -> Single:
    for source in sorted({source for source, _ in past.builds}):
        for status in BuildStatus:
            if status.is_final:
                yield (source, status), past.builds.get((source, status), 0)


def _took(past: Past) -> Many:
    return sorted(past.took.items())


def _saved(past: Past, value: Callable[[Sequence[float]], float]) -> Single:
    return [((source,), value(times)) for source, times in sorted(past.saved.items())]


GAUGES: tuple[Row[float], ...] = (
    Row(
        "packer_fork_state_readable",
        "1 if the state and its history could be read, 0 if damaged, of a newer format or away.",
        (),
        lambda measures: _one(measures.readable),
    ),
    Row(
        "packer_fork_lock_verdict",
        "1 for what the lock is judged to be now, 0 for all else.",
        ("verdict",),
        _now(lambda now: _which(now.verdict, Verdict)),
    ),
    Row(
        "packer_fork_lock_queue_length",
        "How many wait for the lock now.",
        (),
        _now(lambda now: _one(now.queue)),
    ),
    Row(
        "packer_fork_breaker_phase",
        "1 for the phase that the circuit breaker of the store is in now, 0 for all else.",
        ("phase",),
        _now(lambda now: _which(now.breaker, PHASES)),
    ),
    Row(
        "packer_fork_breaker_failures",
        "How often in a row the store has failed, as this user on this machine knows.",
        (),
        _now(lambda now: _one(now.failures)),
    ),
    Row(
        "packer_fork_outbox_length",
        "Results that the state has not taken: the store was away, or the lock was lost.",
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
        "Size of the files that this machine keeps for the state, by what they are for.",
        ("part",),
        lambda measures: [((part,), size) for part, size in measures.files.items()],
    ),
    Row(
        "packer_fork_history_segments",
        "Segments of the history that were sealed; what was pruned counts.",
        (),
        _standing(lambda standing: _one(standing.segments)),
    ),
    Row(
        "packer_fork_state_builds",
        "Builds that the state has now, by the status of their last run.",
        ("status",),
        _standing(lambda standing: _all(BuildStatus, standing.builds)),
    ),
    Row(
        "packer_fork_state_load_seconds",
        "What it took just now to read the state and to prove it whole.",
        (),
        _now(lambda now: _one(now.loading)),
    ),
    Row(
        "packer_fork_history_read_seconds",
        "What it took just now to read all of the history.",
        (),
        _past(lambda past: _one(past.reading)),
    ),
)

COUNTERS: tuple[Row[float], ...] = (
    Row(
        "packer_fork_lock_acquisitions",
        "Locks that were had by a build that came to a run. Not on record, so not counted: "
        "who gave up waiting or was refused, builds with nothing to do, other commands.",
        ("result",),
        _past(lambda past: _all(HOW_TAKEN, past.taken)),
    ),
    Row(
        "packer_fork_lock_abandoned",
        "Abandoned locks that were found and taken over, by whatever command.",
        (),
        _past(lambda past: _one(past.abandoned)),
    ),
    Row(
        "packer_fork_lock_force_unlocks",
        "Locks, and members of shared ones, that somebody ended by force-unlock.",
        (),
        _past(lambda past: _one(past.unlocked)),
    ),
    Row(
        "packer_fork_commits_refused",
        "Tenures that had a commit refused, since their lock had been closed.",
        (),
        _past(lambda past: _one(past.refused)),
    ),
    Row(
        "packer_fork_commits",
        "Changes that runs committed, each but its last; not of runs that machines shared.",
        (),
        _past(lambda past: _one(past.commits)),
    ),
    Row(
        "packer_fork_commit_seconds",
        "What these took altogether, until they were durable.",
        (),
        _past(lambda past: _one(past.committing)),
    ),
    Row(
        "packer_fork_state_changes",
        "Changes that were ever made of the state: its serial, which no prune lowers.",
        (),
        _standing(lambda standing: _one(standing.serial)),
    ),
    Row(
        "packer_fork_runs",
        "Runs that have ended, by status.",
        ("status",),
        _past(lambda past: _all(RUN_ENDS, past.runs)),
    ),
    Row(
        "packer_fork_builds",
        "Builds of these runs that have ended, by source and status.",
        ("source", "status"),
        _past(_builds),
    ),
    Row(
        "packer_fork_skips",
        "Builds that a run left out as up to date. A build with nothing at all to do is no run, "
        "and leaves no record of what it skipped.",
        ("source",),
        _past(lambda past: _saved(past, len)),
    ),
    Row(
        "packer_fork_skips_saved_seconds",
        "What these skips saved: the time that the complete build took which each rests on.",
        ("source",),
        _past(lambda past: _saved(past, fsum)),
    ),
)

HISTOGRAMS: tuple[Row[Sequence[float]], ...] = (
    Row(
        "packer_fork_lock_wait_seconds",
        "How long those waited who had the lock and came to a run.",
        (),
        _past(lambda past: _one(past.waited)),
        WAITS,
    ),
    Row(
        "packer_fork_lock_hold_seconds",
        "How long they held it, up to the end of their last run; not of runs that were killed, "
        "or that many machines shared.",
        (),
        _past(lambda past: _one(past.held)),
        DURATIONS,
    ),
    Row(
        "packer_fork_run_duration_seconds",
        "How long runs took, however they ended.",
        (),
        _past(lambda past: _one(past.run_took)),
        DURATIONS,
    ),
    Row(
        "packer_fork_build_duration_seconds",
        "How long builds took that had begun, by source and how they ended.",
        ("source", "status"),
        _past(_took),
        DURATIONS,
    ),
)
