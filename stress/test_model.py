"""Random work on one state, each step judged by a simple model of what must come of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from packer_fork.manager.lock.unlock import How
from packer_fork.stores.archive import history
from stress.conftest import Say
from stress.operating import Operated
from stress.scale import Scale
from tests.support.local_states import flip

WALKS, STEPS = 15, 25
"""At the smallest scale."""

Arguments = Mapping[str, object]


class Step(NamedTuple):
    """One thing that can be done to a state: the name and the arguments of a method of Operated."""

    method: str
    is_possible: Callable[[Operated], bool]
    arguments: Callable[[Operated, random.Random], Arguments]


def _always(_: Operated) -> bool:
    return True


def _has_state(work: Operated) -> bool:
    return bool(work.expected.kept)


def _is_idle(work: Operated) -> bool:
    """Nobody lives who holds the lock, or held it."""
    return not work.is_locked and not work.lost


def _is_held(work: Operated) -> bool:
    return work.holder is not None and bool(work.holder.pid)


def _is_orphaned(work: Operated) -> bool:
    return work.holder is not None and not _is_held(work)


def _living(work: Operated) -> list[int]:
    return [index for index, each in enumerate(work.lost) if each.pid]


def _finishes_lost(work: Operated, chance: random.Random) -> Arguments:
    return {"index": chance.choice(_living(work))}


def _none(_: Operated, __: random.Random) -> Arguments:
    return {}


def _builds(_: Operated, chance: random.Random) -> Arguments:
    names = sorted(chance.sample("abc", chance.randint(1, 3)))
    return {"names": tuple(names), "failing": frozenset(chance.sample("abc", chance.randint(0, 1)))}


def _begins(work: Operated, chance: random.Random) -> Arguments:
    output = {"folded": chance.randint(0, 10), "more": chance.randint(0, 10)}
    return {**_builds(work, chance), **output, "packer": chance.random() < 0.5}


def _damages(work: Operated, chance: random.Random) -> Arguments:
    restores = chance.choice([None, chance.choice(work.bundles)]) if work.bundles else None
    return {"place": chance.random(), "bit": chance.randrange(8), "restores": restores}


STEPS_OF_A_WALK = (
    Step("build", _always, _builds),
    Step("begin", lambda work: not work.is_locked, _begins),
    Step("begin_and_die", lambda work: not work.is_locked, _begins),
    Step("finish", _is_held, _none),
    Step("kill", _is_held, _none),
    Step("kill_packer", _is_orphaned, _none),
    Step(
        "force_unlock",
        lambda work: work.status != "free",
        lambda _, chance: {
            "how": chance.choice([How(), How(if_abandoned=True), How(allow_live=True)])
        },
    ),
    Step("finish_lost", lambda work: bool(_living(work)), _finishes_lost),
    Step(
        "kill_lost",
        lambda work: bool(work.lost),
        lambda work, chance: {"index": chance.randrange(len(work.lost))},
    ),
    Step("recover", _has_state, _none),
    Step(
        "rollback",
        _has_state,
        lambda work, chance: {"serial": chance.choice(work.expected.kept)},
    ),
    Step("prune", _has_state, lambda _, chance: {"keep": chance.randint(1, 4)}),
    Step("back_up", _has_state, _none),
    Step("back_up_in_file", _has_state, _none),
    Step("pull", _has_state, _none),
    Step("compact", _has_state, _none),
    Step(
        "restore",
        lambda work: _has_state(work) and bool(work.backups()),
        lambda work, chance: {"document": chance.choice(work.backups())},
    ),
    Step(
        "push",
        lambda work: bool(work.pulled),
        lambda work, chance: {
            "document": chance.choice(work.pulled),
            "force": chance.random() < 0.5,
        },
    ),
    Step(
        "replay",
        lambda work: bool(work.late),
        lambda work, chance: {"index": chance.randrange(len(work.late))},
    ),
    Step("damage", lambda work: _is_idle(work) and _has_state(work), _damages),
)


@pytest.mark.timeout(3600)
def test_a_state_is_what_the_model_says(
    pytestconfig: pytest.Config,
    scale: Scale,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    figure: Say,
) -> None:
    monkeypatch.setattr(history, "SEGMENT_SIZE", 3000)  # many segments of a short history
    done = Counter[str]()
    for number in range(WALKS * scale.times):
        print(f"walk {number}")
        chance = random.Random(f"{pytestconfig.getoption('--seed')} {number}")
        length = STEPS * (1 if scale.times == 1 else 2)
        (folder := tmp_path / str(number)).mkdir()
        done += _walk(Operated(folder), chance, length)
    for method, count in sorted(done.items()):
        figure(method, count, "times")


def _walk(work: Operated, chance: random.Random, length: int) -> Counter[str]:
    """From before its first build on; each step is printed for the report of a failure."""
    done = Counter[str]()
    try:
        work.look()
        for _ in range(length):
            step = chance.choice([each for each in STEPS_OF_A_WALK if each.is_possible(work)])
            arguments = step.arguments(work, chance)
            print(step.method, dict(arguments))
            getattr(work, step.method)(**arguments)
            work.look()
            done[step.method] += 1
    finally:
        work.close()
    return done


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
