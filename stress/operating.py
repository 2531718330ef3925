"""A state as its users and operators work on it, beside the model of what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from msgspec import structs

from packer_fork import config
from packer_fork.codec.builds import decode_build
from packer_fork.errors import LockedError, StateError
from packer_fork.locks import Status
from packer_fork.manager import state_ref
from packer_fork.manager.build import log_files, recovery, run_document
from packer_fork.manager.lock import unlock
from packer_fork.manager.state import (
    backup,
    check,
    history,
    maintenance,
    merge_results,
    restore,
    transfer,
)
from packer_fork.manager.state.operation import Operation, under_lock
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import State
from packer_fork.stores.archive import history as segments
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.store import LocalStore
from stress.expected import EMPTY, Expected, Flight, Known, Picture, dropped
from stress.flights import (
    Holder,
    build,
    next_number,
    raw_said,
    said_within,
    silent,
    with_run_settings,
)
from tests.support.local_states import flip

_LIVE = frozenset({Status.HELD, Status.ORPHANED})


class Late(NamedTuple):
    """Results that came too late, and how much their run had said."""

    path: Path
    number: int
    said: int


class Document(NamedTuple):
    """A state in a file, and which one it is."""

    path: Path
    serial: int


class Operated:
    """One state. Each method does one thing, to the state and to the model alike."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        template = folder / "t.pkr.hcl"
        template.touch()
        (folder / config.FILE_NAME).touch()
        # Settings are read once: that takes longer than most of what is done with them.
        found = state_ref.find_template(str(template))
        self._place = state_ref.resolve(found, {"state": str(folder / "states")}, {}, silent)
        self.expected = Expected()
        self.holder: Holder | None = None
        self.lost: list[Holder] = []
        self.late: list[Late] = []
        self.unread: dict[int, int] = {}
        """By run, how much of what was said in it waits in its raw log for the next command."""
        self.bundles: list[Document] = []
        self.pulled: list[Document] = []
        self._verdict = Status.FREE
        self._digests: dict[int, str] = {}
        self._looks = 0

    # What there is

    @property
    def place(self) -> StateRef:
        """Opened anew each time, as each command does."""
        store = LocalStore(
            self._place.folder.folder,
            root=self._place.folder.root,
            template="t.pkr.hcl",
            workspace="default",
            complain=silent,
        )
        return structs.replace(self._place, store=store)

    @property
    def layout(self) -> Layout:
        return Layout(self._place.folder.folder)

    @property
    def is_locked(self) -> bool:
        return self._verdict in _LIVE

    @property
    def status(self) -> Status:
        """What the lock must be found to be."""
        return self._verdict

    def backups(self) -> list[Document]:
        """In the store's keeping, and in files."""
        kept = [Document(Path(each.path), each.serial) for each in self.place.store.backups()]
        return [*kept, *self.bundles]

    # Runs

    def build(self, names: tuple[str, ...], failing: frozenset[str]) -> None:
        flight = self._flight(names, failing)

        def work() -> None:
            build(self.place, flight)

        if self._under_lock(work):
            self.expected.started(flight)
            self.expected.concluded(flight.number, flight.length)

    def begin(
        self,
        names: tuple[str, ...],
        failing: frozenset[str],
        *,
        folded: int,
        more: int,
        packer: bool,
    ) -> None:
        """A process takes the lock and begins a run; `more` of its output is not on record."""
        flight = self._flight(names, failing)
        self._reads_logs()
        self._recovers()
        self.holder = Holder(self.place, flight, folded=folded, more=more, with_packer=packer)
        self.expected.started(flight)
        self.expected.progressed(flight.number, min(folded, flight.length))
        self._verdict = Status.HELD

    def begin_and_die(
        self,
        names: tuple[str, ...],
        failing: frozenset[str],
        *,
        folded: int,
        more: int,
        packer: bool,
    ) -> None:
        self.begin(names, failing, folded=folded, more=more, packer=packer)
        self.kill()

    def finish(self) -> None:
        assert self.holder is not None
        flight = self.holder.flight
        assert not self.holder.finish(), "a holder lost its lock to nobody"
        self.expected.concluded(flight.number, flight.length)
        self.holder, self._verdict = None, Status.FREE

    def kill(self) -> None:
        assert self.holder is not None
        self.holder.kill()
        self._verdict = Status.ORPHANED if self.holder.packer else Status.ABANDONED
        self.holder = self.holder if self.holder.packer else None

    def kill_packer(self) -> None:
        """The Packer that a killed process left ends, too."""
        assert self.holder is not None
        self.holder.kill_packer()
        self.holder, self._verdict = None, Status.ABANDONED

    def kill_lost(self, index: int) -> None:
        """It ends without a word; what it had said is read by the next command."""
        lost = self.lost.pop(index)
        lost.end()
        if said := self._raw(lost.flight.number):
            self.unread[lost.flight.number] = said

    def finish_lost(self, index: int) -> None:
        """A process whose lock was closed under it comes to its end: too late, and not lost."""
        lost = self.lost.pop(index)
        assert lost.finish(), "a closed lock has committed"
        flight = lost.flight
        paths = list(self.place.store.logs.glob(f"{flight.number}-1-*.late.json"))
        assert len(paths) == 1, paths
        self.late.append(Late(paths[0], flight.number, flight.length))

    def _flight(self, names: tuple[str, ...], failing: frozenset[str]) -> Flight:
        number = next_number(self.place, self.place.store.read())
        return Flight(number, names, failing & frozenset(names))

    # Operators

    def recover(self) -> None:
        code = recovery.recover_place(self.place, silent, environ={})
        has_raw = bool(log_files.with_raw(self.place.store.logs))
        hindered = self.is_locked and (self.expected.is_unfinished or has_raw)
        assert code == (LockedError.exit_code if hindered else 0)
        if not hindered:
            self._reads_logs()
            if self.expected.is_unfinished or has_raw:
                self._recovers()

    def force_unlock(self, how: unlock.How) -> None:
        found = unlock.Found(self.place, self.place.store.status())
        if self.is_locked and (how.if_abandoned or not how.allow_live):
            with pytest.raises(LockedError):
                unlock.force_unlock(found, how, silent, environ={})
            return
        unlock.force_unlock(found, how, silent, environ={})
        if self.is_locked:
            self._lock_lost()
        else:
            self._recovers()
        self._verdict = Status.FREE

    def _lock_lost(self) -> None:
        assert self.holder is not None
        if self.holder.flight.number in self.expected.now.running:
            self.expected.interrupted(self.holder.flight.number)
        self.lost.append(self.holder)
        self.holder = None

    def rollback(self, serial: int) -> None:
        self._replaces(
            lambda: restore.find(self.place, str(serial)),
            lambda found: restore.replace(
                self.place, found, silent, operation="restore", why=str(serial), environ={}
            ),
            self.expected.pictures[serial],
        )

    def restore(self, document: Document) -> None:
        self._replaces(
            lambda: restore.find(self.place, str(document.path)),
            lambda found: restore.restore(
                self.place, str(document.path), found, silent, environ={}
            ),
            self.expected.pictures[document.serial],
        )

    def push(self, document: Document, *, force: bool) -> None:
        given = transfer.read(document.path)
        if not force and document.serial < self.expected.serial:
            with pytest.raises(StateError):
                transfer.compare(self.place, given, force=False)
            return
        self._replaces(
            lambda: transfer.compare(self.place, given, force=force),
            lambda found: transfer.push(self.place, given, found, silent, environ={}),
            self.expected.pictures[document.serial],
        )

    def prune(self, keep: int) -> None:
        place = with_run_settings(self.place, keep_runs=keep)
        if self._under_lock(lambda: maintenance.prune(place, silent, environ={})):
            self._forgets(keep)

    def _forgets(self, keep: int) -> None:
        """The oldest may go, but not the newest runs, nor what came after them."""
        after = self._serials()
        gone = list(dropped(self.expected.kept, after))
        assert gone == self.expected.kept[: len(gone)], "there is a hole in the history"
        newest = sorted(self._starts())[-keep:]
        assert not set(newest) & set(gone), f"runs begun at {newest} were to be kept"
        del self.expected.kept[: len(gone)]

    def _starts(self) -> list[int]:
        """Serials at which runs began, as far as they are kept."""
        begun = {self._began(number) for number in self.expected.flights}
        return [serial for serial in self.expected.kept if serial in begun]

    def _began(self, number: int) -> int:
        """The first state that knows a run."""
        known = (s for s, p in self.expected.pictures.items() if p.last and p.last[0] == number)
        return min(known, default=-1)

    def back_up(self) -> None:
        self._under_lock(lambda: backup.in_store(self.place, silent, environ={}))

    def back_up_in_file(self) -> None:
        path = self.folder / f"{len(self.bundles)}.tar"
        backup.in_file(self.place, path)
        self.bundles.append(Document(path, self.expected.serial))

    def pull(self) -> None:
        path = self.folder / f"{len(self.pulled)}.json"
        path.write_bytes(msgspec.json.encode(transfer.pull(self.place)))
        self.pulled.append(Document(path, self.expected.serial))

    def compact(self) -> None:
        command = Operation(name="compact", words=("compact",), environ={})

        def work() -> None:
            with under_lock(self.place, command, silent):
                pass

        self._under_lock(work)

    def replay(self, index: int) -> None:
        path, number, said = self.late[index]
        if self._under_lock(
            lambda: merge_results.merge(self.place, path, silent, environ={}), recovers=False
        ):
            self.expected.replayed(number, said)
            del self.late[index]

    # Damage

    def damage(self, place: float, bit: int, *, restores: Document | None) -> None:
        """Flip a bit somewhere, see that it is found, and mend what can be mended."""
        path = self._somewhere(place)
        size = path.stat().st_size
        offset = int(place * 1e6) % size
        if not self._can_be_saved(path, offset):
            return
        surely = self._sure(path, offset)
        flip(path, offset, bit)
        if not self.place.store.verify().problems:
            assert not self._is_named(path), f"damage of {path} at {offset} went unnoticed"
            return
        if restores is not None and path.parent.name != "backups" and not self._is_readable():
            self.restores_over(restores)
        else:
            self._repairs(path, surely)

    def _somewhere(self, place: float) -> Path:
        layout = self.layout
        files = [layout.state, layout.state, layout.acked]
        more = [*layout.history.glob("*.zst"), *layout.backups.glob("*.zst")]
        files += sorted(more, key=lambda each: each.stat().st_mtime_ns)  # names are of chance
        return files[int(place * len(files))]

    def _is_named(self, path: Path) -> bool:
        """Whether the state or its history rests on it, every bit of it."""
        if path.parent.name != "history":
            return path.parent.name != "backups"
        named = {sealed.segment for sealed in segments.chain(self.layout, self.read())}
        return path.stem in named

    def _can_be_saved(self, path: Path, offset: int) -> bool:
        """Whether there is anything else to begin with than what is damaged."""
        is_snapshot = path == self.layout.state and b"\n" not in path.read_bytes()[:offset]
        return not is_snapshot or bool(list(self.layout.history.glob("*.zst")))

    def _sure(self, path: Path, offset: int) -> int:
        """The serial that is safe whatever becomes of the byte at `offset`."""
        if path != self.layout.state:
            return self.expected.serial
        stretch = next(iter(self.place.store.history()))
        whole = path.read_bytes()[:offset].count(b"\n")
        return stretch.first + max(0, whole - 1)

    def _is_readable(self) -> bool:
        try:
            return self.place.store.read() is not None
        except StateError:
            return False

    def _repairs(self, path: Path, surely: int) -> None:
        before = self.expected.serial
        check.repair(self.place, silent, environ={})
        state = self.read()
        assert state.serial > before, "a serial was given out again"
        self._is_one_of(state, surely, before)
        if path.parent.name == "history" or path.name == "state.json":
            assert not path.exists() or not self.place.store.verify().problems
        self._verdict = Status.FREE
        self._adopt_history(lossless=path.parent.name != "history")

    def _is_one_of(self, state: State, surely: int, before: int) -> None:
        """What was saved is what once was, and nothing that was safe is missing."""
        now = self._picture(state)
        pictures = {0: EMPTY, **self.expected.pictures}
        candidates = [s for s in sorted(pictures) if surely <= s <= before]
        fitting = [s for s in candidates if pictures[s] == now]
        assert fitting, f"{now} was never so since {surely}"
        self.expected.now = now
        self._lost_after = min(fitting)

    def restores_over(self, document: Document) -> None:
        before = self.expected.serial
        found = restore.find(self.place, str(document.path))
        assert isinstance(found, State)
        restore.restore(self.place, str(document.path), found, silent, environ={})
        assert self.read().serial > before, "a serial was given out again"
        self.expected.became(document.serial)
        self._lost_after = document.serial
        self._verdict = Status.FREE
        self._adopt_history(lossless=False)

    def _adopt_history(self, *, lossless: bool) -> None:
        """Mended histories may have holes, but hold nothing that never was.

        What was pruned may be there again, from segments that are kept for backups.
        """
        after = self._serials()
        saved = [serial for serial in self.expected.kept if serial <= self._lost_after]
        known = [serial for serial in after if serial <= self.expected.serial]
        assert set(known) <= set(self.expected.pictures)
        if lossless:
            assert set(known) >= set(saved), "history was lost that was whole"
        self.expected.kept = known

    # The lock

    def _under_lock(self, work: Callable[[], object], *, recovers: bool = True) -> bool:
        """Do it, or be refused where somebody lives; whether it was done."""
        if self.is_locked:
            with pytest.raises(LockedError):
                work()
            return False
        work()
        self._reads_logs()
        if recovers:
            self._recovers()
        self._verdict = Status.FREE
        return True

    def _reads_logs(self) -> None:
        """A command that takes the lock reads the logs of runs that ended without them."""
        for number, said in self.unread.items():
            if self._began(number) in self.expected.kept:
                self.expected.replayed(number, said)
        self.unread.clear()

    def _recovers(self) -> None:
        """Whoever takes the lock finishes what was left unfinished."""
        for number in sorted(self.expected.now.running):
            said = max(self.expected.now.running[number], self._said.get(number, 0))
            self.expected.concluded(number, said)
        self.expected.concluded_unbegun()
        self._verdict = Status.FREE

    def _replaces(
        self, look: Callable[[], object], work: Callable[..., object], then: Picture
    ) -> None:
        """Put other builds in place, if none has changed since they were looked at.

        The recovery of a run that was left unfinished may change some.
        """
        found = look()
        is_left = self._verdict is Status.ABANDONED or self.expected.is_unfinished
        is_left = is_left or bool(self.unread)
        if is_left and not self.is_locked:
            try:
                work(found)
            except StateError as error:
                if "changed while" not in error.message:
                    raise
                assert self.expected.is_unfinished or self.unread
                self._reads_logs()
                self._recovers()
            else:
                self._reads_logs()
                self._recovers()
                self.expected.replaced(then)
        elif self._under_lock(lambda: work(found)):
            self.expected.replaced(then)

    # What must hold

    def look(self) -> None:
        """The state, its history, and its lock are what the model says."""
        self._looks += 1
        found = self.place.store.status()
        assert found.status == self._verdict, found
        state = self.place.store.read()
        if state is None:
            assert self.expected.now == EMPTY
            return
        found_picture = self._picture(state)
        assert found_picture == self.expected.now, (found_picture, self.expected.now)
        assert state.serial >= self.expected.serial
        self._history(state)
        assert self.place.store.verify().problems == ()
        self._once_was()
        self._said = {n: self._raw(n) for n in self.expected.now.running}

    def _history(self, state: State) -> None:
        """Complete back to the last prune, and never written anew."""
        changes = self._changes()
        fresh = [serial for serial in changes if serial > self.expected.serial]
        assert list(changes) == [*self.expected.kept, *fresh], "the history is not complete"
        assert not fresh or fresh[-1] == state.serial
        assert fresh == list(range(fresh[0], fresh[0] + len(fresh))) if fresh else True
        for serial, digest in changes.items():
            assert self._digests.setdefault(serial, digest) == digest, "history was rewritten"
        for serial in fresh:
            self.expected.pictures[serial] = self._picture(history.at(self.place.store, serial))
        self.expected.pictures[state.serial] = self.expected.now
        self.expected.kept += fresh
        self.expected.serial = state.serial

    def _once_was(self) -> None:
        """One of the earlier states, each time another, is still there as it was."""
        kept = self.expected.kept
        if kept:
            serial = kept[self._looks * 7 % len(kept)]
            then = history.at(self.place.store, serial)
            assert self._picture(then) == self.expected.pictures[serial]

    def _changes(self) -> dict[int, str]:
        """Digests by serial, the oldest first."""
        found = [
            (change.serial, digest)
            for stretch in self.place.store.history()
            for change, digest in reversed(stretch.read().changes)
        ]
        assert [s for s, _ in found] == sorted({s for s, _ in found}, reverse=True)
        return dict(reversed(found))

    def _serials(self) -> list[int]:
        return list(self._changes())

    def read(self) -> State:
        state = self.place.store.read()
        assert state is not None
        return state

    def _picture(self, state: State) -> Picture:
        builds = {name: decode_build(raw) for name, raw in state.builds.items()}
        last = state.last_run
        return Picture(
            {name: Known(each.status, each.run) for name, each in builds.items()},
            {
                item.run: self._said_by(item.run, item.log_offset)
                for item in run_document.unfinished_items(state)
            },
            (last.number, last.status) if last else None,
        )

    def _said_by(self, number: int, offset: int) -> int:
        flight = self.expected.flights.get(number)
        return said_within(flight, offset) if flight else 0

    def _raw(self, number: int) -> int:
        return raw_said(self.place.store.logs, self.expected.flights[number])

    _said: dict[int, int] = {}  # noqa: RUF012 (replaced as a whole, never changed)
    _lost_after = 0

    def close(self) -> None:
        for each in (self.holder, *self.lost):
            if each is not None:
                each.end()
