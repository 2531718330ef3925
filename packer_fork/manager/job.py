"""What a run of Packer is asked for, what it came to, and what is on record of it beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from packer_fork.locks import Wait
from packer_fork.manager import runlog
from packer_fork.manager.observing import Observers
from packer_fork.manager.plan import Plan
from packer_fork.manager.prepare import Prepared
from packer_fork.manager.state_ref import StateRef as Place
from packer_fork.model import Git, Run, State
from packer_fork.packer.flags import PackerFlags
from packer_fork.stores.base import Store, Tenure


class Job(Struct, frozen=True, kw_only=True):
    """What one run is made of. ``names``: the builds it is for, None if only Packer knows.

    ``reasons``: see ``follow.Start``. ``part``: which part of a run it is that many machines
    share, whose number is ``number`` then. ``observers``: of all Packers of this process.
    ``git``: of the checkout, asked once for all, as git reads files, too.
    """

    template: str
    flags: PackerFlags
    command: tuple[str, ...]
    environ: Mapping[str, str]
    place: Place
    prepared: Prepared
    tenure: Tenure
    wait: Wait
    plan: Plan
    names: tuple[str, ...] | None
    up_to_date: tuple[str, ...] = ()
    reasons: set[str]
    observers: Observers
    git: Git | None
    fail_fast: bool = False
    number: int = 0
    part: int = 0


class Ended(Struct, frozen=True):
    """What a run came to: its exit code for the caller, and the builds that failed."""

    exit_code: int
    failed: tuple[str, ...]
    cancelled: bool


def next_number(store: Store, state: State) -> int:
    """Of a run that begins: a damaged or restored state may not know of all any more."""
    known = state.last_run.number if state.last_run else 0
    return 1 + max(known, runlog.newest(store.logs))


def describe(
    number: int,
    tenure: Tenure,
    wait: Wait,
    plan: Plan,
    prepared: Prepared,
    command: tuple[str, ...],
    git: Git | None,
) -> Run:
    """Run `number` as it begins here and now, whatever it builds."""
    holder = tenure.participant.holder
    return Run(
        number=number,
        tenure=tenure.record.token,
        started=datetime.now(UTC),
        by=holder.by,
        directory=str(Path.cwd()),
        command=command,
        inputs=plan.fingerprint,
        packer_version=prepared.program.version_text,
        git=git,
        ci=holder.ci,
        waited=wait.seconds,
        ahead=wait.ahead,
    )
