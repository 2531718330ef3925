"""A state on its way: out as one document, in again, or over to another store."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import structs

from packer_fork import durable
from packer_fork.changes import root_of
from packer_fork.codec.builds import decode_once
from packer_fork.codec.statefile import MAX_SIZE
from packer_fork.errors import NewerFormatError, StateError, UsageError
from packer_fork.events import Notice, Notify
from packer_fork.malformed import MALFORMED
from packer_fork.manager import backup, given, locate, past, places, replacing
from packer_fork.manager.changing import Command, changing
from packer_fork.manager.places import Place
from packer_fork.model import FORMAT_VERSION, Draft, State
from packer_fork.responses import Backup

_KEY = re.compile(r"(?:[0-9a-f]{64})?")


def pull(place: Place) -> State:
    """The state as one document, its key included. Raises StateError if there is none."""
    state = place.store.read()
    if state is None:
        raise StateError(f"There is no state of {place.folder.label} yet.")
    return state


def read(path: Path) -> State:
    """What `pull` printed, perhaps edited. Raises UsageError or NewerFormatError."""
    data = given.read(path, MAX_SIZE)
    try:
        # a line of ours must have no line breaks, which an indented document has
        state = msgspec.json.decode(msgspec.json.format(data, indent=-1), type=State)
        for name, raw in state.builds.items():
            if decode_once(raw).name != name:
                raise UsageError(f"{path}: builds.{name}: its name is {decode_once(raw).name!r}.")
    except MALFORMED as error:
        _refuse_newer(path, data)
        hint = "Give a file that `packer-fork state pull` wrote."
        raise UsageError(f"{path} is no state: {error}.", hint=hint) from error
    if state.version > FORMAT_VERSION:
        raise NewerFormatError(str(path), state.version, FORMAT_VERSION)
    if not _KEY.fullmatch(state.key):
        raise UsageError(f"{path}: key: it is not of 64 hex digits.", hint="Leave it as it was.")
    return state


def _refuse_newer(path: Path, data: bytes) -> None:
    try:
        version = msgspec.json.decode(data).get("version", 0)
    except (*MALFORMED, AttributeError):
        return
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerFormatError(str(path), version, FORMAT_VERSION)


def look(place: Place, document: State, *, force: bool) -> replacing.Replacement | None:
    """What pushing would change; None where there is no state yet. Raises StateError."""
    now = place.store.read()
    if now is None:
        return None
    if not force and now.lineage != document.lineage:
        raise StateError(
            f"The document is of another state (lineage {document.lineage}, not {now.lineage}).",
            hint="If its builds shall take the place of these: --force.",
        )
    if not force and document.serial < now.serial:
        raise StateError(
            f"The document is of serial {document.serial}, the state is at {now.serial} by now.",
            hint="Pull again and repeat what was changed, or overwrite it: --force.",
        )
    return replacing.look(now, document)


def push(
    place: Place,
    document: State,
    found: replacing.Replacement | None,
    notify: Notify,
    *,
    environ: Mapping[str, str],
) -> Backup | None:
    """Do what was looked at; where what was replaced is, if there was a state.

    Raises StateError if the state moved on meanwhile.
    """
    if found is not None:
        why = f"a document of serial {document.serial}, lineage {document.lineage}"
        return replacing.replace(place, found, notify, operation="push", why=why, environ=environ)
    key = document.key or secrets.token_hex(32)
    whole = structs.replace(
        document,
        version=FORMAT_VERSION,
        key=key,
        sealed=None,
        cuts={},
        prev=root_of(document.lineage),
    )
    backup.put(place, whole, iter(()), notify, operation="push", environ=environ)
    return None


def target_of(
    source: Place, template: str | None, to: str, environ: Mapping[str, str], notify: Notify
) -> Place:
    """The place of the same template and workspace in the store `to`. Raises UsageError.

    Without a `template` it is the one that the state itself names.
    """
    state = source.store.read()
    identity = state.template.path if state else source.folder.label
    if template is not None:
        identity = locate.template(template).identity
    target = places.moved(source, identity, to, environ, notify)
    if target.store.location == source.store.location:
        raise UsageError(f"The state is in {source.store.location} already.")
    return target


def migrate(source: Place, target: Place, notify: Notify, *, environ: Mapping[str, str]) -> State:
    """Bring state, history and logs to another store; goes on where an earlier try stopped.

    The source stays as it is, with a change that tells of it. Raises StateError if the
    target has a state that is not this one's past.
    """
    words = ("state", "migrate", "--to", target.store.location)
    command = Command(operation="migrate", words=words, environ=environ)
    with changing(source, command, notify) as tenure:
        _check_target(source, target)
        tenure.commit(Draft(operation="migrate", why=f"to {target.store.location}"))
        tenure.compact(fully=True)
        state = pull(source)
        copied = _copy(source, target, state, command, notify)
    text = f"{copied} segments of history and the state of serial {state.serial} were copied"
    notify(Notice(level="info", text=f"{text} and read back."))
    return state


def _check_target(source: Place, target: Place) -> None:
    there, here = target.store.read(), source.store.read()
    if here is None:
        raise StateError(f"There is no state of {source.folder.label} to migrate.")
    if there is None:
        return
    is_past = there.lineage == here.lineage and there.serial <= here.serial
    if is_past and past.at(source.store, there.serial).prev == there.prev:
        return
    raise StateError(
        f"{target.store.location} has a state of its own (serial {there.serial}).",
        hint="Nothing was copied. Choose another place, or move that one aside.",
    )


def _copy(source: Place, target: Place, state: State, command: Command, notify: Notify) -> int:
    there = target.store.read()
    mending = structs.replace(command, mends=True)
    with changing(target, mending, notify) as tenure:
        copied = 0
        for _, data in source.store.segments(state):
            tenure.put_segment(data)
            copied += 1
        if there is None or there.serial < state.serial:
            tenure.put(state)
        _copy_logs(source.store.logs, target.store.logs)
    found = target.store.verify()
    if found.problems or target.store.read() != state:
        raise StateError(f"The copy in {target.store.location} is not what was copied.")
    return copied


def _copy_logs(source: Path, target: Path) -> None:
    for path in source.iterdir():
        if path.suffix in {".log", ".json"} and not path.name.startswith("."):
            durable.replace(target / path.name, path.read_bytes(), durable=False)
