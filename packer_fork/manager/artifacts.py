"""Artifacts: what a complete build's files are, down to their bytes, and whether they still are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import structs

from packer_fork import config
from packer_fork.inputs.cache import UNOBSERVED, Opens
from packer_fork.manager import user_commands
from packer_fork.model import Artifact, Build, BuildStatus, File
from packer_fork.packer.outcome import Outcome


def hashed(outcome: Outcome, opens: Opens = UNOBSERVED) -> Outcome:
    """`outcome` with size, digest and mtime of the files of its complete builds."""
    seen: dict[str, File] = {}
    builds = {
        name: _with_files(build, seen, opens) if build.status is BuildStatus.COMPLETE else build
        for name, build in outcome.builds.items()
    }
    return structs.replace(outcome, builds=builds)


def _with_files(build: Build, seen: dict[str, File], opens: Opens) -> Build:
    artifacts = tuple(_with_digests(artifact, seen, opens) for artifact in build.artifacts)
    return build if artifacts == build.artifacts else structs.replace(build, artifacts=artifacts)


def _with_digests(artifact: Artifact, seen: dict[str, File], opens: Opens) -> Artifact:
    for file in artifact.files:
        if file.path not in seen:
            seen[file.path] = describe(file.path, opens)
    return structs.replace(artifact, files=tuple(seen[file.path] for file in artifact.files))


def describe(path: str, opens: Opens = UNOBSERVED) -> File:
    """A file as it is now; without size and digest where it cannot be read."""
    try:
        with Path(path).open("rb") as stream:
            opens.opened(path)
            status = os.fstat(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        opens.closed(path)
    except OSError:
        return File(path=path)
    return File(path=path, size=status.st_size, sha256=digest, mtime_ns=status.st_mtime_ns)


Checks = Mapping[str, Sequence[str]]
"""By builder ID, a command that exits 0 if the artifact whose ID is added to it exists."""


def problems(recorded: Iterable[Artifact], checks: Checks) -> Iterator[str]:
    """What keeps these artifacts from being what they were, a reason each."""
    artifacts = tuple(recorded)
    for file in dict.fromkeys(file for artifact in artifacts for file in artifact.files):
        if text := _changed(file):
            yield text
    for artifact in artifacts:
        command = checks.get(artifact.builder_id)
        if command and artifact.id and not _exists(command, artifact.id):
            yield f"artifact {artifact.id} is not confirmed by {command[0]}"


def trusted(recorded: Iterable[Artifact], checks: Checks) -> Iterator[str]:
    """IDs that nothing here can look up, so that they are taken to exist."""
    for artifact in recorded:
        if artifact.id and not artifact.files and artifact.builder_id not in checks:
            yield f"artifact {artifact.id} is trusted to exist"


def _changed(file: File) -> str:
    name = os.path.relpath(file.path) if Path(file.path).is_relative_to(Path.cwd()) else file.path
    try:
        status = Path(file.path).stat()
    except OSError:
        return f"artifact {name} is missing"
    if file.size is None:
        return f"artifact {name} was never hashed"
    if (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns):
        return ""
    return (
        ""
        if describe(file.path).sha256 == file.sha256
        else f"artifact {name} differs from its recorded SHA-256"
    )


def _exists(command: Sequence[str], artifact_id: str) -> bool:
    environ = config.without_secrets(os.environ)
    (done,) = user_commands.run([[*command, artifact_id]], directory=Path.cwd(), environ=environ)
    return not done.failure
