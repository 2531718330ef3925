"""Observing the Packers that this process runs, from right before their start to their end."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import structs

from packer_fork import host
from packer_fork.events import Notice, Notify
from packer_fork.inputs import inotify
from packer_fork.inputs.cache import Opens
from packer_fork.inputs.observation import UNFINISHED, Observation
from packer_fork.inputs.recording import Declarations, Item, Recording, declarations
from packer_fork.inputs.request import MAX_FILES
from packer_fork.inputs.watcher import Scope, TooManyFilesError, Trace, Watcher, signatures
from packer_fork.manager.build import observed
from packer_fork.manager.build.plan import Plan
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import Build, BuildStatus, State
from packer_fork.packer.mask import Mask
from packer_fork.packer.outcome import Outcome

_SYSTEM = frozenset(("/", "/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp"))  # noqa: S108
"""Folders that are never watched for a file that the template names in them."""

Documents = dict[str, msgspec.Raw]


class Observers:
    """Those of all Packers that run side by side in this process.

    They see each other's reads, so for as long as they overlap they count as one item. They
    see what this process opens, too, which counts for none of them.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._active: list[Observer] = []
        self._told: set[str] = set()
        self.opens = Opens(self._opened, self._closed)

    def began(self, observer: Observer) -> None:
        for other in self._active:
            other.neighbours |= observer.builds
            observer.neighbours |= other.builds
        self._active.append(observer)

    def ended(self, observer: Observer) -> None:
        if observer in self._active:
            self._active.remove(observer)

    def tell(self, why: str, then: str) -> None:
        """Once only."""
        if why and why not in self._told:
            self._told.add(why)
            text = f"Cannot tell which files Packer reads: {why}. {then}"
            self._notify(Notice(level="warning", text=text))

    def _opened(self, path: str) -> None:
        self._drain(path, inotify.OPEN)

    def _closed(self, path: str) -> None:
        self._drain(path, inotify.CLOSE_NOWRITE)

    def _drain(self, path: str, mask: int) -> None:
        if self._active:
            own = os.path.realpath(path), mask
            for observer in self._active:
                observer.drain(own)


class Observer:
    """Of one Packer process and its ``builds``."""

    def __init__(self, observers: Observers, place: StateRef, plan: Plan, state: State) -> None:
        """`state`: as it was before the run."""
        self.builds: frozenset[str] = frozenset()
        self.neighbours: frozenset[str] = frozenset()
        """Builds of Packers that ran side by side with this one."""
        self._observers = observers
        self._setting = place.settings.observe
        self._plan = plan
        self._declared = plan.declared
        self._project = observed.project_of(plan.declared, state.key, place.folder.root)
        self._past = observed.past(state, Path(self._project.root))
        self._watcher: Watcher | None = None
        self._declarations: Declarations | None = None

    @property
    def is_on(self) -> bool:
        return self._setting != "off" and sys.platform == "linux"

    @property
    def unfinished(self) -> str:
        """What names the observation while the run goes on; empty if there will be none."""
        return UNFINISHED.digest if self.is_on else ""

    @property
    def documents(self) -> Documents:
        """What a change has to bring along that uses `unfinished`."""
        return _documents([UNFINISHED]) if self.is_on else {}

    def begin(self, builds: frozenset[str]) -> None:
        """Right before Packer starts."""
        self.builds = builds
        self._declared.cache.opens = self._observers.opens
        digest = self._declared.cache.digest
        self._declarations = declarations(self._declared.files, digest)
        if self.is_on:
            try:
                self._watcher = Watcher(self._scope())
            except TooManyFilesError:
                self._observers.tell(
                    f"there are more than {MAX_FILES} files below {self._project.root}",
                    "Only those that the template names count.",
                )
        self._observers.began(self)

    def drain(self, own: tuple[str, int] | None = None) -> None:
        """To be called often while Packer runs."""
        if self._watcher is not None:
            self._watcher.drain(own)

    def end(self, outcome: Outcome, mask: Mask) -> tuple[Outcome, Documents]:
        """`outcome` with the observation of each build, and the documents that these name."""
        trace = self._watcher.finish() if self._watcher is not None else None
        self._observers.ended(self)
        found = self._recorded(outcome, trace, mask)
        builds = {
            name: structs.replace(build, observed=_digest(found[name]))
            for name, build in outcome.builds.items()
        }
        self._declared.cache.save()
        documents = _documents([each for each in found.values() if each is not None])
        return structs.replace(outcome, builds=builds), documents

    def abandon(self) -> None:
        """Packer did not start, or goes on without us."""
        self._observers.ended(self)
        if self._watcher is not None:
            self._watcher.close()

    def _recorded(
        self, outcome: Outcome, trace: Trace | None, mask: Mask
    ) -> Mapping[str, Observation | None]:
        recording = Recording(
            trace,
            self._declarations or Declarations({}, {}, frozenset()),
            self._item(outcome, mask),
            self._project,
        )
        if trace is not None and trace.failure:
            self._judge_trees(recording, trace)
        complete = [n for n, b in outcome.builds.items() if b.status is BuildStatus.COMPLETE]
        found: dict[str, Observation | None] = dict.fromkeys(outcome.builds)
        if self.is_on:
            found |= dict.fromkeys(
                outcome.builds, recording.unfinished("the build was not completed")
            )
        found |= recording.observations(complete) if complete else {}
        return found

    def _judge_trees(self, recording: Recording, trace: Trace) -> None:
        text = f"Every file below {self._project.root} counts for what is built now."
        self._observers.tell(trace.failure, text)
        try:
            recording.judge_trees(trace, signatures(self._scope()))
        except TooManyFilesError:
            return  # they have become so many that the tree's digest says so

    def _item(self, outcome: Outcome, mask: Mask) -> Item:
        builds = frozenset(outcome.builds) | self.builds | self.neighbours
        narrows = self._setting == "auto"
        artifacts = {name: _files_of(build) for name, build in outcome.builds.items()}

        def makes(name: str, path: str) -> bool:
            return path in artifacts.get(name, ()) or self._declared.makes(name, path)

        return Item(
            builds=tuple(sorted(builds)),
            named=self._named(builds),
            evaluated=self._declared.evaluated,
            said=self._declared.said if narrows else lambda _: "",
            narrows=narrows,
            exempt=self._declared.folders,
            is_output=self._declared.is_output,
            makes=makes,
            artifacts=frozenset().union(*artifacts.values()),
            past=self._past,
            mask=mask.text,
            host=host.this_actor().host,
        )

    def _named(self, builds: frozenset[str]) -> dict[str, frozenset[str]]:
        real = {path: os.path.realpath(path) for path in self._declared.files}
        every = builds | {build.name for build in self._plan.builds}
        return {
            name: frozenset(real[path] for path in self._declared.named(name)) for name in every
        }

    def _scope(self) -> Scope:
        """The project, and outside of it the folders of what the template names there."""
        root = self._project.root
        folders = {os.path.dirname(os.path.realpath(path)) for path in self._declared.files}  # noqa: PTH120
        outside = {each for each in folders if not f"{each}/".startswith(f"{root}/")}
        return Scope(
            root=root,
            ignored=self._project.is_ignored,
            folders=tuple(sorted(outside - _SYSTEM)),
            max_files=MAX_FILES,
        )


def _files_of(build: Build) -> frozenset[str]:
    """Real paths of the files that it lists as its artifacts."""
    files = (file for artifact in build.artifacts for file in artifact.files)
    return frozenset(os.path.realpath(file.path) for file in files)


def _digest(observation: Observation | None) -> str:
    """Empty for one that says nothing."""
    says = observation is not None and observation != Observation(
        status="off", host=observation.host
    )
    return observation.digest if observation is not None and says else ""


def _documents(observations: list[Observation]) -> Documents:
    return {each.digest: msgspec.Raw(each.document) for each in observations if _digest(each)}
