"""From what a watcher saw of one Packer process to an Observation of each of its builds."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from msgspec import Struct, structs

from packer_fork.inputs.attribution import attribute, mentioned
from packer_fork.inputs.cache import Known, Signature, signature
from packer_fork.inputs.observation import Names, Observation, Past, Project, glob_of
from packer_fork.inputs.watcher import (
    READ_AFTER,
    READ_BEFORE,
    Role,
    Trace,
    role_of,
    signature_of,
)

_MOST_READS = 200
"""Reads in one folder that are kept one by one; more become one digest of the folder."""

_MOST_READS_OF_ALL = 20_000
"""Reads that are kept in one document; more become one digest of the project."""

_MOST_TEXT = 1 << 20
"""Bytes of a file in which other files' names are looked for."""


class Item(Struct, frozen=True, kw_only=True):
    """One Packer process, or several that overlapped. ``builds``: all that they built, by name.

    ``named``: by build, the real paths of the files that the template names for it;
    ``evaluated``: of those that Packer opens for every build; ``said`` gives what the template
    says of a build;
    ``narrows``: whether a file that is named for some builds counts for these alone.
    ``exempt``: folders whose listing says nothing, as Packer itself lists them.
    ``is_output``: whether the template says that builds make this path; ``makes``: by name, which
    build does; ``artifacts``: absolute paths of files that they list as theirs. ``mask`` hides
    secrets in a name; such names are not kept.
    """

    builds: tuple[str, ...]
    named: Mapping[str, frozenset[str]]
    evaluated: frozenset[str]
    said: Callable[[str], str]
    narrows: bool
    exempt: frozenset[str]
    is_output: Callable[[str], bool]
    makes: Callable[[str, str], bool]
    artifacts: frozenset[str]
    past: Past
    mask: Callable[[str], str]
    host: str


class Declarations(Struct):
    """Files that the template names: as they were hashed, and as Packer's start found them."""

    hashed: Mapping[str, Known]
    started: Mapping[str, Signature | None]
    stale: frozenset[str]
    """Those that were changed between the two."""


def declarations(hashed: Mapping[str, Known], digest: Callable[[str], str]) -> Declarations:
    """To be called right before Packer starts. `digest` hashes a file again."""
    started = {path: _followed(path) for path in hashed}
    moved = (path for path, known in hashed.items() if started[path] != known[:4])
    return Declarations(
        hashed, started, frozenset(path for path in moved if not _is_same(path, hashed, digest))
    )


def _is_same(path: str, hashed: Mapping[str, Known], digest: Callable[[str], str]) -> bool:
    try:
        return digest(path) == hashed[path][4]
    except OSError:
        return False


def _followed(path: str) -> Signature | None:
    try:
        status = os.stat(path)  # noqa: PTH116 (there may be 200,000)
    except OSError:
        return None
    return signature(status) if stat.S_ISREG(status.st_mode) else None


class Recording:
    """What became of each file of one item."""

    def __init__(
        self, trace: Trace | None, declared: Declarations, item: Item, project: Project
    ) -> None:
        """`trace` is None where nothing was observed."""
        self._item = item
        self._project = project
        self._trace = trace
        self._observed = trace if trace is not None and not trace.failure else None
        self._found: dict[Role, set[str]] = {each: set() for each in Role}
        self._after: dict[str, Signature | None] = {}
        self._made = set(self._observed.made if self._observed is not None else ())
        self._shared: frozenset[str] = frozenset()
        if self._observed is not None:
            self._judge_all(self._observed)
        self._judge_declared(declared)

    def judge_trees(self, trace: Trace, now: Mapping[str, Signature]) -> None:
        """Where whole trees count: what was changed, and what is new, by signatures alone."""
        known = _above(trace.before) | trace.folders
        for path, after in now.items():
            before = trace.before.get(path)
            if before is None:
                self._found[Role.PRODUCT].add(path)
                self._made |= _above((path,)) - known
            elif before != after:
                self._judge_blindly(path, Role.UNSETTLED)

    def _judge_all(self, trace: Trace) -> None:
        for path, flags in trace.accesses.items():
            after = self._after[path] = signature_of(path)
            found = role_of(
                trace.before.get(path),
                after,
                flags,
                is_output=self._is_output(path),
                was_written=self._name(path) in self._item.past.written,
            )
            self._found[found].add(path)

    def _judge_declared(self, declared: Declarations) -> None:
        self._found[Role.CHANGED] |= {os.path.realpath(path) for path in declared.stale}
        watched = self._observed.before if self._observed is not None else {}
        for path, before in declared.started.items():
            real = path if path in watched else os.path.realpath(path)
            if real not in watched and _followed(path) != before:
                self._judge_blindly(real, Role.CHANGED)

    def _judge_blindly(self, path: str, worst: Role) -> None:
        """A file whose signature changed without an event: at first it cannot be trusted.

        If the next run does so as well, it is the build's own doing.
        """
        self._found[Role.WRITTEN].add(path)
        if not self._is_output(path) and self._name(path) not in self._item.past.written:
            self._found[worst].add(path)

    def _is_output(self, path: str) -> bool:
        return self._item.is_output(path) or self._name(path) in self._item.past.products

    def _name(self, path: str) -> str:
        return self._project.name(path)

    def _names(self, *statuses: Role) -> set[str]:
        return {self._name(path) for each in statuses for path in self._found[each]}

    def observations(self, builds: Collection[str]) -> dict[str, Observation]:
        """By name, of those of the item's builds that are complete."""
        digests = self._digests()
        doubtful = self._names(Role.CHANGED, Role.UNSETTLED)
        whose = self._whose(digests.keys() | doubtful)
        for build, products in self._of_neighbours(whose).items():
            self._shared |= products
            whose[build] |= products
        common = self.unfinished("")
        same: dict[frozenset[str], Observation] = {}
        for build in builds:
            if whose[build] not in same:
                same[whose[build]] = self._observation(whose[build], digests, common)
        return {build: same[whose[build]] for build in builds}

    def unfinished(self, reason: str) -> Observation:
        """Of builds that are not complete: only what was written is of any use."""
        return Observation(
            status="incomplete",
            reason=reason,
            host=self._item.host,
            products=self._products(),
            written=self._written(),
        )

    def _observation(
        self, mine: frozenset[str], digests: Mapping[str, str], common: Observation
    ) -> Observation:
        reads = {name: digests[name] for name in mine & digests.keys()}
        found = reads | self._links(reads)
        own = Names((*common.products, *common.written))
        kept, globs = self._collapsed({n: d for n, d in found.items() if self._is_shown(n)})
        globs |= {self._shown_above(name) for name in found if not self._is_shown(name)}
        trace = self._trace
        return structs.replace(
            common,
            status="off" if trace is None else "complete",
            reason=trace.failure if trace is not None else "",
            reads=dict(sorted(kept.items())),
            listings=self._listings(reads, own),
            folders={each: self._tree(each, own) for each in sorted(globs | self._trees())},
            unsettled=self._masked(mine & (self._names(Role.UNSETTLED) | self._shared)),
            changed=self._masked(mine & self._names(Role.CHANGED)),
        )

    def _digests(self) -> dict[str, str]:
        """By name, of everything that was read; what changes meanwhile is found so, too."""
        found = {}
        for path in sorted(self._found[Role.READ]):
            digest = self._project.content(path)
            if signature_of(path) == self._after[path]:
                found[self._name(path)] = digest
            else:
                self._found[Role.CHANGED].add(path)
        return found

    def _whose(self, names: Collection[str]) -> dict[str, frozenset[str]]:
        item = self._item
        if not item.narrows:
            return dict.fromkeys(item.builds, frozenset(names))
        named = {
            build: frozenset(self._name(path) for path in paths)
            for build, paths in item.named.items()
        }
        evaluated = frozenset(map(self._name, item.evaluated))
        return attribute(names, item.builds, named, evaluated, item.said, self._text)

    def _of_neighbours(self, whose: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
        """By build, artifacts of other builds of this item that it may have read half written.

        Nothing tells who read them, and in folders that the run made not even whether. What
        the run before left unsettled is none, so that no build is made over and over.
        """
        item = self._item
        made = self._found[Role.PRODUCT] | self._born_artifacts() if len(item.builds) > 1 else ()
        makers = {path: {b for b in item.builds if item.makes(b, path)} for path in made}
        found = {}
        for build in item.builds:
            products = {
                self._name(path): self._is_read(path)
                for path, by in makers.items()
                if by and build not in by and self._may_be_read(path)
            }
            named = frozenset(map(self._name, item.named.get(build, ())))
            own = (named | whose[build]) - products.keys()
            said = item.said(build) if products else ""
            found[build] = mentioned(products, own, said, self._text)
        return found

    def _born_artifacts(self) -> set[str]:
        """Those that were not there before: in folders that were not, either, nothing is seen."""
        watched = self._observed
        return {a for a in self._item.artifacts if watched is not None and a not in watched.before}

    def _may_be_read(self, path: str) -> bool:
        if self._name(path) in self._item.past.unsettled:
            return False
        return self._is_read(path) or any(path.startswith(f"{each}/") for each in self._made)

    def _is_read(self, path: str) -> bool:
        flags = self._observed.accesses.get(path, 0) if self._observed is not None else 0
        return bool(flags & (READ_BEFORE | READ_AFTER))

    def _text(self, name: str) -> str:
        """What is in a file, as far as it is text; empty if it cannot be read."""
        return self._project.text(self._project.path(name), _MOST_TEXT)

    def _products(self) -> tuple[str, ...]:
        """Files that were born, and those of earlier runs that are still there."""
        folders = {f"{self._name(path)}/" for path in self._made if Path(path).is_dir()}
        covered = Names(folders)
        files = self._names(Role.PRODUCT)
        kept = {name for name in self._item.past.products if self._is_there(name)}
        names = folders | {name for name in files | kept if name not in covered}
        return tuple(sorted(filter(self._is_shown, names)))

    def _is_there(self, name: str) -> bool:
        return os.path.lexists(self._project.path(name))

    def _written(self) -> tuple[str, ...]:
        names = self._names(Role.WRITTEN, Role.UNSETTLED)
        return tuple(sorted(filter(self._is_shown, names)))

    def _masked(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(map(self._item.mask, names)))

    def _is_shown(self, name: str) -> bool:
        return self._item.mask(name) == name

    def _shown_above(self, name: str) -> str:
        """What stands for a file whose own name has a secret in it."""
        folder = name.rpartition("/")[0] or "."
        if self._is_shown(folder):
            return glob_of(folder, deep=False)
        while not self._is_shown(folder):
            folder = folder.rpartition("/")[0] or "."
        return glob_of(folder, deep=True)

    def _links(self, reads: Iterable[str]) -> dict[str, str]:
        """Symbolic links that lead to what was read: they might lead elsewhere one day."""
        if self._observed is None or not self._observed.links:
            return {}
        targets = {self._project.path(name) for name in reads}
        above = _above(targets)
        return {
            self._name(link): self._project.content(link)
            for link in self._observed.links
            if link not in self._observed.accesses and os.path.realpath(link) in targets | above
        }

    def _listings(self, reads: Iterable[str], own: Names) -> dict[str, str]:
        """Folders that were listed, if any file below was read, too."""
        if self._observed is None:
            return {}
        above = _above(self._project.path(name) for name in reads)
        listed = self._observed.listed & above - self._item.exempt
        shown = (each for each in sorted(listed) if self._is_shown(self._name(each)))
        return {self._name(each): self._project.listing(each, own) for each in shown}

    def _collapsed(self, reads: dict[str, str]) -> tuple[dict[str, str], set[str]]:
        """What stays of very many reads, and the folders that stand for the others."""
        if len(reads) > _MOST_READS_OF_ALL:
            return {name: each for name, each in reads.items() if name.startswith("/")}, {"**"}
        by_folder: dict[str, list[str]] = {}
        for name in reads:
            by_folder.setdefault(name.rpartition("/")[0] or ".", []).append(name)
        full = {folder: names for folder, names in by_folder.items() if len(names) > _MOST_READS}
        gone = {name for names in full.values() for name in names}
        left = {name: digest for name, digest in reads.items() if name not in gone}
        return left, {glob_of(folder, deep=False) for folder in full}

    def _trees(self) -> set[str]:
        """Whole trees, where it was not seen what was read of them."""
        if self._trace is None:
            return set()
        unreadable = {glob_of(self._name(each), deep=True) for each in self._trace.unreadable}
        return unreadable | ({"**"} if self._trace.failure else set())

    def _tree(self, glob: str, own: Names) -> str:
        return self._project.folder(glob, own | self._item.past.made)


def _above(paths: Iterable[str]) -> set[str]:
    """Every folder that one of the absolute `paths` lies below."""
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found
