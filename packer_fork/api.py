"""packer-fork from Python: the same calls as the command line makes, typed.

Safe to be used from several threads; only in the main thread are signals heeded.
Every function raises ``errors.PackerForkError`` where the command would end with its
exit code.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from packer_fork.events import Event, Notify, Planned
from packer_fork.locks import LockStatus
from packer_fork.manager import state_ref
from packer_fork.manager.build import invocation as _invocation
from packer_fork.manager.build import planning
from packer_fork.manager.build.prepare import BuildRequest
from packer_fork.manager.state import artifacts as _artifacts
from packer_fork.manager.state import show as _show
from packer_fork.manager.state.artifacts import BuiltArtifacts
from packer_fork.model import Build
from packer_fork.packer.flags import take


def _silent(_: Event) -> None:
    """Whoever does not want to be told is not."""


def build(
    template: str,
    *flags: str,
    rebuild: bool = False,
    notify: Notify = _silent,
    **settings: Any,
) -> int:
    """Build what is not up to date; returns the exit code, see ``errors``.

    `flags` are Packer's own, as on its command line (``"-var", "region=eu"``); `settings`
    those of packer-fork.toml (``workspace="staging"``); `notify` gets every event.
    """
    return _invocation.build(_request(template, flags, settings, rebuild=rebuild), notify)


def plan(template: str, *flags: str, **settings: Any) -> Planned:
    """What `build` would do, and why. Takes no lock, changes no state."""
    told: list[Planned] = []

    def keep(event: Event) -> None:
        if isinstance(event, Planned):
            told.append(event)

    planning.show(_request(template, flags, settings), keep)
    return told[0]


def _request(
    template: str, flags: Sequence[str], settings: dict[str, Any], *, rebuild: bool = False
) -> BuildRequest:
    return BuildRequest(
        template=template,
        flags=take(flags)[0],
        settings=settings,
        environ=dict(os.environ),
        rebuild=rebuild,
    )


def builds(template: str, **settings: Any) -> Sequence[Build]:
    """What is known of the builds; empty before the first."""
    state = _place(template, settings).store.read()
    return list(_show.builds(state)) if state else []


def artifacts(template: str, **settings: Any) -> Sequence[BuiltArtifacts]:
    """The artifacts of each build's newest complete run."""
    return _artifacts.newest(_place(template, settings), None)


def lock_status(template: str, **settings: Any) -> LockStatus:
    """Who holds the lock, and the proof."""
    return _place(template, settings).store.status()


def _place(template: str, settings: dict[str, Any]) -> state_ref.StateRef:
    return state_ref.resolve(state_ref.find_template(template), settings, os.environ, _silent)
