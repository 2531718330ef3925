"""A shared run where two meet at one moment: joining it, opening it, ending it."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from packer_fork import lock_steps
from packer_fork.codec.builds import decode_build
from packer_fork.config import Settings
from packer_fork.errors import LockedError, StoreError
from packer_fork.events import Elsewhere, Event, RunEnded
from packer_fork.inputs.cache import DigestCache
from packer_fork.inputs.declared import Declared
from packer_fork.inputs.record import Inputs, template_inputs
from packer_fork.lock_steps import MOST_PARTICIPANTS
from packer_fork.locks import Holder, LockRecord, LockStatus, Stop, Wait
from packer_fork.manager import state_ref
from packer_fork.manager.build import admission, executor, planning, run_document, shared_run
from packer_fork.manager.build.invocation import build
from packer_fork.manager.build.log_files import LogFiles
from packer_fork.manager.build.observing import Observers
from packer_fork.manager.build.plan import Plan
from packer_fork.manager.build.prepare import BuildRequest, PlanningContext, prepare
from packer_fork.manager.build.shared_run import Sharing
from packer_fork.manager.build.work_item import Context
from packer_fork.manager.state.operation import ensure_state
from packer_fork.manager.state_ref import StateFolder, StateRef
from packer_fork.model import Build, BuildStatus, PendingChange, Run, RunStatus, State, WorkItem
from packer_fork.packer.flags import take
from packer_fork.packer.signals import SignalWatch
from packer_fork.stores.base import Committed, HeldLock
from packer_fork.stores.local.held_lock import LocalLock
from packer_fork.stores.local.store import LocalStore
from tests.conftest import Cli, Project
from tests.support import local_states, raw_log
from tests.support.local_store import holder, open_store
from tests.support.queries import ONE

DECLARED = Declared(
    inputs=template_inputs({"a": ({}, Inputs(entries={"packer ": "1.6.6"}))}),
    root="/",
    folders=frozenset(),
    files={},
    loaded=frozenset(),
    evaluated=frozenset(),
    manifests={},
    named=lambda _: frozenset(),
    provenance={},
    said=lambda _: "",
    artifacts={},
    makes=lambda _build, _path: False,
    is_ignored=lambda _: False,
    is_output=lambda _: False,
    cache=DigestCache(None),
    planned=lambda _: None,
)


def test_a_plan_of_other_inputs_than_the_run_is_refused(tmp_path: Path) -> None:
    member = local_states.open_store(tmp_path / "t" / "default").try_acquire(
        holder("first"), max_participants=MOST_PARTICIPANTS
    )
    assert not isinstance(member, LockStatus)
    with contextlib.closing(member):
        fingerprint, declared = DECLARED.inputs.fingerprint, DECLARED
        member.update(lambda s, _: lock_steps.admit(s, inputs=fingerprint, run=1, wanted=("a",)))
        admission.check(member, Plan(builds=(), fingerprint=fingerprint, declared=declared))
        with pytest.raises(LockedError, match="changed here while run 1 was joined"):
            admission.check(member, Plan(builds=(), fingerprint="another", declared=declared))


@pytest.fixture
def place(project: Project) -> StateRef:
    folder = StateFolder(project.root / ".packer-fork", "t.pkr.hcl", "default")
    return StateRef(folder, open_store(folder.folder), Settings())


@pytest.fixture
def request_to_share(cli: Cli, project: Project, monkeypatch: pytest.MonkeyPatch) -> BuildRequest:
    """Of a build in this process, in the project."""
    project.write("t.pkr.hcl", ONE)
    monkeypatch.chdir(project.root)
    for name in ("HOME", "TMPDIR", "PACKER_CACHE_DIR", "XDG_CACHE_HOME", "CHECKPOINT_DISABLE"):
        monkeypatch.setenv(name, cli.environment[name])
    return BuildRequest(
        template="t.pkr.hcl", flags=take(())[0], settings={}, environ=dict(os.environ)
    )


def ignore(_: Event) -> None:
    """These tests check results, not messages."""


@contextlib.contextmanager
def first(place: StateRef) -> Iterator[HeldLock]:
    found = place.store.try_acquire(holder("first"), max_participants=MOST_PARTICIPANTS)
    assert not isinstance(found, LockStatus)
    with contextlib.closing(found):
        yield found


def joined(place: StateRef, member: HeldLock, inputs: str) -> HeldLock:
    found = place.store.join(holder("second"), lock_id=member.record.id, inputs=inputs)
    assert found is not None
    return found


def fingerprint_of(request: BuildRequest, place: StateRef, state: State) -> str:
    template = state_ref.find_template(request.template)
    prepared = prepare(template, request.flags, place.settings, request.environ)
    context = PlanningContext(
        template=template,
        flags=request.flags,
        place=place,
        environ=request.environ,
        state=state,
        notify=ignore,
    )
    made = planning.make_plan(context, prepared)
    return made.fingerprint


@pytest.mark.usefixtures("packer")
def test_inputs_that_change_while_a_run_is_joined_are_not_built_in_it(
    request_to_share: BuildRequest,
    project: Project,
    place: StateRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    join = LocalStore.join

    def join_and_edit(
        store: LocalStore, asking: Holder, *, lock_id: str, inputs: str
    ) -> HeldLock | None:
        found = join(store, asking, lock_id=lock_id, inputs=inputs)
        assert found is not None
        project.write("t.pkr.hcl", ONE.replace('default = "1"', 'default = "other"'))
        return found

    monkeypatch.setattr(LocalStore, "join", join_and_edit)
    with first(place) as member:
        inputs = fingerprint_of(request_to_share, place, ensure_state(place, member))
        member.update(
            lambda share, _: lock_steps.admit(share, inputs=inputs, run=1, wanted=("null.n",))
        )
        with pytest.raises(LockedError, match="changed here while run 1 was joined"):
            build(request_to_share, ignore, Sharing())
        share, _ = member.look()
        assert ([each.number for each in share.participants], share.claims) == ([1], ())


@pytest.mark.usefixtures("packer")
def test_run_is_open_to_others_only_once_it_is_on_record(
    request_to_share: BuildRequest, place: StateRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = LocalLock.commit
    in_the_gap: list[HeldLock | None] = []

    def fail_to_start(member: LocalLock, draft: PendingChange) -> Committed:
        if draft.operation != "start":
            return commit(member, draft)
        assert draft.last_run is not None
        in_the_gap.append(
            place.store.join(
                holder("second"), lock_id=member.record.id, inputs=draft.last_run.inputs
            )
        )
        raise StoreError("The store is away.")

    monkeypatch.setattr(LocalLock, "commit", fail_to_start)
    with pytest.raises(StoreError, match="is away"):
        build(request_to_share, ignore, Sharing())
    assert in_the_gap == [None]


@pytest.mark.usefixtures("packer")
def test_each_step_of_a_run_is_on_record_before_others_act_on_it(
    request_to_share: BuildRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, update = LocalLock.commit, LocalLock.update
    steps: list[str] = []

    def noted_commit(member: LocalLock, draft: PendingChange) -> Committed:
        made = commit(member, draft)
        if draft.operation != "progress":
            steps.append(draft.operation)
        return made

    def noted_update(member: LocalLock, step: lock_steps.Step) -> LockRecord | None:
        after = update(member, step)
        if after is not None:
            steps.append(state_of_share(after))
        return after

    monkeypatch.setattr(LocalLock, "commit", noted_commit)
    monkeypatch.setattr(LocalLock, "update", noted_update)
    monkeypatch.setattr(executor, "_LOOK", 0.0)  # what is due too early is handed in at once
    assert build(request_to_share, ignore, Sharing()) == 0
    order = [step for step, _ in itertools.groupby(steps)]
    assert order == [
        *("create", "start", "is open", "is claimed", "begin", "is claimed"),
        *("end", "is done", "is concluded", "finish"),
    ]


@pytest.mark.usefixtures("packer")
def test_source_that_is_added_at_the_very_end_is_waited_for(
    request_to_share: BuildRequest, place: StateRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    conclude = shared_run.conclude
    seconds: list[HeldLock] = []
    ended: list[int | None] = []
    items: list[WorkItem] = []

    def overtaken(*how: Any) -> tuple[Run, tuple[Build, ...]]:
        if not seconds:
            run = state_of(place).last_run
            assert run is not None
            lock = place.store.status().id
            second = place.store.join(holder("second"), lock_id=lock, inputs=run.inputs)
            assert second is not None
            seconds.append(second)
            added(second, "null.more")
            items.append(begun_item(second, run, "null.more"))
        return conclude(*how)

    def complete(event: Event) -> None:
        if isinstance(event, Elsewhere) and event.build.status is BuildStatus.CREATING:
            (second,) = seconds
            build = structs.replace(event.build, status=BuildStatus.COMPLETE)
            status, now = RunStatus.COMPLETE, datetime.now(UTC)
            item = structs.replace(items[0], status=status, ended=now, exit_code=0)
            second.commit(PendingChange(operation="end", items=(item,), builds={build.name: build}))
            second.update(
                lambda share, _: lock_steps.complete(share, build.name, second.participant.number)
            )
            second.close()
        if isinstance(event, RunEnded):
            ended.append(event.run.exit_code)

    monkeypatch.setattr(shared_run, "conclude", overtaken)
    assert build(request_to_share, complete, Sharing()) == 0
    assert ended[-1:] == [0]
    assert statuses(place) == {"null.n": "complete", "null.more": "complete"}


def state_of_share(share: LockRecord) -> str:
    if share.concluded:
        return "is concluded"
    if share.done:
        return "is done"
    return "is claimed" if share.claims else "is open"


INPUTS = "f" * 64


def pending(number: int, *names: str) -> dict[str, Build | None]:
    return {name: Build(name=name, run=number) for name in names}


def begun_run(member: HeldLock, *names: str) -> Run:
    """Run 1 of these sources, on record, and open to others."""
    run = Run(
        number=1,
        token=member.record.token,
        started=datetime.now(UTC),
        by=member.participant.holder.by,
        builds=names,
    )
    member.commit(PendingChange(operation="start", last_run=run, builds=pending(1, *names)))
    member.update(lambda share, _: lock_steps.admit(share, inputs=INPUTS, run=1, wanted=names))
    return run


def begun_item(member: HeldLock, run: Run, source: str) -> WorkItem:
    """A source of `run` that `member` has taken, and whose Packer is on record."""
    share = member.update(
        lambda s, dead: lock_steps.claim(s, source, member.participant.number, dead)
    )
    assert share is not None
    number = share.claims[-1].number
    item = WorkItem(
        run=run.number,
        number=number,
        token=run.token,
        started=datetime.now(UTC),
        by=run.by,
        sources=(source,),
    )
    build = Build(name=source, run=run.number, item=number, status=BuildStatus.CREATING)
    member.commit(PendingChange(operation="begin", items=(item,), builds={source: build}))
    return item


def added(member: HeldLock, source: str) -> None:
    """What a joiner does that wants more than the run has."""
    assert member.update(lambda share, _: lock_steps.want(share, (source,)))


def state_of(place: StateRef) -> State:
    state = place.store.read()
    assert state is not None
    return state


def context(place: StateRef, member: HeldLock, watch: SignalWatch) -> Context:
    """Of a participant that has nothing more to build, and so needs no Packer."""
    return Context(
        request=BuildRequest(template="", flags=take(())[0], settings={}, environ={}),
        place=place,
        prepared=None,  # type: ignore[arg-type]
        plan=None,  # type: ignore[arg-type]
        lock=member,
        wait=Wait(),
        observers=Observers(ignore),
        watch=watch,
        notify=ignore,
    )


def statuses(place: StateRef) -> dict[str, str]:
    return {name: decode_build(raw).status for name, raw in state_of(place).builds.items()}


def test_run_that_was_stopped_ends_with_the_part_of_a_dead_member(place: StateRef) -> None:
    """No participant takes the source over, so the one that ends the run reads its log."""
    with first(place) as member, SignalWatch() as watch:
        run = begun_run(member, "a", "b")
        second = joined(place, member, INPUTS)
        item = begun_item(second, run, "a")
        second.close()
        files = LogFiles(place.store.logs, item.key)
        files.keep_secrets(())
        files.raw.write_bytes(raw_log.of_complete("a"))
        stop = Stop(at=datetime.now(UTC), by=run.by, why="b failed")
        member.update(lambda share, _: lock_steps.stop_all(share, stop))
        ended, _ = shared_run.conclude(context(place, member, watch), member, 1, ())
    assert ended.status is RunStatus.CANCELLED
    assert statuses(place) == {"a": "complete", "b": "cancelled"}
    assert run_document.unfinished_items(state_of(place)) == ()
    assert not files.raw.exists()


def test_source_that_is_added_while_a_run_is_about_to_end_is_not_lost(
    place: StateRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    with first(place) as member, SignalWatch() as watch:
        run = begun_run(member, "a")
        second = joined(place, member, INPUTS)
        member.update(lambda share, _: lock_steps.complete(share, "a", member.participant.number))
        look = member.look

        def look_and_be_overtaken() -> tuple[LockRecord, frozenset[int]]:
            monkeypatch.undo()
            seen = look()
            added(second, "b")
            return seen

        monkeypatch.setattr(member, "look", look_and_be_overtaken)
        now, _ = shared_run.conclude(context(place, member, watch), member, 1, ())
        assert now.status is RunStatus.RUNNING
        assert member.look()[0].wanted == ("a", "b")
        assert state_of(place).last_run == run
        assert second.update(
            lambda s, dead: lock_steps.claim(s, "b", second.participant.number, dead)
        )
        second.close()
