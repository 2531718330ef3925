"""The artifacts of the newest complete results, for later steps of a pipeline."""

from __future__ import annotations

import os
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from packer_fork.codec.builds import decode_build
from packer_fork.errors import UsageError
from packer_fork.manager.build import results
from packer_fork.manager.state import history
from packer_fork.manager.state.history import RunFilter
from packer_fork.manager.state.show import require
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import Artifact, BuildStatus, Result


class BuiltArtifacts(Struct, frozen=True, kw_only=True):
    """The artifacts of the newest complete result of one build."""

    build: str
    type: str
    run: int
    ended: datetime | None
    artifacts: tuple[Artifact, ...]


def newest(ref: StateRef, build: str | None) -> list[BuiltArtifacts]:
    """Each build's newest complete result. Raises UsageError if `build` is not known."""
    state = ref.store.read()
    known = state.builds if state else {}
    raws = known.values() if build is None else [require(state, build)]
    decoded = map(decode_build, raws)
    return [
        _built(each.name, each.type, complete[-1])
        for each in decoded
        if (complete := results.complete(each))
    ]


def newest_on_branch(ref: StateRef, build: str | None, branch: str) -> list[BuiltArtifacts]:
    """Of each build the newest complete result of a run on that git branch.

    Raises UsageError if `build` is not known, DamagedError.
    """
    state = ref.store.read()
    if build is not None:
        require(state, build)
    known = {name: decode_build(raw) for name, raw in (state.builds if state else {}).items()}
    wanted = RunFilter(branch=branch, build=build or "", status=BuildStatus.COMPLETE)
    found: dict[str, BuiltArtifacts] = {}
    for entry in history.runs(ref.store, wanted if build else RunFilter(branch=branch)):
        for each in entry.builds:
            if build in (None, each.name) and each.name in known and each.name not in found:
                still = structs.replace(each, results=(), revoked=known[each.name].revoked)
                if complete := results.complete(still):
                    found[each.name] = _built(each.name, each.type, complete[-1])
        if len(found) == (1 if build else len(known)):
            break
    return [found[name] for name in known if name in found]


def latest(found: list[BuiltArtifacts]) -> list[BuiltArtifacts]:
    """Only the one of the latest run, if there is any."""
    return sorted(found, key=lambda each: each.run)[-1:]


def flat(built: list[BuiltArtifacts]) -> dict[str, str]:
    """Strings only, as Terraform's data source ``external`` requires.

    ``NAME``: the IDs of a build's artifacts, joined by commas; ``NAME.run``: the number of its
    run; for an ID such as ``eu-west-1:ami-1`` also ``NAME.eu-west-1``.
    """
    found: dict[str, str] = {}
    for each in built:
        ids = [artifact.id for artifact in each.artifacts if artifact.id]
        found[each.build] = ",".join(dict.fromkeys(ids))
        found[f"{each.build}.run"] = str(each.run)
        regional = (one.partition(":") for several in ids for one in several.split(","))
        found |= {f"{each.build}.{region}": ami for region, colon, ami in regional if colon and ami}
    return found


def _built(name: str, kind: str, result: Result) -> BuiltArtifacts:
    return BuiltArtifacts(
        build=name, type=kind, run=result.run, ended=result.ended, artifacts=result.artifacts
    )


def write_manifest(built: list[BuiltArtifacts], path: Path) -> None:
    """Write the file that Packer's manifest post-processor would have written.

    The format is that of https://developer.hashicorp.com/packer/docs/post-processors/manifest.
    Raises UsageError if it cannot be written.
    """
    run = str(uuid.uuid4())
    entries = [
        _entry(each, artifact, run)
        for each in built
        for artifact in each.artifacts
        if artifact.in_manifest
    ]
    document = {"builds": entries, "last_run_uuid": run}
    data = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(
            f"cannot write {path}: {error.strerror}", hint="check the folder and its permissions"
        ) from error


def _entry(built: BuiltArtifacts, artifact: Artifact, run: str) -> dict[str, Any]:
    """There Packer leaves out the name of the build block."""
    files = [{"name": os.path.relpath(f.path), "size": f.size or 0} for f in artifact.files]
    return {
        "name": built.build.rpartition(".")[2],
        "builder_type": built.type,
        "build_time": int(built.ended.timestamp()) if built.ended else 0,
        "files": files or None,
        "artifact_id": artifact.id,
        "packer_run_uuid": run,
        "custom_data": None,
    }
