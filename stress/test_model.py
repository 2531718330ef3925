"""Random work on one state, each step judged by a simple model of what must come of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import ClassVar

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from packer_fork.manager.lock.unlock import How
from packer_fork.stores.archive import history
from stress.conftest import Say
from stress.operating import Document, Operated
from stress.scale import Scale
from tests.support.local_states import flip

EXAMPLES, STEPS = 15, 25
"""At the smallest scale."""

_NAMES = st.sets(st.sampled_from("abc"), min_size=1).map(lambda names: tuple(sorted(names)))
_FAILING = st.frozensets(st.sampled_from("abc"), max_size=1)
_ANY = st.integers(min_value=0, max_value=1 << 16)
_WAYS = st.sampled_from((How(), How(if_abandoned=True), How(allow_live=True)))


def _is_idle(machine: Working) -> bool:
    """Nobody lives who holds the lock, or held it."""
    return not machine.work.is_locked and not machine.work.lost


def _has_state(machine: Working) -> bool:
    return bool(machine.work.expected.kept)


def _is_held(machine: Working) -> bool:
    holder = machine.work.holder
    return holder is not None and bool(holder.pid)


def _is_orphaned(machine: Working) -> bool:
    return machine.work.holder is not None and not _is_held(machine)


class Working(RuleBasedStateMachine):
    """One state, from before its first build on; ``done`` counts what was done to all."""

    done: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="pf-model-")
        self.work = Operated(Path(self._folder.name))

    def teardown(self) -> None:
        self.work.close()
        self._folder.cleanup()

    def _count(self, what: str) -> None:
        self.done[what] += 1

    @rule(names=_NAMES, failing=_FAILING)
    def build(self, names: tuple[str, ...], failing: frozenset[str]) -> None:
        self._count("builds")
        self.work.build(names, failing)

    @precondition(lambda machine: not machine.work.is_locked)
    @rule(
        names=_NAMES,
        failing=_FAILING,
        folded=st.integers(min_value=0, max_value=10),
        more=st.integers(min_value=0, max_value=10),
        packer=st.booleans(),
    )
    def begin(
        self,
        names: tuple[str, ...],
        failing: frozenset[str],
        folded: int,
        more: int,
        *,
        packer: bool,
    ) -> None:
        self._count("runs begun")
        self.work.begin(names, failing, folded=folded, more=more, packer=packer)

    @precondition(lambda machine: not machine.work.is_locked)
    @rule(
        names=_NAMES,
        folded=st.integers(min_value=0, max_value=10),
        more=st.integers(min_value=0, max_value=10),
        packer=st.booleans(),
    )
    def begin_and_die(
        self, names: tuple[str, ...], folded: int, more: int, *, packer: bool
    ) -> None:
        self._count("kills")
        self.work.begin(names, frozenset(), folded=folded, more=more, packer=packer)
        self.work.kill()

    @precondition(_is_held)
    @rule()
    def finish(self) -> None:
        self.work.finish()

    @precondition(_is_held)
    @rule()
    def kill(self) -> None:
        self._count("kills")
        self.work.kill()

    @precondition(_is_orphaned)
    @rule()
    def kill_packer(self) -> None:
        self.work.kill_packer()

    @precondition(lambda machine: machine.work.status != "free")
    @rule(how=_WAYS)
    def force_unlock(self, how: How) -> None:
        self._count("unlocks")
        self.work.force_unlock(how)

    @precondition(lambda machine: any(each.pid for each in machine.work.lost))
    @rule()
    def finish_lost(self) -> None:
        self._count("late results")
        alive = [index for index, each in enumerate(self.work.lost) if each.pid]
        self.work.finish_lost(alive[0])

    @precondition(lambda machine: machine.work.lost)
    @rule(which=_ANY)
    def kill_lost(self, which: int) -> None:
        self.work.kill_lost(which % len(self.work.lost))

    @precondition(_has_state)
    @rule()
    def recover(self) -> None:
        self.work.recover()

    @precondition(_has_state)
    @rule(which=_ANY)
    def rollback(self, which: int) -> None:
        self._count("rollbacks")
        kept = self.work.expected.kept
        self.work.rollback(kept[which % len(kept)])

    @precondition(_has_state)
    @rule(keep=st.integers(min_value=1, max_value=4))
    def prune(self, keep: int) -> None:
        self._count("prunes")
        self.work.prune(keep)

    @precondition(_has_state)
    @rule(way=st.sampled_from(("back_up", "back_up_in_file", "pull", "compact")))
    def keep(self, way: str) -> None:
        self._count(way)
        getattr(self.work, way)()

    @precondition(lambda machine: _has_state(machine) and machine.work.backups())
    @rule(which=_ANY)
    def restore(self, which: int) -> None:
        self._count("restores")
        self.work.restore(_one_of(self.work.backups(), which))

    @precondition(lambda machine: machine.work.pulled)
    @rule(which=_ANY, force=st.booleans())
    def push(self, which: int, *, force: bool) -> None:
        self._count("pushes")
        self.work.push(_one_of(self.work.pulled, which), force=force)

    @precondition(lambda machine: machine.work.late)
    @rule(which=_ANY)
    def replay(self, which: int) -> None:
        self._count("replays")
        self.work.replay(which % len(self.work.late))

    @precondition(lambda machine: _is_idle(machine) and _has_state(machine))
    @rule(
        place=st.floats(min_value=0, max_value=1, exclude_max=True),
        bit=st.integers(min_value=0, max_value=7),
        which=_ANY,
        restores=st.booleans(),
    )
    def damage(self, place: float, bit: int, which: int, *, restores: bool) -> None:
        self._count("damages")
        backups = self.work.bundles
        given = _one_of(backups, which) if restores and backups else None
        self.work.damage(place, bit, restores=given)

    @invariant()
    def is_as_expected(self) -> None:
        self._count("steps")
        self.work.look()


def _one_of(documents: list[Document], which: int) -> Document:
    return documents[which % len(documents)]


@pytest.mark.timeout(3600)
def test_a_state_is_what_the_model_says(
    pytestconfig: pytest.Config, scale: Scale, monkeypatch: pytest.MonkeyPatch, figure: Say
) -> None:
    monkeypatch.setattr(history, "SEGMENT_SIZE", 3000)  # many segments of a short history
    Working.done.clear()
    run_state_machine_as_test(
        hypothesis.seed(pytestconfig.getoption("--seed"))(Working),
        settings=settings(
            max_examples=EXAMPLES * scale.times,
            stateful_step_count=STEPS * (1 if scale.times == 1 else 2),
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # shrinking takes minutes, and the steps are printed anyway
            print_blob=False,
        ),
    )
    for what, count in sorted(Working.done.items()):
        figure(what, count, "times")


def test_a_serial_is_not_given_out_again_where_the_witness_cannot_be_read(tmp_path: Path) -> None:
    work = Operated(tmp_path)
    work.build(("a",), frozenset())
    work.look()
    work.back_up_in_file()
    work.build(("b",), frozenset())
    work.look()
    flip(work.layout.acked, 0)
    work.restores_over(work.bundles[0])


def test_damage_of_history_that_only_a_backup_names_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SEGMENT_SIZE", 1)
    work = Operated(tmp_path)
    for name in "abc":
        work.build((name,), frozenset())
        work.look()
    work.back_up()
    work.look()
    work.build(("a",), frozenset())
    work.look()
    work.prune(1)
    work.look()
    named = {sealed.segment for sealed in history.chain(work.layout, work.read())}
    pinned = [path for path in work.layout.history.iterdir() if path.stem not in named]
    assert pinned, "the backup should keep what was pruned"
    flip(pinned[0], 100)
    assert [each.file for each in work.place.store.verify().problems] == [str(pinned[0])]
