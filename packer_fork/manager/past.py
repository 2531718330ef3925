"""A state as it was at an earlier serial, or after an earlier run."""

from __future__ import annotations

from collections.abc import Iterator

from packer_fork.changes import apply_changes
from packer_fork.codec.segment import runs_of
from packer_fork.errors import UsageError
from packer_fork.model import Change, State
from packer_fork.stores.base import Store, Stretch


def changes(store: Store) -> Iterator[Change]:
    """Every change that is kept, the newest first. Raises DamagedError where it cannot go on."""
    for stretch in store.history():
        for change, _ in reversed(stretch.read().changes):
            yield change


def at(store: Store, serial: int) -> State:
    """The state right after change `serial`. Raises UsageError if it is not kept (any more)."""
    oldest = newest = None
    for stretch in store.history():
        newest = stretch.last if newest is None else newest
        oldest = stretch.first
        if stretch.first <= serial <= stretch.last:
            passage = stretch.read()
            before = [pair for pair in passage.changes if pair[0].serial <= serial]
            found = apply_changes(passage.state, before)
            if found.serial == serial:
                return found
    raise _not_kept(f"serial {serial}", oldest, newest)


def after_run(store: Store, number: int) -> State:
    """The state right after the last change of run `number`. Raises UsageError."""
    oldest = newest = None
    for stretch in store.history():
        newest = stretch.last if newest is None else newest
        oldest = stretch.first
        if _may_tell_of(stretch, number):
            for change, _ in reversed(stretch.read().changes):
                if any(run.number == number for run in runs_of(change)):
                    return at(store, change.serial)
    raise _not_kept(f"run {number}", oldest, newest)


def _may_tell_of(stretch: Stretch, number: int) -> bool:
    summary = stretch.summary
    if summary is None or summary.spans:
        return True
    return summary.numbers is not None and summary.numbers[0] <= number <= summary.numbers[1]


def point(store: Store, text: str) -> State:
    """The state that a person names: ``41``, a serial, or ``run:7``. Raises UsageError."""
    kind, _, number = text.rpartition(":")
    if kind not in ("", "run") or not number.isdecimal() or len(number) > 18:
        raise UsageError(
            f"{text!r} is no point of the history.",
            hint="Give a serial like 41, or a run like run:7; `state history` lists them.",
        )
    return after_run(store, int(number)) if kind else at(store, int(number))


def _not_kept(what: str, oldest: int | None, newest: int | None) -> UsageError:
    kept = f"Kept are serials {oldest} to {newest}." if newest is not None else "Nothing is kept."
    return UsageError(f"There is no {what} in this history.", hint=kept)
