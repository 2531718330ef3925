"""Moving a state: pull it as one document, push it, or migrate it to another store."""

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
from packer_fork.manager import state_ref
from packer_fork.manager.state import history, restore, user_file
from packer_fork.manager.state.operation import Operation, under_lock
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import FORMAT_VERSION, PendingChange, State
from packer_fork.responses import Backup

_KEY = re.compile(r"(?:[0-9a-f]{64})?")


def pull(ref: StateRef) -> State:
    """The state as one document, its key included. Raises StateError if there is none."""
    state = ref.store.read()
    if state is None:
        raise StateError(
            f"{ref.folder.label} has no state yet", hint="start with `packer-fork build TEMPLATE`"
        )
    return state


def read(path: Path) -> State:
    """A document that `pull` printed, perhaps edited. Raises UsageError or NewerFormatError."""
    data = user_file.read(path, MAX_SIZE)
    try:
        # a line of ours must have no line breaks, which an indented document has
        state = msgspec.json.decode(msgspec.json.format(data, indent=-1), type=State)
        for name, raw in state.builds.items():
            if decode_once(raw).name != name:
                raise UsageError(
                    f"{path}: builds.{name}: its name is {decode_once(raw).name!r}",
                    hint="give the key and the name the same value",
                )
    except MALFORMED as error:
        _refuse_newer(path, data)
        hint = "give a file that `packer-fork state pull` wrote"
        raise UsageError(f"{path} is not a state: {error}", hint=hint) from error
    if state.version > FORMAT_VERSION:
        raise NewerFormatError(str(path), state.version, FORMAT_VERSION)
    if not _KEY.fullmatch(state.key):
        raise UsageError(f"{path}: key: it is not 64 hex digits", hint="leave it as it was")
    return state


def _refuse_newer(path: Path, data: bytes) -> None:
    try:
        version = msgspec.json.decode(data).get("version", 0)
    except (*MALFORMED, AttributeError):
        return
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerFormatError(str(path), version, FORMAT_VERSION)


def compare(ref: StateRef, document: State, *, force: bool) -> restore.Replacement | None:
    """What pushing `document` would change; None where there is no state yet. Raises StateError."""
    now = ref.store.read()
    if now is None:
        return None
    if not force and now.lineage != document.lineage:
        raise StateError(
            f"the document is of another state (lineage {document.lineage}, not {now.lineage})",
            hint="to replace the builds all the same, add --force",
        )
    if not force and document.serial < now.serial:
        raise StateError(
            f"the document is of serial {document.serial}, the state has serial {now.serial}",
            hint="pull again and repeat your changes, or overwrite the state with --force",
        )
    return restore.compare(now, document)


def push(
    ref: StateRef,
    document: State,
    found: restore.Replacement | None,
    notify: Notify,
    *,
    environ: Mapping[str, str],
) -> Backup | None:
    """Push `document`; returns the backup of what it replaced, if there was a state.

    Raises StateError if the state changed meanwhile.
    """
    if found is not None:
        why = f"a document of serial {document.serial}, lineage {document.lineage}"
        return restore.replace(ref, found, notify, operation="push", why=why, environ=environ)
    key = document.key or secrets.token_hex(32)
    whole = structs.replace(
        document,
        version=FORMAT_VERSION,
        key=key,
        sealed=None,
        gaps={},
        prev=root_of(document.lineage),
        template=ref.store.claimed(document.template),
    )
    restore.put(ref, whole, iter(()), notify, operation="push", environ=environ)
    return None


def resolve_target(
    source: StateRef, template: str | None, to: str, environ: Mapping[str, str], notify: Notify
) -> StateRef:
    """The same template and workspace in the store `to`. Raises UsageError.

    Without `template`: the template that the state itself names.
    """
    state = source.store.read()
    identity = state.template.path if state else source.folder.label
    if template is not None:
        identity = state_ref.find_template(template).identity
    target = state_ref.resolve_elsewhere(source, identity, to, environ, notify)
    if target.store.location == source.store.location:
        raise UsageError(
            f"the state is in {source.store.location} already", hint="give another place with --to"
        )
    return target


def migrate(
    source: StateRef, target: StateRef, notify: Notify, *, environ: Mapping[str, str]
) -> State:
    """Copy state, history and logs to another store; may be repeated after a failure.

    The source keeps its state, with one more change that records the migration. Raises
    StateError if the target has a state that is not an earlier one of the source.
    """
    words = ("state", "migrate", "--to", target.store.location)
    operation = Operation(name="migrate", words=words, environ=environ)
    with under_lock(source, operation, notify) as lock:
        here = _check_target(source, target)
        claimed = target.store.claimed(here.template)
        why = f"to {target.store.location}"
        lock.commit(PendingChange(operation="migrate", why=why, template=claimed))
        lock.compact(fully=True)
        state = pull(source)
        copied = _copy(source, target, state, operation, notify)
    segments = f"{copied} segment{'s' * (copied != 1)}"
    text = f"copied and read back: serial {state.serial} and {segments} of its history"
    notify(Notice(level="info", text=text))
    return state


def _check_target(source: StateRef, target: StateRef) -> State:
    """The state of `source`, where the target has none or an earlier one of it."""
    there, here = target.store.read(), source.store.read()
    if here is None:
        raise StateError(
            f"{source.folder.label} has no state to migrate",
            hint="start with `packer-fork build TEMPLATE`",
        )
    if there is None:
        return here
    is_past = there.lineage == here.lineage and there.serial <= here.serial
    if is_past and history.at(source.store, there.serial).prev == there.prev:
        return here
    raise StateError(
        f"{target.store.location} has another state (serial {there.serial}); nothing was copied",
        hint="choose another place with --to, or move that state aside",
    )


def _copy(
    source: StateRef, target: StateRef, state: State, operation: Operation, notify: Notify
) -> int:
    there = target.store.read()
    mending = structs.replace(operation, mends=True)
    with under_lock(target, mending, notify) as lock:
        copied = 0
        for _, data in source.store.segments(state):
            lock.put_segment(data)
            copied += 1
        if there is None or there.serial < state.serial:
            lock.put(state)
        _copy_logs(source.store.logs, target.store.logs)
    found = target.store.verify()
    if found.problems or target.store.read() != state:
        raise StateError(
            f"the copy in {target.store.location} differs from the state",
            hint="check it: packer-fork state check",
        )
    return copied


def _copy_logs(source: Path, target: Path) -> None:
    for path in source.iterdir():
        if path.suffix in {".log", ".json"} and not path.name.startswith("."):
            durable.replace(target / path.name, path.read_bytes(), durable=False)
