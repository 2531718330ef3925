"""Marking what was built as not to be used: a machine image with a hole in it, say."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from packer_fork.codec.builds import decode_once
from packer_fork.errors import UsageError
from packer_fork.events import Notify
from packer_fork.manager import results
from packer_fork.manager.changing import Command, changing
from packer_fork.manager.places import Place
from packer_fork.manager.show import require
from packer_fork.model import Draft


def revoke(
    place: Place,
    name: str,
    run: int | None,
    reason: str,
    notify: Notify,
    *,
    environ: Mapping[str, str],
) -> int:
    """Revoke what `run` built of `name`, the newest if None; returns which run's that was.

    It is never up to date again, nor told of as an artifact to use. Raises UsageError without a
    reason, or if no complete result of that run is known.
    """
    if not reason.strip():
        raise UsageError("A result is revoked for a reason.", hint="Give one with --reason TEXT.")
    words = ("state", "revoke", "--build", name)
    command = Command(operation="revoke", words=words, environ=environ)
    with changing(place, command, notify) as tenure:
        build = decode_once(require(place.store.read(), name))
        found = [result.run for result in results.complete(build)]
        chosen = run if run is not None else next(reversed(found), 0)
        if chosen not in found:
            known = ", ".join(map(str, found)) or "none"
            what = f"of run {run} " if run is not None else ""
            raise UsageError(
                f"{name} has no complete result {what}that could be revoked.",
                hint=f"Runs that have one: {known}.",
            )
        revoked = {**build.revoked, str(chosen): reason}
        draft = Draft(
            operation="revoke",
            why=f"{name} of run {chosen}: {reason}",
            builds={name: structs.replace(build, revoked=revoked)},
        )
        tenure.commit(draft)
    return chosen
