"""Observing a command as Packer is observed: real processes, a real watcher, no Packer."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from packer_fork.inputs.cache import DigestCache
from packer_fork.inputs.observation import Names, Observation, Past, Project, differences
from packer_fork.inputs.recording import Item, Recording, declarations
from packer_fork.inputs.watcher import Scope, Watcher, signatures

HOST = "here"
KEY = b"a key of the state"


class Lab:
    """A project in which one build is observed, run after run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.declared: tuple[str, ...] = ()
        """Names of the files that the template names for build b."""
        self.others: dict[str, tuple[str, ...]] = {}
        """And for more builds of the same Packer."""
        self.outputs: tuple[str, ...] = ()
        self.makers: dict[str, tuple[str, ...]] = {}
        """By build, names of its artifacts."""
        self.max_files = 1000
        self.runs: list[Observation] = []
        self.by_build: dict[str, Observation] = {}

    def write(self, name: str, text: str = "content\n", mode: int = 0o644) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def ignored(self, path: str) -> bool:
        names = path.removeprefix(str(self.root)).split("/")
        return ".git" in names or "__pycache__" in names or path.endswith(".ignored")

    def project(self, root: Path | None = None) -> Project:
        return Project(str(root or self.root), KEY, DigestCache(None), self.ignored)

    def run(self, *command: str, meanwhile: Callable[[], object] = lambda: None) -> Observation:
        """Observe `command`; `meanwhile` happens while it has begun and not ended."""

        def act() -> None:
            with subprocess.Popen(command, cwd=self.root) as process:
                meanwhile()
                assert process.wait() == 0

        return self.observe(act)

    def sh(self, script: str) -> Observation:
        return self.run("sh", "-euc", script)

    def observe(
        self, act: Callable[[], object], prepare: Callable[[Watcher], object] = lambda _: None
    ) -> Observation:
        """`prepare` is given the watcher before anything happens."""
        project = self.project()
        cache = DigestCache(None)
        for name in [*self.declared, *(n for names in self.others.values() for n in names)]:
            cache.digest(str(self.root / name))
        declared = declarations(cache.hashed, cache.digest)
        scope = Scope(root=str(self.root), ignored=self.ignored, max_files=self.max_files)
        watcher = Watcher(scope)
        prepare(watcher)
        act()
        trace = watcher.finish()
        recording = Recording(trace, declared, self.item(), project)
        if trace.failure:
            recording.judge_trees(trace, signatures(scope))
        self.by_build = recording.observations(["b", *self.others])
        self.runs.append(self.by_build["b"])
        return self.runs[-1]

    def item(self) -> Item:
        return Item(
            builds=("b", *self.others),
            named={
                build: frozenset(str(self.root / name) for name in names)
                for build, names in {"b": self.declared, **self.others}.items()
            },
            evaluated=frozenset(),
            said=lambda _: "",
            narrows=True,
            exempt=frozenset((str(self.root),)),
            is_output=lambda path: os.path.relpath(path, self.root) in self.outputs,
            makes=lambda build, path: path in self.made_by(build),
            artifacts=frozenset().union(*map(self.made_by, self.makers)),
            past=self.past(),
            mask=lambda name: name.replace("secret", "***"),
            host=HOST,
        )

    def made_by(self, build: str) -> frozenset[str]:
        return frozenset(str(self.root / name) for name in self.makers.get(build, ()))

    def past(self) -> Past:
        written = {name for run in self.runs for name in run.written}
        last = self.runs[-1].written if self.runs else ()
        products = {name for run in self.runs for name in run.products}
        unsettled = self.runs[-1].unsettled if self.runs else ()
        return Past(Names(products), Names(last), Names(products | written), Names(unsettled))

    def differences(self, root: Path | None = None, host: str = HOST) -> list[str]:
        """Between the last run and now."""
        return [*self._differences(root, host)]

    def _differences(self, root: Path | None, host: str) -> Iterator[str]:
        number = len(self.runs)
        return differences(
            self.runs[-1], number, self.project(root), lambda: self.past().made, host
        )
