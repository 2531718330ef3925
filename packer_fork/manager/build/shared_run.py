"""A run that many machines share: each claims sources one by one, and one of them concludes it.

What is claimed, complete or returned is in the lock's record, which all participants see; what
came of it is in the state. A participant that finds nothing left waits for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from packer_fork import lock_steps
from packer_fork.codec.builds import decode_build
from packer_fork.errors import EXIT_DONE, EXIT_LOCK_LOST, StoreError, UsageError
from packer_fork.events import Elsewhere, Notice, Notify, Recovered
from packer_fork.locks import LockRecord, Status, Stop
from packer_fork.manager import forecast
from packer_fork.manager.build import conclusion, recovery, run_document
from packer_fork.manager.build.executor import Executor
from packer_fork.manager.build.supervisor import is_interactive
from packer_fork.manager.build.work_item import Claim, Context, ItemResult
from packer_fork.manager.plan import Plan
from packer_fork.manager.prepare import Prepared, only
from packer_fork.manager.state import maintenance
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import Build, BuildStatus, Run, RunStatus, State
from packer_fork.packer.flags import PackerFlags
from packer_fork.stores.base import HeldLock

_LOOK = 0.25

UNKNOWN = float("inf")
"""Seconds of a source that was never built: it may be the longest of all."""


class Sharing(Struct, frozen=True, kw_only=True):
    """How to build with other machines. ``waits``: also for what they build; ``cancel_all``:
    a signal here ends the run for all.
    """

    waits: bool = True
    cancel_all: bool = False


class SharedSources:
    """The sources of a shared run, claimed in the lock's record, the longest first."""

    def __init__(
        self,
        place: StateRef,
        lock: HeldLock,
        run: Run,
        names: Collection[str],
        how: Sharing,
        notify: Notify,
    ) -> None:
        """`names`: the sources that may be built here."""
        self.room = place.settings.max_sources
        self._place = place
        self._lock = lock
        self._run = run
        self._names = names
        self._how = how
        self._notify = notify
        self._due: list[lock_steps.Step] = []
        self._share: LockRecord | None = None
        self._dead: frozenset[int] = frozenset()
        self._told: dict[str, tuple[int, bool]] = {}
        self._orphans: set[str] = set()
        self._is_stopped = False

    @property
    def wanted(self) -> tuple[str, ...]:
        """All sources that any participant wants."""
        return self._share.wanted if self._share else self._run.builds

    @property
    def is_due(self) -> bool:
        return self._share is None or bool(self._due)

    @property
    def waits(self) -> bool:
        return self._how.waits and bool(self._others())

    def is_any_free(self, busy: Collection[str]) -> bool:
        return bool(self._free(busy))

    def look(self, *, is_idle: bool) -> str:
        while self._due:
            self._lock.update(self._due[0])
            del self._due[0]
        self._share, self._dead = self._lock.look()
        self._tell_of_others()
        if is_idle and self._others():
            self._tell_of_orphans()
        stop = self._share.stop
        return f"{stop.why}, says {stop.by}" if stop else ""

    def claim(self, busy: Collection[str]) -> Claim | None:
        for source in longest_first(self._free(busy), self._place.store.read()):
            number = self._claimed(source)
            if number is None:
                continue
            if not self._is_built_already(source):
                return Claim(number=number, sources=(source,))
            self._complete(source)
        return None

    def claim_again(self, claim: Claim, sources: tuple[str, ...]) -> Claim | None:
        number = self._claimed(sources[0])
        if number is None:
            return None
        return Claim(number=number, sources=sources, attempt=claim.attempt + 1)

    def settle(self, result: ItemResult) -> None:
        """Complete what has its end; what was cancelled is free for others."""
        for source in result.claim.sources or ():
            if result.exit_code == EXIT_DONE or result.failed:
                self._complete(source)
            elif result.exit_code != EXIT_LOCK_LOST:
                self._return(source)

    def stop(self, why: str) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            stop = Stop(at=datetime.now(UTC), by=self._lock.participant.holder.by, why=why)
            self._due.append(lambda share, _: lock_steps.stop_all(share, stop))

    def interrupt(self) -> None:
        if self._how.cancel_all:
            self.stop("cancelled (--cancel-all)")

    def _complete(self, source: str) -> None:
        number = self._lock.participant.number
        self._due.append(lambda share, _: lock_steps.complete(share, source, number))

    def _return(self, source: str) -> None:
        number = self._lock.participant.number
        self._due.append(lambda share, _: lock_steps.return_claim(share, source, number))

    def _claimed(self, source: str) -> int | None:
        """The number of a new claim of `source`; None if another participant has it."""
        number = self._lock.participant.number
        share = self._lock.update(lambda now, dead: lock_steps.claim(now, source, number, dead))
        if share is None:
            self._share, self._dead = self._lock.look()
            return None
        self._share = share
        return share.claims[-1].number

    def _free(self, busy: Collection[str]) -> tuple[str, ...]:
        if self._share is None or self._due:
            return ()
        free = unclaimed(self._share, self._dead, self._lock.participant.number)
        return tuple(name for name in free if name in self._names and name not in busy)

    def _others(self) -> tuple[str, ...]:
        """Sources that other participants, who live, are building."""
        return claimed_by_others(self._share, self._dead, self._lock.participant.number)

    def _is_built_already(self, source: str) -> bool:
        """By a participant that died before it said so; its log is read, and put on record."""
        store = self._place.store
        for item in run_document.unfinished_items(store.read()):
            if item.run == self._run.number and item.sources == (source,):
                reason = f"its machine died; {source} was taken over"
                found = recovery.recover_item(store, self._lock, item, self._notify, reason)
                builds = tuple(found.builds.values())
                self._notify(Recovered(run=self._run, builds=builds))
        build = run_document.builds_of(store.read(), self._run.number, (source,)).get(source)
        return build is not None and build.status is BuildStatus.COMPLETE

    def _tell_of_others(self) -> None:
        state = self._place.store.read()
        for build in run_document.builds_of(state, self._run.number, self.wanted).values():
            if build.item and build.by != self._lock.participant.holder.by:
                news = (build.item, build.status.is_final)
                if self._told.get(build.name) != news:
                    self._notify(Elsewhere(run=self._run.number, build=build))
                self._told[build.name] = news

    def _tell_of_orphans(self) -> None:
        """What is waited for may never end by itself: leftovers of a Packer, say."""
        for each in self._place.store.status().participants:
            member, status = each.participant, each.status
            if status in (Status.HELD, Status.ABANDONED) or member.id in self._orphans:
                continue
            self._orphans.add(member.id)
            text = f"What {member.holder.by} had taken is not free: {each.evidence}."
            hint = f"If it hangs, there: packer-fork force-unlock {member.id} --kill"
            self._notify(Notice(level="warning", text=text, hint=hint))


def claimed_by_others(
    share: LockRecord | None, dead: frozenset[int], member: int
) -> tuple[str, ...]:
    claims = share.claims if share else ()
    return tuple(c.source for c in claims if c.participant not in dead | {member})


def unclaimed(share: LockRecord, dead: frozenset[int], member: int) -> tuple[str, ...]:
    """Sources that somebody wants, and that no other participant who lives has claimed."""
    taken = (*share.done, *claimed_by_others(share, dead, member))
    return tuple(name for name in share.wanted if name not in taken)


def longest_first(names: Iterable[str], state: State | None) -> tuple[str, ...]:
    """By how long they took before, so that none begins late that ends last."""
    known = state.builds if state else {}

    def seconds(name: str) -> float:
        usual = forecast.usual(decode_build(known[name])) if name in known else None
        return UNKNOWN if usual is None else usual

    return tuple(sorted(names, key=seconds, reverse=True))


def open_to_others(lock: HeldLock, run: Run) -> None:
    """Admit others that build the same, now that the run is on record."""
    lock.update(
        lambda share, _: lock_steps.admit(
            share, inputs=run.inputs, run=run.number, wanted=run.builds
        )
    )


def join(context: Context, lock: HeldLock, state: State, names: tuple[str, ...]) -> Run:
    """The run that is under way; sources that nobody wanted yet are added to it.

    Raises StoreError if the state does not know the run.
    """
    share, _ = lock.look()
    text = f"Joined run {share.run}, shared by {len(share.participants)} participants."
    context.notify(Notice(level="info", text=text))
    run = run_document.run_of(state, share.run)
    if run is None:
        raise StoreError(f"Run {share.run} is not in the state.")
    if set(names) - set(share.wanted):
        lock.update(lambda now, _: lock_steps.want(now, names))
    builds = run_document.builds_of(state, run.number, run.builds)
    conclusion.tell_of_start(context, run, builds)
    return run


def warn_of_layers(plan: Plan, names: Collection[str], notify: Notify) -> None:
    """Sources are claimed in any order, whatever reads what."""
    for build in plan.builds:
        makers = [each for each in build.after if each in names]
        if build.name in names and makers:
            text = f"--share may build {build.name} before {makers[0]}, whose artifact it reads"
            hint = "Build again, to be sure, or leave out --share."
            notify(Notice(level="warning", text=f"{text}.", hint=hint))


def carry_out(
    context: Context, lock: HeldLock, run: Run, how: Sharing
) -> tuple[Run, tuple[Build, ...], int]:
    """Build, and wait for others; the run, its builds, and the exit code of this participant."""
    names = [build.name for build in context.plan.builds]
    sources = SharedSources(context.place, lock, run, names, how, context.notify)
    executor = Executor(context, run, sources)
    while True:
        executor.work()
        if executor.is_off_record:
            found = run_document.builds_of(context.place.store.read(), run.number, sources.wanted)
            return run, tuple(found.values()), executor.exit_code(run)
        now, builds = conclude(context, lock, run.number, executor.results)
        # Sources that others add when all was done already are built, or waited for, as well.
        if now.status is not RunStatus.RUNNING or not executor.look_again():
            return now, builds, executor.exit_code(now)


def conclude(
    context: Context, lock: HeldLock, number: int, results: Sequence[ItemResult]
) -> tuple[Run, tuple[Build, ...]]:
    """Wait until run `number` has ended, or end it, unless others go on with it.

    Raises StoreError, LockLostError.
    """
    while True:
        state = context.place.store.read()
        run = run_document.run_of(state, number)
        if run is None:
            raise StoreError(f"Run {number} is not in the state any more.")
        share, dead = lock.look()
        if run.status is not RunStatus.RUNNING or not _is_to_be_ended(
            share, dead, lock.participant.number
        ):
            builds = run_document.builds_of(state, number, share.wanted)
            return run, tuple(builds.values())
        ours = lock.update(lambda now, gone: _concluded(now, gone, lock.participant.number))
        if ours is not None:
            _end(context, run, ours, results)
        else:
            context.watch.wait(_LOOK)


def _concluded(share: LockRecord, dead: frozenset[int], member: int) -> LockRecord | None:
    """The share in the hands of `member`; None if sources were added since it looked done."""
    if not _is_to_be_ended(share, dead, member):
        return None
    return lock_steps.conclude(share, member, dead)


def _is_to_be_ended(share: LockRecord, dead: frozenset[int], member: int) -> bool:
    if lock_steps.is_complete(share) or share.concluded:
        return True
    if claimed_by_others(share, dead, member):
        return False
    is_alone = all(m.number == member or m.number in dead for m in share.participants)
    return is_alone or share.stop is not None


def _end(context: Context, run: Run, share: LockRecord, results: Sequence[ItemResult]) -> None:
    store = context.place.store
    for item in run_document.unfinished_items(store.read()):
        reason = "its machine died before the run had ended"
        recovery.recover_item(store, context.lock, item, context.notify, reason)
    why = f"{share.stop.why}, says {share.stop.by}" if share.stop else ""
    ended = conclusion.judged(context, run, share.wanted, results, why)
    conclusion.put_on_record(context, ended)
    maintenance.after_run(context.place, context.lock, context.notify)


def check(flags: PackerFlags, prepared: Prepared) -> None:
    """Raises UsageError where sources cannot be built one by one, each by another machine."""
    if is_interactive(flags):
        raise UsageError("A Packer that asks (-debug, -on-error=ask) cannot be shared.")
    names = tuple(each.name for each in prepared.outlines)
    if not prepared.is_complete:
        raise UsageError(
            "Packer alone knows the names of all sources, so they cannot be shared.",
            hint="Name those to share with -only, or leave out --share.",
        )
    if len(names) > lock_steps.MOST_SOURCES:
        most = lock_steps.MOST_SOURCES
        raise UsageError(
            f"This template has {len(names)} sources: no more than {most} can be shared.",
            hint="Limit it with -only, or split the template.",
        )
    for name in names:
        if only(prepared, flags, (name,)) is None:
            raise UsageError(
                f"Packer cannot be told to build {name!r} alone, so it cannot be shared.",
                hint="Give each source a name of its own, without a comma.",
            )
