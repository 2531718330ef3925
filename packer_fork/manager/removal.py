"""Taking a build out of the state: one that the template has no more, say."""

from __future__ import annotations

from collections.abc import Mapping

from packer_fork.codec.builds import decode_once
from packer_fork.errors import UsageError
from packer_fork.events import Notify
from packer_fork.manager.changing import Command, changing
from packer_fork.manager.places import Place
from packer_fork.manager.show import require
from packer_fork.model import Draft, possibly_left
from packer_fork.responses import Backup


def check(place: Place, name: str) -> None:
    """Raises UsageError if there is no build `name`, or if instances of it may be left."""
    build = decode_once(require(place.store.read(), name))
    for instance in possibly_left(build):
        raise UsageError(
            f"{name} may have left the instance {instance.id} behind, which only it tells of.",
            hint=f"Once that is gone: packer-fork state rm --instance {instance.id}",
        )


def remove(place: Place, name: str, notify: Notify, *, environ: Mapping[str, str]) -> Backup:
    """Back up, then take the build `name` out; its past stays in the history.

    Raises UsageError if there is none, or if instances of it may be left.
    """
    words = ("state", "rm", "--build", name)
    with changing(place, Command(operation="rm", words=words, environ=environ), notify) as tenure:
        check(place, name)
        backup = tenure.backup("rm", keep=place.settings.keep_backups)
        tenure.commit(Draft(operation="rm", why=f"build {name}", builds={name: None}))
    return backup
