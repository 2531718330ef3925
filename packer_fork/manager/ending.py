"""The end of a run that many machines share: one of them writes it, all of them tell it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from packer_fork import sharing
from packer_fork.errors import EXIT_DONE, StoreError
from packer_fork.events import Notify
from packer_fork.locks import Share
from packer_fork.manager import joint, recover, sources
from packer_fork.manager.state import maintenance
from packer_fork.manager.state_ref import StateRef as Place
from packer_fork.model import Build, Draft, Run
from packer_fork.packer.signals import SignalWatch
from packer_fork.stores.base import Membership

_LOOK = 0.25


class Result(Struct, frozen=True):
    """The whole run and its builds; without an exit code others still go on with it."""

    run: Run
    builds: tuple[Build, ...]


def conclude(
    place: Place, tenure: Membership, number: int, watch: SignalWatch, notify: Notify
) -> Result:
    """Wait until run `number` has ended, or end it, unless others go on with it.

    Raises StoreError, LockLostError.
    """
    while True:
        state = place.store.read()
        run = joint.run_of(state, number)
        if state is None or run is None:
            raise StoreError(f"Run {number} is not in the state any more.")
        share, dead = tenure.look()
        if run.exit_code is not None or not _is_to_be_ended(share, dead, tenure.participant.number):
            return Result(run, joint.builds_now(state, number))
        ours = tenure.update(lambda now, gone: _concluded(now, gone, tenure.participant.number))
        if ours is not None:
            _end(place, tenure, run, ours, notify)
        else:
            watch.wait(_LOOK)


def _concluded(share: Share, dead: frozenset[int], member: int) -> Share | None:
    """The share in the hands of `member`; None if sources were added since it looked done."""
    if not _is_to_be_ended(share, dead, member):
        return None
    return sharing.concluded(share, member, dead)


def _is_to_be_ended(share: Share, dead: frozenset[int], member: int) -> bool:
    if sharing.is_done(share) or share.concluded:
        return True
    if sources.others(share, dead, member):
        return False
    is_alone = all(m.number == member or m.number in dead for m in share.participants)
    return is_alone or share.stop is not None


def _end(place: Place, tenure: Membership, run: Run, share: Share, notify: Notify) -> None:
    for part in recover.unfinished(place.store.read()):
        if part.part and part.number == run.number:
            reason = "its machine died before the run had ended"
            recover.recover_run(place.store, tenure, part, notify, reason)
    why = f"{share.stop.why}, says {share.stop.by}" if share.stop else ""
    ended = joint.ended(run, share.wanted, place.store.read(), datetime.now(UTC), why)
    tenure.commit(Draft(operation="finish", last_run=ended.run, builds=ended.changed))
    maintenance.after_run(place, tenure, notify)
    tenure.compact()


def exit_code(result: Result, codes: Sequence[int], signals: Sequence[int]) -> int:
    """Of this machine, by the whole and by what was built here."""
    if signals:
        return 128 + signals[0]
    whole = result.run.exit_code
    return EXIT_DONE if whole == EXIT_DONE else max((whole or EXIT_DONE, *codes))
