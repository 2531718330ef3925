"""A build that finds nothing to do: it is no run, but it is put on record what it skipped."""

from __future__ import annotations

import time

from packer_fork.errors import PackerForkError
from packer_fork.events import Action, Notice, Notify
from packer_fork.locks import Wait
from packer_fork.manager.plan import Plan
from packer_fork.manager.state import maintenance
from packer_fork.manager.state_ref import StateRef as Place
from packer_fork.model import Draft, Skip, State
from packer_fork.stores.base import Tenure


def record(
    place: Place, tenure: Tenure, wait: Wait, plan: Plan, state: State, notify: Notify
) -> None:
    """All is up to date, whether that can be put on record or not: what cannot be is told."""
    skip = Skip(
        after=state.last_run.number if state.last_run else 0,
        inputs=plan.fingerprint,
        builds=plan.names(Action.UP_TO_DATE),
        ci=tenure.participant.holder.ci,
        waited=wait.seconds,
        held=max(0.0, round(time.monotonic() - wait.taken, 3)),
    )
    try:
        tenure.commit(Draft(operation="skip", skip=skip))
    except PackerForkError as error:
        text = f"What was skipped could not be put on record: {error.message}"
        notify(Notice(level="warning", text=text, hint=error.hint))
    maintenance.after_skip(place, tenure, notify)
