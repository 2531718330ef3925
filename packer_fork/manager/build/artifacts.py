"""Artifacts: what a complete build's files are, down to their bytes, and whether they still are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import msgspec
from msgspec import structs

from packer_fork import config, durable
from packer_fork.inputs.cache import UNOBSERVED, DigestCache, Opens
from packer_fork.malformed import MALFORMED
from packer_fork.model import Artifact, Build, BuildStatus, File, Result, Step

if TYPE_CHECKING:
    from packer_fork.packer.outcome import Outcome

_MANIFEST = "packer.post-processor.manifest"
_MAX_MANIFEST = 16 << 20


def with_manifests(begun: Outcome, manifests: Mapping[str, tuple[str, ...]]) -> Outcome:
    """`begun` with the paths, given by build, of the files that its manifest steps write."""

    def written(step: Step, name: str) -> Step:
        paths = manifests.get(name, ()) if step.type == "manifest" else ()
        return structs.replace(step, manifests=paths) if paths else step

    builds = {
        name: structs.replace(
            build, post_processors=tuple(written(step, name) for step in build.post_processors)
        )
        for name, build in begun.builds.items()
    }
    return structs.replace(begun, builds=builds)


def hashed(outcome: Outcome, opens: Opens = UNOBSERVED, *, has_just_ended: bool = False) -> Outcome:
    """`outcome` with size, digest and mtime of the files of its complete builds.

    If its run `has_just_ended`, the build itself removed the files that are gone.
    """
    known: dict[str, File] = {}

    def described(file: File) -> File:
        if file.path not in known:
            found = describe(file.path, opens)
            known[file.path] = found if has_just_ended else structs.replace(found, removed=False)
        return known[file.path]

    def with_files(build: Build) -> Build:
        artifacts = tuple(
            structs.replace(artifact, files=tuple(map(described, artifact.files)))
            for artifact in _with_manifest(build)
        )
        artifacts += tuple(_manifests(build))
        return structs.replace(build, artifacts=artifacts) if artifacts else build

    builds = {
        name: with_files(build) if build.status is BuildStatus.COMPLETE else build
        for name, build in outcome.builds.items()
    }
    return structs.replace(outcome, builds=builds)


def _with_manifest(build: Build) -> tuple[Artifact, ...]:
    """The artifacts of `build`, those marked that a manifest tells.

    Packer's manifest tells what the step before it in its chain made, or what the builder made
    if it is the first or nothing is known of that step (``post-processor/manifest``).
    """
    made = _Made(build)
    told, ends = [], []
    current = made.by_builder
    for number, step in enumerate(build.post_processors):
        current = current if step.is_chained else made.by_builder
        if step.type == "manifest":
            told.append(current)
        else:
            current = made.by_step(step.type) or current
        if not any(after.is_chained for after in build.post_processors[number + 1 :][:1]):
            ends.append(current)
    marked = told or ends or [made.by_builder]
    return tuple(
        structs.replace(artifact, in_manifest=artifact in marked) for artifact in build.artifacts
    )


def _manifests(build: Build) -> Iterator[Artifact]:
    """The manifests that tell `build`, each an artifact of its own."""
    paths = dict.fromkeys(path for step in build.post_processors for path in step.manifests)
    for path in paths:
        if build.name.rpartition(".")[2] in _told_in(path):
            file = File(path=path, is_shared=True)
            yield Artifact(builder_id=_MANIFEST, files=(file,))


def _told_in(path: str) -> set[str]:
    """The names of the builds in a manifest; none if it cannot be read."""
    try:
        data = durable.read(Path(path), _MAX_MANIFEST) or b""
        return {each["name"] for each in msgspec.json.decode(data, type=_Manifest)["builds"]}
    except (OSError, *MALFORMED):
        return set()


class _Named(TypedDict):
    name: str


class _Manifest(TypedDict):
    builds: list[_Named]


class _Made:
    """Which step made which artifact: a builder ID ends in the type of its post-processor."""

    def __init__(self, build: Build) -> None:
        types = {step.type for step in build.post_processors}
        self.by_builder: Artifact | None = None
        self._left: dict[str, list[Artifact]] = {}
        for artifact in build.artifacts:
            kind = artifact.builder_id.rpartition(".")[2]
            if kind in types:
                self._left.setdefault(kind, []).append(artifact)
            elif self.by_builder is None:
                self.by_builder = artifact

    def by_step(self, kind: str) -> Artifact | None:
        """What the next step of that type made; steps of one type make artifacts in order."""
        left = self._left.get(kind, [])
        return left.pop(0) if len(left) > 1 else next(iter(left), None)


def describe(path: str, opens: Opens = UNOBSERVED) -> File:
    """A file as it is now; without size and digest where it cannot be read."""
    try:
        with Path(path).open("rb") as stream:
            opens.opened(path)
            status = os.fstat(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        opens.closed(path)
    except FileNotFoundError:
        return File(path=path, removed=True)
    except OSError:
        return File(path=path)
    return File(path=path, size=status.st_size, sha256=digest, mtime_ns=status.st_mtime_ns)


Checks = Mapping[str, Sequence[str]]
"""By builder ID, a command that exits 0 if the artifact whose ID is added to it exists."""


def problems(result: Result, checks: Checks, cache: DigestCache, root: Path) -> Iterator[str]:
    """What keeps the artifacts of `result` from being what they were, a reason each.

    `root` is the project's folder; `cache` remembers the digest of a file whose mtime changed.
    """
    other = _other_checkout(result.directory, root)
    for file in dict.fromkeys(file for artifact in result.artifacts for file in artifact.files):
        if other and Path(file.path).is_relative_to(other):
            yield f"artifact {os.path.relpath(file.path, other)} is in another checkout, {other}"
        elif not file.removed and (text := _changed(file, cache)):
            yield text
    for artifact in result.artifacts:
        command = checks.get(artifact.builder_id)
        if command and artifact.id and not _exists(command, artifact.id):
            yield f"artifact {artifact.id} is not confirmed by {command[0]}"


def trusted(recorded: Iterable[Artifact], checks: Checks) -> Iterator[str]:
    """IDs that nothing here can look up, so that they are taken to exist."""
    for artifact in recorded:
        if artifact.id and not artifact.files and artifact.builder_id not in checks:
            yield f"artifact {artifact.id} is trusted to exist"


def _other_checkout(directory: str, root: Path) -> Path | None:
    """The project's folder in the checkout where a run was started in `directory`, if not here.

    The working directory is an input: it is at the same place in both checkouts.
    """
    there = Path(os.path.normpath(f"{directory}/{os.path.relpath(root, Path.cwd())}"))
    return there if directory and there != root else None


def _changed(file: File, cache: DigestCache) -> str:
    name = os.path.relpath(file.path) if Path(file.path).is_relative_to(Path.cwd()) else file.path
    try:
        status = Path(file.path).stat()
    except OSError:
        return f"artifact {name} is missing"
    if file.is_shared:
        return ""
    if file.size is None:
        return f"artifact {name} was never hashed"
    if (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns):
        return ""
    try:
        digest = cache.digest(file.path)
    except OSError:
        return f"artifact {name} cannot be read"
    return "" if digest == file.sha256 else f"artifact {name} differs from its recorded SHA-256"


def _exists(command: Sequence[str], artifact_id: str) -> bool:
    from packer_fork.manager.build import user_commands

    environ = config.without_secrets(os.environ)
    (done,) = user_commands.run([[*command, artifact_id]], directory=Path.cwd(), environ=environ)
    return not done.failure
