"""What was built and still stands: artifacts for later steps of a pipeline."""

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
from packer_fork.manager import results, runs
from packer_fork.manager.places import Place
from packer_fork.manager.runs import Wanted
from packer_fork.manager.show import require
from packer_fork.model import Artifact, BuildStatus, Result


class Made(Struct, frozen=True, kw_only=True):
    """The newest complete run of one build, with its artifacts."""

    build: str
    type: str
    run: int
    ended: datetime | None
    artifacts: tuple[Artifact, ...]


def of_place(place: Place, build: str | None) -> list[Made]:
    """Each build's newest complete result. Raises UsageError if `build` is not known."""
    state = place.store.read()
    known = state.builds if state else {}
    raws = known.values() if build is None else [require(state, build)]
    decoded = map(decode_build, raws)
    return [
        _made(each.name, each.type, complete[-1])
        for each in decoded
        if (complete := results.complete(each))
    ]


def of_branch(place: Place, build: str | None, branch: str) -> list[Made]:
    """Of each build the newest complete result of a run on that git branch.

    Raises UsageError if `build` is not known, DamagedError.
    """
    state = place.store.read()
    if build is not None:
        require(state, build)
    known = {name: decode_build(raw) for name, raw in (state.builds if state else {}).items()}
    wanted = Wanted(branch=branch, build=build or "", status=BuildStatus.COMPLETE)
    found: dict[str, Made] = {}
    for entry in runs.runs(place.store, wanted if build else Wanted(branch=branch)):
        for each in entry.builds:
            if build in (None, each.name) and each.name in known and each.name not in found:
                still = structs.replace(each, results=(), revoked=known[each.name].revoked)
                if complete := results.complete(still):
                    found[each.name] = _made(each.name, each.type, complete[-1])
        if len(found) == (1 if build else len(known)):
            break
    return [found[name] for name in known if name in found]


def latest(made: list[Made]) -> list[Made]:
    """The one alone that was finished last, if there is any."""
    return sorted(made, key=lambda each: each.run)[-1:]


def flat(made: list[Made]) -> dict[str, str]:
    """Texts alone, as Terraform's data source ``external`` wants them.

    By build the IDs of its artifacts, with commas between them; ``NAME.run`` is the run; and
    for IDs such as ``eu-west-1:ami-1`` also ``NAME.eu-west-1``.
    """
    found: dict[str, str] = {}
    for each in made:
        ids = [artifact.id for artifact in each.artifacts if artifact.id]
        found[each.build] = ",".join(dict.fromkeys(ids))
        found[f"{each.build}.run"] = str(each.run)
        regional = (one.partition(":") for several in ids for one in several.split(","))
        found |= {f"{each.build}.{region}": ami for region, colon, ami in regional if colon and ami}
    return found


def _made(name: str, kind: str, result: Result) -> Made:
    return Made(
        build=name, type=kind, run=result.run, ended=result.ended, artifacts=result.artifacts
    )


def write_manifest(made: list[Made], path: Path) -> None:
    """As Packer's manifest post-processor would have written it, from the state.

    The format is that of https://developer.hashicorp.com/packer/docs/post-processors/manifest.
    Raises UsageError if it cannot be written.
    """
    run = str(uuid.uuid4())
    entries = [
        _entry(each, artifact, run)
        for each in made
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
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error


def _entry(made: Made, artifact: Artifact, run: str) -> dict[str, Any]:
    """Packer names a build there without the name of its build block."""
    files = [{"name": os.path.relpath(f.path), "size": f.size or 0} for f in artifact.files]
    return {
        "name": made.build.rpartition(".")[2],
        "builder_type": made.type,
        "build_time": int(made.ended.timestamp()) if made.ended else 0,
        "files": files or None,
        "artifact_id": artifact.id,
        "packer_run_uuid": run,
        "custom_data": None,
    }
