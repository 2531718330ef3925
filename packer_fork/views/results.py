"""What a build command came to: a row for each build, over all of its runs."""

from __future__ import annotations

from msgspec import Struct

from packer_fork import events
from packer_fork.model import Artifact, Build, BuildStatus

UP_TO_DATE = "up to date"

_FINE = frozenset({UP_TO_DATE, BuildStatus.COMPLETE, BuildStatus.SKIPPED})
_AT_WORD = frozenset({BuildStatus.CANCELLED})


class Row(Struct, frozen=True, kw_only=True):
    """One build. ``status`` is a BuildStatus or `UP_TO_DATE`; ``seconds`` None if not known."""

    name: str
    status: str
    seconds: float | None = None
    artifacts: tuple[Artifact, ...] = ()
    error: str = ""

    @property
    def is_fine(self) -> bool:
        return self.status in _FINE

    @property
    def is_failed(self) -> bool:
        """Neither fine nor cancelled at somebody's word."""
        return not self.is_fine and self.status not in _AT_WORD

    @property
    def ids(self) -> tuple[str, ...]:
        """IDs of its artifacts, each once; only a build that is fine has some to rely on."""
        found = (artifact.id for artifact in self.artifacts if artifact.id and self.is_fine)
        return tuple(dict.fromkeys(found))


class Results:
    """A view that shows nothing, and remembers. A later run of a build replaces an earlier one."""

    def __init__(self) -> None:
        self.title = ""
        self.error = ""
        """What is wrong with the command or its last run as a whole."""
        self._rows: dict[str, Row] = {}

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.Planned():
                self._name(event.template, event.workspace)
                self._rows |= {build.name: _planned(build) for build in _up_to_date(event)}
            case events.RunStarted():
                self._name(event.template, event.workspace)
            case events.RunEnded():
                self._rows |= {build.name: _ran(build) for build in event.builds}
                self.error = event.run.error

    @property
    def rows(self) -> list[Row]:
        """Builds that are not fine come first."""
        return sorted(self._rows.values(), key=lambda row: row.is_fine)

    def _name(self, template: str, workspace: str) -> None:
        where = f" in workspace {workspace}" * (workspace != "default")
        self.title = f"{template}{where}"


def _up_to_date(event: events.Planned) -> list[events.BuildPlan]:
    return [build for build in event.builds if build.action is events.Action.UP_TO_DATE]


def _planned(build: events.BuildPlan) -> Row:
    artifacts = build.result.artifacts if build.result else ()
    return Row(name=build.name, status=UP_TO_DATE, artifacts=artifacts)


def _ran(build: Build) -> Row:
    return Row(
        name=build.name,
        status=build.status,
        seconds=_seconds(build),
        artifacts=build.artifacts,
        error=build.error,
    )


def _seconds(build: Build) -> float | None:
    if build.started is None or build.ended is None:
        return None
    return (build.ended - build.started).total_seconds()


def unique(name: str, taken: set[str]) -> str:
    """`name`, numbered if it is among `taken`, which it joins: names made safe may coincide."""
    number, chosen = 1, name
    while chosen in taken:
        number += 1
        chosen = f"{name}_{number}"
    taken.add(chosen)
    return chosen
