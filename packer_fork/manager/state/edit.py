"""Editing a state: remove a build, revoke a result, adopt it for another project."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from packer_fork.codec.builds import decode_once
from packer_fork.errors import UsageError
from packer_fork.events import Notify
from packer_fork.manager.build import results
from packer_fork.manager.state.operation import Operation, under_lock
from packer_fork.manager.state.show import require
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import PendingChange, possibly_left
from packer_fork.responses import Backup
from packer_fork.stores.archive.ownership import ForeignStateError


def check_removal(ref: StateRef, name: str) -> None:
    """Raises UsageError if there is no build `name`, or if an instance of it may be leaked."""
    build = decode_once(require(ref.store.read(), name))
    for instance in possibly_left(build):
        raise UsageError(
            f"{name} may have leaked the instance {instance.id}, which only this state records",
            hint=f"once it is gone: packer-fork state rm --instance {instance.id}",
        )


def remove_build(ref: StateRef, name: str, notify: Notify, *, environ: Mapping[str, str]) -> Backup:
    """Back up, then remove the build `name`; the history keeps its past.

    Raises UsageError as `check_removal`.
    """
    words = ("state", "rm", "--build", name)
    operation = Operation(name="rm", words=words, environ=environ)
    with under_lock(ref, operation, notify) as lock:
        check_removal(ref, name)
        backup = lock.backup("rm", keep=ref.settings.keep_backups)
        lock.commit(PendingChange(operation="rm", why=f"build {name}", builds={name: None}))
    return backup


def adopt(ref: StateRef, notify: Notify, *, environ: Mapping[str, str]) -> bool:
    """Let this project use the state of another; False if it may already.

    Raises UsageError if there is no state.
    """
    try:
        if ref.store.read() is None:
            raise UsageError(
                f"{ref.folder.label} has no state to adopt",
                hint="start with `packer-fork build TEMPLATE`",
            )
    except ForeignStateError as error:
        template = ref.store.claimed(error.template)
    else:
        return False
    words = ("state", "adopt")
    operation = Operation(name="adopt", words=words, environ=environ, mends=True)
    with under_lock(ref, operation, notify) as lock:
        lock.commit(PendingChange(operation="adopt", why="for one more project", template=template))
    return True


def revoke(
    ref: StateRef,
    name: str,
    run: int | None,
    reason: str,
    notify: Notify,
    *,
    environ: Mapping[str, str],
) -> int:
    """Revoke the result of build `name` in `run` (None: the newest); returns the run's number.

    A revoked result is never up to date, and no command lists its artifacts. Raises UsageError
    without a reason, or if that run has no complete result.
    """
    if not reason.strip():
        raise UsageError("a revocation needs a reason", hint="give one with --reason TEXT")
    words = ("state", "revoke", "--build", name)
    operation = Operation(name="revoke", words=words, environ=environ)
    with under_lock(ref, operation, notify) as lock:
        build = decode_once(require(ref.store.read(), name))
        found = [result.run for result in results.complete(build)]
        chosen = run if run is not None else next(reversed(found), 0)
        if chosen not in found:
            known = ", ".join(map(str, found)) or "none"
            where = f" in run {run}" if run is not None else ""
            raise UsageError(
                f"{name} has no complete result{where} to revoke",
                hint=f"runs with a complete result: {known}",
            )
        draft = PendingChange(
            operation="revoke",
            why=f"{name} of run {chosen}: {reason}",
            builds={name: structs.replace(build, revoked={**build.revoked, str(chosen): reason})},
        )
        lock.commit(draft)
    return chosen
