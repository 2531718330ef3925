"""The options of a shared build, and its order: on one machine, as everywhere."""

from __future__ import annotations

import signal
import time
from collections import Counter

import pytest

from tests.conftest import Running, eventually
from tests.support import states
from tests.support.queries import answers, done
from tests.support.shared_site import Machine, Site, template

pytestmark = [pytest.mark.usefixtures("packer"), pytest.mark.timeout(240)]

FEW = ("a", "b", "c")


def few(local: Site, *names: str) -> list[Machine]:
    return local.machines(*names, text=template(names=FEW))


def succeed(*running: Running) -> None:
    ended = [each.wait() for each in running]
    assert [each.rc for each in ended] == [0] * len(ended), ended


def await_told(running: Running, text: str) -> None:
    eventually(lambda: text in running.out(), 30)


def await_seconds(seconds: float) -> None:
    """So that what ends after them took that much longer than what ended before."""
    begun = time.monotonic()
    eventually(lambda: time.monotonic() > begun + seconds)


def test_what_took_longest_is_taken_first(local: Site) -> None:
    """In the median of both runs, which differ: in the first one b took two seconds more than c."""
    (machine,) = few(local, "m1")
    for gates, seconds in (("cba", 2), ("bca", 1)):
        running = machine.start("--rebuild")
        local.await_begun(3, running)
        for name in gates:
            local.open(name)
            await_told(running, f"Build 'null.{name}' finished")
            if name != gates[-1]:
                await_seconds(seconds)
        succeed(running)
        for name in gates:
            (local.folder / name).unlink()
        (local.folder / "journal").unlink()
    local.open()
    succeed(machine.share("--rebuild"))
    assert [source for source, _ in local.began()] == ["a", "b", "c"]


def test_more_than_one_source_at_a_time(local: Site) -> None:
    (machine,) = few(local, "m1")
    running = machine.share("--max-sources", "2")
    local.await_begun(2, running)
    assert len(states.lock(machine.cli)["participants"][0]["sources"]) == 2
    local.open("a")
    local.await_begun(3, running)
    local.open()
    succeed(running)


def test_who_does_not_wait_leaves_when_nothing_is_left(local: Site) -> None:
    first, second = few(local, "m1", "m2")
    running = first.share()
    local.await_begun(1, running)
    leaving = second.share("--no-wait")
    local.await_begun(2, running, leaving)
    local.open("b", "c")
    ended = leaving.wait()
    assert ended.rc == 0, ended
    assert "run 1 running" in ended.err
    assert running.process.poll() is None
    local.open()
    succeed(running)


def test_each_builds_what_it_was_limited_to(local: Site) -> None:
    first, second = few(local, "m1", "m2")
    running = first.share("-only", "null.a")
    local.await_begun(1, running)
    other = second.share("-only", "null.b")
    local.await_begun(2, running, other)
    local.open()
    succeed(running, other)
    assert sorted(local.began()) == [("a", "m1"), ("b", "m2")]
    (entry,) = answers(first.cli, "runs", "t.pkr.hcl")
    assert entry["run"]["builds"] == ["null.a", "null.b"]


def test_what_fails_is_tried_again_where_it_failed(local: Site) -> None:
    (machine,) = local.machines("m1", text=template(names=FEW, fails="b"))
    running = machine.cli.start(
        "build", "--share", "--retries", "3", "t.pkr.hcl", env={"PACKER_FORK_RETRY_PAUSE": "1s"}
    )
    local.await_begun(1, running)
    local.open()
    eventually(lambda: "Attempt 1 of 3 to build again: null.b" in running.err(), 30)
    local.open("mended")
    succeed(running)
    assert Counter(source for source, _ in local.began())["b"] == 2


def test_the_lock_shows_who_builds_what(local: Site) -> None:
    first, second = few(local, "m1", "m2")
    running = [first.share(), second.share()]
    local.await_begun(2, *running)
    watching = first.cli.start("lock", "status", "--watch", "t.pkr.hcl")
    lock = states.lock(first.cli)
    assert [each["status"] for each in lock["participants"]] == ["held", "held"]
    pids = {each["pid"]: each["sources"] for each in lock["participants"]}
    assert set(pids) == {each.pid for each in running}
    assert sorted(source for sources in pids.values() for source in sources) == ["null.a", "null.b"]
    eventually(lambda: "null.b" in watching.out(), 30)
    local.open()
    succeed(*running)
    eventually(lambda: "free" in watching.out(), 30)
    watching.signal(signal.SIGINT)
    watching.wait()


def member(machine: Machine, running: Running) -> str:
    found = {each["pid"]: each["id"] for each in states.lock(machine.cli)["participants"]}
    return str(found[running.pid])


def test_an_operator_ends_one_and_the_others_go_on(local: Site) -> None:
    first, second = few(local, "m1", "m2")
    hangs = first.share()
    local.await_begun(1, hangs)
    running = second.share()
    local.await_begun(2, hangs, running)
    name = member(first, hangs)
    assert first("force-unlock", name, "--yes").rc == 11
    told = first("force-unlock", name, "--yes", "--kill")
    assert told.rc == 0, told
    assert hangs.wait().rc == 143
    assert running.process.poll() is None
    local.open()
    succeed(running)
    assert Counter(source for source, _ in local.began()) == Counter("aabc")


def test_what_an_orphaned_packer_has_is_told_and_can_be_ended(local: Site) -> None:
    """Its packer-fork is gone, and it hangs: who waits for it says so, and what helps."""
    first, second = few(local, "m1", "m2")
    orphaned = first.share()
    local.await_begun(1, orphaned)
    name = member(first, orphaned)
    running = second.share()
    local.await_begun(2, orphaned, running)
    orphaned.signal(signal.SIGKILL)
    orphaned.process.wait()
    local.open("b", "c")
    eventually(lambda: f"packer-fork force-unlock {name} --kill" in running.err(), 30)
    told = first("force-unlock", name, "--yes", "--kill")
    assert told.rc == 0, told
    local.open()
    succeed(running)
    assert Counter(source for source, _ in local.began()) == Counter("aabc")


def test_an_operator_closes_what_one_has_and_its_results_are_late(local: Site) -> None:
    first, second = few(local, "m1", "m2")
    hangs = first.share()
    local.await_begun(1, hangs)
    running = second.share()
    local.await_begun(2, hangs, running)
    told = first("force-unlock", member(first, hangs), "--yes", "--allow-live")
    assert told.rc == 0, told
    local.open("b", "c")
    eventually(lambda: Counter(source for source, _ in local.began())["a"] == 2, 30)
    local.open()
    assert hangs.wait().rc == 13
    succeed(running)
    assert "is unlocked; the lock is held now" in told.err
    (late,) = local.folder.rglob("*.late.json")
    again = first("state", "recover", str(late))
    assert "all were built again since" in again.err
    assert set(states.statuses(first.cli).values()) == {"complete"}


def test_the_next_build_ends_a_run_of_which_nobody_is_left(local: Site) -> None:
    first, second = few(local, "m1", "m2")
    running = [first.share(), second.share()]
    local.await_begun(2, *running)
    for each in running:
        each.signal(signal.SIGKILL)
        each.process.wait()
    local.open()
    eventually(lambda: states.status(first.cli) == "abandoned", 30)
    told = done(first.cli, "build", "--share", "t.pkr.hcl")
    assert "was abandoned by" in told
    assert "recovered run 1" in told
    # Packer finished what both had begun, but no process observed what it read.
    assert Counter(source for source, _ in local.began()) == Counter("aabbc")
    assert set(states.statuses(first.cli).values()) == {"complete"}
    assert states.unfinished(first.cli) == []


def test_the_logs_of_all_parts_are_shown(local: Site) -> None:
    (machine,) = few(local, "m1")
    local.open()
    succeed(machine.share())
    shown = machine("logs", "--run", "1")
    assert [f"Build 'null.{name}' finished" in shown.out for name in FEW] == [True] * 3


def test_a_template_whose_sources_cannot_be_told_apart_is_not_shared(local: Site) -> None:
    text = """
        source "null" "x" { communicator = "none" }
        build { sources = ["null.x"] }
        build { sources = ["null.x"] }
    """
    (machine,) = local.machines("m1", text=text)
    ended = machine.share().wait()
    assert ended.rc == 2, ended
    assert "Packer cannot be told to build 'null.x' alone, so it cannot be shared" in ended.err


def test_sources_whose_names_packer_alone_knows_are_not_shared(local: Site) -> None:
    text = """
        source "null" "x" { communicator = "none" }
        build {
          sources = ["null.x"]
          dynamic "source" {
            for_each = ["y"]
            labels   = ["null.x"]
            content { name = source.value }
          }
        }
    """
    (machine,) = local.machines("m1", text=text)
    ended = machine.share().wait()
    assert (ended.rc, "Packer alone knows the names" in ended.err) == (2, True), ended


def test_options_of_sharing_are_for_shared_builds(local: Site) -> None:
    (machine,) = few(local, "m1")
    for option in (("--no-wait",), ("--cancel-all",), ("--max-sources", "2")):
        ended = machine.start(*option).wait()
        assert (ended.rc, "these are for --share alone" in ended.err) == (2, True)
