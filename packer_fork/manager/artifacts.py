"""Artifacts on disk: what a complete build's files are, down to their bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from msgspec import structs

from packer_fork.model import Artifact, Build, BuildStatus, File
from packer_fork.packer.outcome import Outcome


def hashed(outcome: Outcome) -> Outcome:
    """`outcome` with size, digest and mtime of the files of its complete builds."""
    seen: dict[str, File] = {}
    builds = {
        name: _with_files(build, seen) if build.status is BuildStatus.COMPLETE else build
        for name, build in outcome.builds.items()
    }
    return structs.replace(outcome, builds=builds)


def _with_files(build: Build, seen: dict[str, File]) -> Build:
    artifacts = tuple(_with_digests(artifact, seen) for artifact in build.artifacts)
    return build if artifacts == build.artifacts else structs.replace(build, artifacts=artifacts)


def _with_digests(artifact: Artifact, seen: dict[str, File]) -> Artifact:
    for file in artifact.files:
        if file.path not in seen:
            seen[file.path] = describe(file.path)
    return structs.replace(artifact, files=tuple(seen[file.path] for file in artifact.files))


def describe(path: str) -> File:
    """A file as it is now; without size and digest where it cannot be read."""
    try:
        with Path(path).open("rb") as stream:
            status = os.fstat(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return File(path=path)
    return File(path=path, size=status.st_size, sha256=digest, mtime_ns=status.st_mtime_ns)
