"""The queue of the local lock, with real processes: order, deaths, and no overtaking."""

import os
import signal

import pytest

from packer_fork.locks import Status
from packer_fork.stores.local import queue
from packer_fork.stores.local.layout import Layout
from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.local_store import holder, open_store
from tests.support.stage import Player, Stage
from tests.support.store_operations import lock_of
from tests.support.templates import GATED, begun, go_on


def waiting(stage: Stage) -> int:
    return len(queue.live(Layout(stage.folder)))


def line_up(stage: Stage, number: int) -> tuple[Player, list[Player]]:
    """One that has the lock, and many that wait for it, in the order in which they came."""
    first, *others = stage.crowd(number + 1)
    assert first.ask("take")["lock"] == 1
    for place, player in enumerate(others):
        assert player.ask("join") == {"ahead": place}
        player.tell("queue")
    return first, others


def serve(players: list[Player]) -> list[int]:
    """Their locks, each closed before the next one is heard."""
    locks, last = [], 0
    for player in players:
        got = player.answer()
        assert got["got"] > last, "it had the lock before the one ahead gave it back"
        locks.append(got["lock"])
        last = player.ask("close")["at"]
    return locks


def test_waiters_are_served_in_the_order_in_which_they_came(stage: Stage) -> None:
    first, others = line_up(stage, 20)
    waiters = first.ask("status")["waiters"]
    assert [waiter["holder"]["process"]["pid"] for waiter in waiters] == [p.pid for p in others]
    first.ask("close")
    assert serve(others) == list(range(2, 22))
    assert waiting(stage) == 0


def test_a_later_round_comes_behind_an_earlier_one(stage: Stage) -> None:
    first, (second, third) = line_up(stage, 2)
    first.ask("close")
    assert second.answer()["lock"] == 2
    assert first.ask("join") == {"ahead": 1}, "the third was there before"
    first.tell("queue")
    second.ask("close")
    assert serve([third, first]) == [3, 4]


@pytest.mark.parametrize("victims", [[0], [3], [5], [0, 1, 2], [1, 3], [0, 2, 4, 5]])
def test_a_killed_waiter_blocks_nobody_and_lets_nobody_pass(
    stage: Stage, victims: list[int]
) -> None:
    first, others = line_up(stage, 6)
    dead = [others[index] for index in victims]
    for player in dead:
        player.kill()
    rest = [player for player in others if player not in dead]
    assert waiting(stage) == len(rest)
    first.ask("close")
    assert serve(rest) == list(range(2, 2 + len(rest)))


def test_all_die_but_the_last(stage: Stage) -> None:
    first, others = line_up(stage, 5)
    for player in [*others[:-1], first]:
        player.kill()
    got = others[-1].answer()
    assert (got["lock"], got["replaced"]) == (2, "abandoned")


def test_a_killed_holder_is_followed_by_the_first_in_the_queue(stage: Stage) -> None:
    first, others = line_up(stage, 3)
    first.kill()
    got = others[0].answer()
    assert (got["lock"], got["replaced"]) == (2, "abandoned")
    others[0].kill()
    got = others[1].answer()
    assert (got["lock"], got["replaced"]) == (3, "abandoned")
    others[1].ask("close")
    assert others[2].answer()["replaced"] is None


def test_a_dead_holder_keeps_the_lock_while_its_packer_lives(stage: Stage) -> None:
    first, (second,) = line_up(stage, 1)
    packer = stage.packer(first)
    first.kill()
    assert open_store(stage.folder).status().status is Status.ORPHANED
    os.kill(packer, signal.SIGKILL)
    assert second.answer()["replaced"] == "abandoned"


def test_nobody_passes_those_who_wait(stage: Stage) -> None:
    first, (stopped,) = line_up(stage, 1)
    passer = stage.enter()
    stopped.freeze()
    first.ask("close")
    assert passer.ask("take")["refused"] == "free"
    assert passer.ask("join") == {"ahead": 1}
    assert passer.ask("take")["refused"] == "free"
    stopped.signal(signal.SIGCONT)
    assert serve([stopped]) == [2]
    assert passer.ask("take")["lock"] == 3


def test_a_stopped_waiter_keeps_its_place_until_it_goes_on_or_dies(stage: Stage) -> None:
    """It lives, so those behind wait, and the lock's status shows for whom."""
    first, others = line_up(stage, 4)
    for player in others[:2]:
        player.freeze()
    first.ask("close")
    status = open_store(stage.folder).status()
    assert status.status is Status.FREE
    assert status.waiters[0].holder is not None
    assert status.waiters[0].holder.process.pid == others[0].pid
    others[0].kill()
    others[1].signal(signal.SIGCONT)
    assert serve(others[1:]) == [2, 3, 4]


def test_who_leaves_is_gone_at_once(stage: Stage) -> None:
    first, (second,) = line_up(stage, 1)
    third, fourth = stage.crowd(2)
    assert third.ask("join") == {"ahead": 1}
    assert fourth.ask("join") == {"ahead": 2}
    third.ask("leave")
    assert fourth.ask("place") == {"place": 1}
    first.ask("close")
    assert serve([second]) == [2]
    assert fourth.ask("take")["lock"] == 3


def test_a_dead_ticket_is_swept(stage: Stage) -> None:
    first, others = line_up(stage, 3)
    for player in others:
        player.kill()
    assert len(queue.numbers(Layout(stage.folder))) == 3
    first.ask("close")
    assert first.ask("take")["lock"] == 2, "the dead are no queue"
    assert queue.numbers(Layout(stage.folder)) == []


def test_number_of_a_ticket_that_was_served_is_not_given_again(stage: Stage) -> None:
    """Also after a lock that came without a ticket."""
    store = open_store(stage.folder)
    numbers = []
    for _ in range(2):
        for _ in range(2):
            ticket = store.join_queue(holder("waits"))
            assert isinstance(ticket, queue.Ticket)
            numbers.append(ticket.number)
            with lock_of(store, ticket=ticket):
                pass
        with lock_of(store):
            pass
    assert numbers == [1, 2, 3, 4]


def test_what_is_waited_for_in_vain_wakes_but_once(stage: Stage) -> None:
    """Who may not take over an abandoned lock sleeps on, until somebody unlocks it."""
    first, waiter, operator = stage.crowd(3)
    lock_id = first.ask("take")["id"]
    waiter.ask("join")
    first.kill()
    assert waiter.ask("take", "none") == {"refused": "abandoned", "id": lock_id}
    waiter.ask("wait", "5")  # may come back at once, to look again
    assert waiter.ask("take", "none")["refused"] == "abandoned"
    assert waiter.ask("wait", "0.3")["waited"] >= 0.3
    waiter.tell("wait", "60")
    assert operator.ask("take", "any", lock_id)["lock"] == 2
    waiter.answer()
    assert waiter.ask("take", "none")["refused"] == "held"


def test_waiters_of_a_closed_lock_go_on_although_its_holder_lives(stage: Stage) -> None:
    first, others = line_up(stage, 3)
    operator = stage.enter()
    lock_id = open_store(stage.folder).status().id
    assert operator.ask("take", "any", lock_id)["replaced"] == "held"
    assert first.ask("commit", "late")["error"] == "LockLostError"
    operator.ask("close")
    assert serve(others) == [3, 4, 5]
    assert first.ask("commit", "later")["error"] == "LockLostError"


def test_an_operator_gets_only_the_lock_that_was_named(stage: Stage) -> None:
    first, (second,) = line_up(stage, 1)
    operator = stage.enter()
    assert operator.ask("take", "any", "another")["refused"] == "held"
    first.ask("close")
    second.answer()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("packer")
def test_a_cancelled_build_leaves_the_queue(
    cli: Cli, project: Project, number: signal.Signals
) -> None:
    project.write("t.pkr.hcl", GATED)
    first = begun(cli, project, "t.pkr.hcl")
    second = cli.start("build", "--lock-timeout", "5m", "t.pkr.hcl")
    eventually(lambda: f"pid {first.pid}" in second.err())
    layout = Layout(states.folder(project.root))
    assert len(queue.live(layout)) == 1
    second.signal(number)
    assert second.wait().rc == 128 + number
    assert queue.numbers(layout) == []
    go_on(project.root)
    assert first.wait().rc == 0
