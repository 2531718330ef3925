"""What must be in a state, and who must have its lock: a simple model. Pure.

It knows no files, no segments and no lines, only what users are promised: builds with the
status that their run came to, runs that are numbered once, serials that only grow, and a
history that is complete back to the last prune.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from packer_fork.model import BuildStatus, RunStatus

NOTHING_SAID = 0


class Flight(NamedTuple):
    """What Packer says in a run: that each build begins, then that each ends, then the rest.

    The closing line follows, and for each build that did not fail its artifacts.
    """

    number: int
    names: tuple[str, ...]
    failing: frozenset[str]

    @property
    def length(self) -> int:
        return 2 * len(self.names) + 1 + len(self.names) - len(self.failing)

    def live(self, said: int) -> dict[str, BuildStatus]:
        """As it is on record after so many pieces of it."""
        return {name: self._live(name, said) for name in self.names}

    def _live(self, name: str, said: int) -> BuildStatus:
        at, count = self.names.index(name), len(self.names)
        if said <= at:
            return BuildStatus.PENDING
        if said <= count + at:
            return BuildStatus.CREATING
        if name in self.failing:
            return BuildStatus.FAILED
        well = [each for each in self.names if each not in self.failing]
        told = said > 2 * count + 1 + well.index(name)
        return BuildStatus.COMPLETE if told else BuildStatus.CREATING

    def concluded(self, said: int) -> dict[str, BuildStatus]:
        """What becomes of its builds when nothing more is said."""
        return {name: self._concluded(name, said) for name in self.names}

    def _concluded(self, name: str, said: int) -> BuildStatus:
        live = self._live(name, said)
        if live.is_final:
            return live
        ended = said > len(self.names) + self.names.index(name)
        return BuildStatus.UNVERIFIED if ended else BuildStatus.INTERRUPTED

    def result(self, said: int) -> RunStatus:
        if said <= 2 * len(self.names):
            return RunStatus.INTERRUPTED
        whole = all(each is BuildStatus.COMPLETE for each in self.concluded(said).values())
        return RunStatus.COMPLETE if whole else RunStatus.FAILED


class Known(NamedTuple):
    """What is known of a build."""

    status: BuildStatus
    run: int


class Picture(NamedTuple):
    """A state, as far as the model knows one. ``running``: how much each run had said."""

    builds: Mapping[str, Known]
    running: Mapping[int, int]
    last: tuple[int, RunStatus] | None


EMPTY = Picture({}, {}, None)


@dataclass
class Expected:
    """The state by now, and all that it was: ``kept`` are the serials in its history."""

    now: Picture = EMPTY
    serial: int = 0
    kept: list[int] = field(default_factory=list)
    pictures: dict[int, Picture] = field(default_factory=dict)
    flights: dict[int, Flight] = field(default_factory=dict)

    @property
    def is_unfinished(self) -> bool:
        is_running = self.now.last is not None and self.now.last[1] is RunStatus.RUNNING
        return is_running or bool(self.now.running)

    def started(self, flight: Flight) -> None:
        assert flight.number not in self.flights, "a run's number was given out again"
        self.flights[flight.number] = flight
        self._put(flight.live(NOTHING_SAID), flight.number)
        self._set_run(flight.number, RunStatus.RUNNING, said=NOTHING_SAID)

    def progressed(self, number: int, said: int) -> None:
        self._put(self.flights[number].live(said), number)
        self._set_run(number, RunStatus.RUNNING, said=said)

    def concluded(self, number: int, said: int) -> None:
        """The run ended, or its output did; what had its status already keeps it."""
        flight = self.flights[number]
        final = {n for n, k in self.now.builds.items() if k.status.is_final}
        came_to = flight.concluded(said)
        self._put({n: status for n, status in came_to.items() if n not in final}, number)
        self._set_run(number, flight.result(said))

    def concluded_unbegun(self) -> None:
        """A repair may leave a run whose builds had not begun."""
        if self.is_unfinished and not self.now.running:
            assert self.now.last
            self._set_run(self.now.last[0], RunStatus.INTERRUPTED)

    def interrupted(self, number: int) -> None:
        """Its lock was closed under it."""
        names = self.flights[number].names
        open_ = [name for name in names if not self.now.builds[name].status.is_final]
        self._put(dict.fromkeys(open_, BuildStatus.INTERRUPTED), number)
        self._set_run(number, RunStatus.INTERRUPTED)

    def replayed(self, number: int, said: int) -> None:
        """Late results: what was built since stands."""
        flight = self.flights[number]
        stands = {
            name: status
            for name, status in flight.concluded(said).items()
            if name not in self.now.builds or self.now.builds[name].run <= number
        }
        self._put(stands, number)
        if self.now.last and self.now.last[0] == number:
            self._set_run(number, flight.result(said))

    def replaced(self, then: Picture) -> None:
        """The builds of another state, none of them under way."""
        self.now = self.now._replace(builds=settled(then))

    def became(self, serial: int) -> None:
        """The whole of an earlier state."""
        self.now = self.pictures[serial]

    def _put(self, statuses: Mapping[str, BuildStatus], run: int) -> None:
        fresh = {name: Known(status, run) for name, status in statuses.items()}
        self.now = self.now._replace(builds={**self.now.builds, **fresh})

    def _set_run(self, number: int, status: RunStatus, *, said: int | None = None) -> None:
        others = {n: told for n, told in self.now.running.items() if n != number}
        running = others if said is None else {**others, number: said}
        last = self.now.last
        if last is None or number >= last[0]:
            last = (number, status)
        self.now = self.now._replace(running=running, last=last)


def settled(then: Picture) -> dict[str, Known]:
    return {
        name: known if known.status.is_final else Known(BuildStatus.INTERRUPTED, known.run)
        for name, known in then.builds.items()
    }


def dropped(before: list[int], after: list[int]) -> Iterator[int]:
    """Serials that were in a history and are not any more."""
    left = set(after)
    return (serial for serial in before if serial not in left)
