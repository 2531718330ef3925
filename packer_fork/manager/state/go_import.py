"""Import of ``.packer.d/builder-state.json``, the state of the Go program before packer-fork.

It proves nothing: no imported build is up to date, and the metadata of each says where it
comes from. Values of variables become digests keyed by the state's key.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from packer_fork.codec.builds import encode_build
from packer_fork.errors import UsageError
from packer_fork.events import Notice, Notify
from packer_fork.malformed import MALFORMED
from packer_fork.manager.state import user_file
from packer_fork.manager.state.operation import Operation, ensure_state, under_lock
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import (
    Artifact,
    Build,
    BuildStatus,
    File,
    Instance,
    PendingChange,
    Step,
    StepStatus,
)
from packer_fork.packer.mask import Mask

_MAX_FILE = 256 << 20
_UNDER_WAY = frozenset(s for s in BuildStatus if not s.is_final)


class _Template(Struct, frozen=True):
    path: str = ""
    hash: str = ""
    variables: dict[str, Any] | None = None
    files: Any = None


class _Step(Struct, frozen=True):
    type: str = ""
    name: str = ""
    status: str = ""
    started_at: Any = None
    completed_at: Any = None
    error: str = ""


class _Build(Struct, frozen=True):
    name: str = ""
    type: str = ""
    status: str = ""
    instance: dict[str, Any] | None = None
    provisioners: list[_Step] | None = None
    post_processors: list[_Step] | None = None
    artifacts: list[dict[str, Any]] | None = None
    error: str = ""
    started_at: Any = None
    completed_at: Any = None


class GoState(Struct, frozen=True):
    """The document; unknown fields are ignored."""

    version: int
    serial: int
    lineage: str
    builds: dict[str, _Build] | None = None
    template: _Template = _Template()
    builder_version: str = ""
    packer_version: str = ""


def read(path: Path) -> GoState:
    """Raises UsageError if `path` is not a state of the Go program."""
    data = user_file.read(path, _MAX_FILE)
    try:
        return msgspec.json.decode(data, type=GoState)
    except MALFORMED as error:
        hint = "give its .packer.d/builder-state.json"
        raise UsageError(f"{path} is not a state of the Go program: {error}", hint=hint) from error


def template_of(found: GoState, path: Path) -> str:
    """The path of its template from here. Raises UsageError if there is no such template."""
    folder = path.resolve().parent
    beside = folder.parent if folder.name == ".packer.d" else folder
    for candidate in (beside / found.template.path, Path(found.template.path)):
        with contextlib.suppress(OSError):  # its name may be too long to look for
            if found.template.path and candidate.exists():
                return os.path.relpath(candidate)
    raise UsageError(
        f"{path} belongs to the template {found.template.path!r}, which does not exist",
        hint=f"name the template: packer-fork state import TEMPLATE {path}",
    )


def import_builds(
    ref: StateRef, found: GoState, path: Path, notify: Notify, *, environ: Mapping[str, str]
) -> int:
    """Commit the builds that the state lacks; returns how many these are."""
    words = ("state", "import", path.name)
    operation = Operation(name="import", words=words, environ=environ)
    with under_lock(ref, operation, notify) as lock:
        state = ensure_state(ref, lock)
        lock.backup("import", keep=ref.settings.keep_backups)
        key, mask = bytes.fromhex(state.key), Mask(tuple(_words(found.template.variables or {})))
        builds = {
            name: encode_build(mask.document(_build(name, each, found, key)))
            for name, each in (found.builds or {}).items()
            if name not in state.builds
        }
        why = f"{path.name}: lineage {found.lineage}, serial {found.serial}"
        lock.commit(PendingChange(operation="import", why=why, builds=builds))
    for name in (found.builds or {}).keys() - builds.keys():
        text = f"{name} is in the state already and was not imported"
        notify(Notice(level="warning", text=text))
    return len(builds)


def _words(variables: dict[str, Any]) -> Iterator[str]:
    """Values that may occur in its texts; any of them may be a secret."""
    for value in variables.values():
        yield value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _build(name: str, old: _Build, found: GoState, key: bytes) -> Build:
    variables = found.template.variables or {}
    status = _status(old.status)
    return Build(
        name=name,
        type=old.type,
        status=status,
        started=_time(old.started_at),
        ended=_time(old.completed_at),
        provisioners=tuple(map(_step, old.provisioners or ())),
        post_processors=tuple(map(_step, old.post_processors or ())),
        instance=_instance(old.instance) if old.instance else None,
        artifacts=tuple(map(_artifact, old.artifacts or ())),
        error=old.error or _stopped(old.status, status),
        metadata={
            "imported": {
                "lineage": found.lineage,
                "serial": found.serial,
                "status": old.status,
                "builder_version": found.builder_version,
                "packer_version": found.packer_version,
                "template_hash": found.template.hash,
                "variables": {k: _digest(v, key) for k, v in sorted(variables.items())},
            }
        },
    )


def _status(text: str) -> BuildStatus:
    """A build that was running then is interrupted."""
    known = {status.value: status for status in BuildStatus}
    found = known.get(text.lower(), BuildStatus.UNVERIFIED)
    return BuildStatus.INTERRUPTED if found in _UNDER_WAY else found


def _stopped(text: str, status: BuildStatus) -> str:
    return f"was {text!r} when it was imported" if status is BuildStatus.INTERRUPTED else ""


def _step(old: _Step) -> Step:
    known = {status.value: status for status in StepStatus}
    return Step(
        type=old.type,
        name=old.name,
        status=known.get(old.status.lower(), StepStatus.UNKNOWN),
        started=_time(old.started_at),
        ended=_time(old.completed_at),
        error=old.error,
    )


_ADDRESSES = ("public_ip", "private_ip", "ip", "host", "address")


def _instance(old: dict[str, Any]) -> Instance:
    """Known keys become fields; the others stay in the metadata."""
    addresses = _texts(old.get(key) for key in _ADDRESSES)
    port = next((p for k in ("port", "ssh_port") if isinstance(p := old.get(k), int)), None)
    used = {*_ADDRESSES, "id", "provider", "region", "user", "ssh_user", "port", "ssh_port"}
    return Instance(
        id=_text(old, "id", "instance_id"),
        provider=_text(old, "provider", "builder_type"),
        region=_text(old, "region"),
        addresses=tuple(dict.fromkeys(addresses)),
        user=_text(old, "user", "ssh_user"),
        port=port,
        metadata={key: value for key, value in old.items() if key not in used},
    )


def _artifact(old: dict[str, Any]) -> Artifact:
    files = old.get("files")
    paths = _texts(files) if isinstance(files, list) else ()
    return Artifact(
        builder_id=_text(old, "builder_id", "builder", "type"),
        id=_text(old, "id", "artifact_id"),
        string=_text(old, "string", "description"),
        files=tuple(File(path=path) for path in paths),
    )


def _text(old: dict[str, Any], *keys: str) -> str:
    return next(iter(_texts(old.get(key) for key in keys)), "")


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str) and value)


def _time(value: Any) -> datetime | None:
    """Go's zero time, the year 1, means never."""
    try:
        found = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return None
    return found if found.year > 1 and found.tzinfo else None


def _digest(value: Any, key: bytes) -> str:
    """Keyed like inputs: only the key and the value together reproduce it."""
    return hmac.new(key, msgspec.json.encode(value), hashlib.sha256).hexdigest()
