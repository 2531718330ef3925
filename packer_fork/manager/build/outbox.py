"""Results that the store could not take: in a file each, until they get into the state.

While a store is away, a file is replaced with all that a work item came to so far, and removed
once the store has it. Results of an item whose lock or store was gone at its end are late: they
come into the state with the next command that takes the lock, or by ``state replay``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Raw, Struct, structs

from packer_fork import durable
from packer_fork.codec.builds import decode_build, decode_once
from packer_fork.errors import PackerForkError, StateError, UsageError
from packer_fork.events import Kept, Notice, Notify
from packer_fork.malformed import MALFORMED
from packer_fork.manager.build import run_document
from packer_fork.manager.state import history, user_file
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import (
    REMOVED,
    Build,
    Change,
    Late,
    PendingChange,
    Run,
    RunStatus,
    State,
    WorkItem,
)
from packer_fork.packer.outcome import Outcome
from packer_fork.stores.base import HeldLock, Store

SUFFIX = ".late.json"
_NAME = re.compile(r"\d+-\d+-\d+\.late\.json")
_MAX_FILE = 1 << 30


class Outbox:
    """A folder for the results of a run's items. A disk that fails is told, and does no harm."""

    def __init__(self, folder: Path, lineage: str, run: Run, notify: Notify) -> None:
        self._folder = folder
        self._lineage = lineage
        self._run = run
        self._notify = notify
        self._has_failed = False

    def keep(self, outcome: Outcome, inputs: Mapping[str, Raw]) -> bool:
        """Whether it is there, durably. `outcome` must be masked; `inputs`: see `Late`."""
        late = self._late(outcome, inputs)
        try:
            durable.make_folder(self._folder)
            durable.replace(self._path(outcome.item), msgspec.json.encode(late))
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                text = f"The results cannot be kept in {self._folder} ({error.strerror})."
                self._notify(Notice(level="error", text=text))
            return False
        return True

    def forget(self, item: WorkItem) -> None:
        """The store has taken them."""
        self._path(item).unlink(missing_ok=True)

    def tell(
        self, outcome: Outcome, inputs: Mapping[str, Raw], why: str, *, is_mergeable: bool
    ) -> None:
        """Tell what was kept, and where, if it could be."""
        path = self._path(outcome.item)
        late = self._late(outcome, inputs)
        self._notify(
            Kept(
                path=str(path) if path.is_file() else "",
                why=why,
                is_mergeable=is_mergeable,
                lineage=late.lineage,
                run=late.run,
                item=late.item,
                builds=late.builds,
                inputs=late.inputs,
            )
        )

    def _late(self, outcome: Outcome, inputs: Mapping[str, Raw]) -> Late:
        return Late(
            lineage=self._lineage,
            run=self._run,
            item=outcome.item,
            builds=dict(outcome.builds),
            inputs=dict(inputs),
        )

    def _path(self, item: WorkItem) -> Path:
        return self._folder / f"{item.key}-{item.token}{SUFFIX}"


def waiting(folder: Path) -> list[Path]:
    """The files that are there, the oldest run first."""
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])


def done(path: Path) -> None:
    """It is in the history; a copy stays for whoever wants to see it."""
    path.rename(path.with_name(f"{path.name}.replayed"))


def replay_waiting(place: StateRef, lock: HeldLock, notify: Notify) -> None:
    """Bring in what waits in the outbox, under a lock that is held already.

    What is of another lineage stays where it is, and is told.
    """
    for path in waiting(place.outbox) if place.outbox else ():
        try:
            late = read(path)
            draft = draft_of(place.store, late, path)
        except PackerForkError as error:
            notify(Notice(level="warning", text=error.message, hint=error.hint))
        else:
            bring_in(lock, path, late, draft, notify)


def bring_in(
    lock: HeldLock, path: Path, late: Late, draft: PendingChange | None, notify: Notify
) -> None:
    """Commit `draft`, if there is anything to commit: then the file is done with."""
    what = f"Item {late.item.number} of run {late.item.run}"
    text = f"{what} is in the history already."
    if draft is not None:
        lock.commit(draft)
        taken = ", ".join(draft.builds) or "none: all were built again since"
        text = f"{what} is in the history; builds that it now stands for: {taken}."
    done(path)
    notify(Notice(level="info", text=text))


def read(path: Path) -> Late:
    """Raises UsageError for a file that holds none."""
    data = user_file.read(path, _MAX_FILE)
    try:
        return msgspec.json.decode(data, type=Late)
    except MALFORMED as error:
        raise UsageError(f"{path} holds no late results ({error}).") from error


def draft_of(store: Store, late: Late, path: Path) -> PendingChange | None:
    """The change that brings `late` in, where what was built since is not replaced.

    None if it is in the history already: results may come in a file, and on stdout. Raises
    StateError if it is of another state. `path` is only for the message.
    """
    state = store.read()
    if state is None or state.lineage != late.lineage:
        raise StateError(
            f"{path} belongs to another state (lineage {late.lineage}).",
            hint="Name the template and workspace that it was built from.",
        )
    known = _past_of(store, late)
    if known is None:
        return None
    last, run = run_document.run_of(state, late.run.number), known.run
    is_under_way = last is not None and last.status is RunStatus.RUNNING
    if not is_under_way:  # else whoever concludes the run counts this item as well
        run = _judged(late, known)
    return PendingChange(
        operation="replay",
        why=f"late results of item {late.item.number} of run {late.item.run}",
        late=structs.replace(late, run=run, inputs={}),
        last_run=run if last is not None and not is_under_way else None,
        items=(late.item,),
        builds={name: build for name, build in late.builds.items() if _stands(state, build)},
        inputs=late.inputs,
    )


class _Past(Struct):
    """What the history tells of a run: its items and its builds, each as it was last."""

    run: Run
    items: dict[str, WorkItem] = {}
    builds: dict[str, Build] = {}


def _past_of(store: Store, late: Late) -> _Past | None:
    """None if `late` is in the history already."""
    found, seen = _Past(late.run), list[Build]()
    for change in history.changes(store):
        if change.late is not None and change.late.item == late.item:
            return None
        if change.run != late.run.number:
            continue
        if change.last_run is not None and found.run is late.run:
            found.run = change.last_run
        for key, item in change.items.items():
            found.items.setdefault(key, item)
        seen += change.late.builds.values() if change.late else _builds_of(change)
        if change.operation == "start":
            break
    for build in reversed(seen):
        run_document.add_newer(found.builds, build)
    return found


def _builds_of(change: Change) -> list[Build]:
    return [decode_once(raw) for raw in change.builds.values() if raw != REMOVED]


def _judged(late: Late, known: _Past) -> Run:
    """What a run that has ended comes to with its late item."""
    items = {**known.items, late.item.key: late.item}
    for build in late.builds.values():
        run_document.add_newer(known.builds, build)
    at = late.item.ended or datetime.now(UTC)
    return run_document.concluded(known.run, items.values(), known.builds.values(), at).run


def _stands(state: State, build: Build) -> bool:
    """Whether nothing newer was built since."""
    raw = state.builds.get(build.name)
    known = decode_build(raw) if raw is not None else build
    return (known.run, known.item) <= (build.run, build.item)
