"""One template, built together: by processes of one machine, or by machines of a team."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.conftest import eventually
from tests.support import states
from tests.support.queries import answers
from tests.support.shared_site import NAMES, SOURCES, Machine, Site, results, template

pytestmark = [pytest.mark.usefixtures("packer"), pytest.mark.timeout(240)]

FEW = ("a", "b", "c")
FEW_SOURCES = tuple(f"null.{name}" for name in FEW)


def on(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("site", kinds, indirect=True)


def statuses(machine: Machine) -> dict[str, str]:
    return states.statuses(machine.cli)


def is_complete(machine: Machine, sources: tuple[str, ...] = SOURCES) -> bool:
    return statuses(machine) == dict.fromkeys(sources, "complete")


@on("consul")
def test_each_source_is_built_once_and_all_show_the_same(site: Site) -> None:
    machines = site.machines("m1", "m2", "m3")
    running = [machine.share() for machine in machines]
    site.await_begun(3, *running)
    site.open()
    ended = [each.wait(120) for each in running]
    assert [each.rc for each in ended] == [0, 0, 0], ended
    assert sorted(source for source, _ in site.began()) == list(NAMES)
    assert all(site.of(machine.name) for machine in machines)
    assert len({tuple(results(each.err)) for each in ended}) == 1
    (entry,) = answers(machines[0].cli, "runs", "t.pkr.hcl")
    assert (entry["run"]["number"], entry["run"]["status"]) == (1, "complete")
    assert [build["name"] for build in entry["builds"]] == list(SOURCES)
    assert sorted(build["item"] for build in entry["builds"]) == list(range(1, len(NAMES) + 1))
    assert is_complete(machines[0])
    assert states.status(machines[0].cli) == "free"
    again = machines[1].share().wait()
    assert (again.rc, "everything is up to date" in again.err) == (0, True)


@on("local", "etcd", "s3")
def test_what_a_killed_machine_had_is_built_by_another(site: Site) -> None:
    first, second = site.machines("m1", "m2", text=template(names=FEW))
    killed = first.share()
    site.await_begun(1, killed)
    running = second.share()
    site.await_begun(2, killed, running)
    killed.signal(signal.SIGKILL)
    killed.process.wait()
    site.open()
    ended = running.wait(120)
    assert ended.rc == 0, ended
    assert is_complete(second, FEW_SOURCES)
    begun = Counter(source for source, _ in site.began())
    # the log of what was begun can be read where it is, and its Packer finished
    assert begun == Counter("abc" if site.kind == "local" else "aabc")
    assert states.unfinished(second.cli) == []


def test_what_a_cancelled_machine_had_is_built_by_another(local: Site) -> None:
    first, second = local.machines("m1", "m2", text=template(names=FEW))
    cancelled = first.share()
    local.await_begun(1, cancelled)
    running = second.share()
    local.await_begun(2, cancelled, running)
    cancelled.signal(signal.SIGTERM)
    assert cancelled.wait().rc == 143
    local.open()
    ended = running.wait()
    assert ended.rc == 0, ended
    assert is_complete(second, FEW_SOURCES)
    assert Counter(source for source, _ in local.began()) == Counter("aabc")


def test_a_plain_build_in_between_waits_its_turn(local: Site) -> None:
    first, plain, last = local.machines("m1", "plain", "m3", text=template(names=FEW))
    running = first.share()
    local.await_begun(1, running)
    waiting = plain.start("--lock-timeout", "2m", "--rebuild")
    eventually(lambda: "waiting up to" in waiting.err(), 30)
    joined = last.share()
    local.await_begun(2, running, joined, waiting)
    assert "plain" not in {machine for _, machine in local.began()}
    local.open()
    assert [each.wait(120).rc for each in (running, joined, waiting)] == [0, 0, 0]
    began = local.began()
    assert [machine for _, machine in began[3:]] == ["plain"] * 3, began
    assert [each["run"]["number"] for each in answers(first.cli, "runs", "t.pkr.hcl")] == [2, 1]


def test_a_run_that_shares_waits_behind_a_plain_build(on_etcd: Site) -> None:
    plain, first, second = on_etcd.machines("plain", "m1", "m2", text=template(names=FEW))
    running = plain.start()
    on_etcd.await_begun(3, running)
    waiting = [each.share("--lock-timeout", "2m", "--rebuild") for each in (first, second)]
    eventually(lambda: all("waiting up to" in each.err() for each in waiting), 30)
    assert len(on_etcd.began()) == 3
    on_etcd.open()
    assert [each.wait(120).rc for each in (running, *waiting)] == [0, 0, 0]
    assert sorted(source for source, _ in on_etcd.began()[3:]) == list(FEW)


def test_other_inputs_are_refused_with_the_difference(local: Site) -> None:
    """Where checkouts are one, a variable differs."""
    uses = 'environment_vars = ["REGION=${var.region}"]\n    inline ='
    text = 'variable "region" {\n  default = "eu"\n}\n'
    text += template(names=FEW).replace("inline =", uses)
    first, second = local.machines("m1", "m2", text=text)
    running = first.share()
    local.await_begun(1, running)
    refused = second.share("-var", "region=us").wait()
    assert refused.rc == 11, refused
    assert "is of other inputs than here: variable region changed" in refused.err
    waiting = second.share("-var", "region=us", "--lock-timeout", "2m")
    eventually(lambda: "It is waited for" in waiting.err(), 30)
    local.open()
    assert [each.wait(60).rc for each in (running, waiting)] == [0, 0]
    assert [each["run"]["number"] for each in answers(first.cli, "runs", "t.pkr.hcl")] == [2, 1]


def test_one_that_fails_has_failed_for_all(on_etcd: Site) -> None:
    first, second = on_etcd.machines("m1", "m2", text=template(names=FEW, fails="b"))
    running = [first.share(), second.share()]
    on_etcd.await_begun(2, *running)
    on_etcd.open()
    ended = [each.wait() for each in running]
    assert [each.rc for each in ended] == [1, 1], ended
    assert statuses(first) == {"null.a": "complete", "null.b": "failed", "null.c": "complete"}
    assert Counter(source for source, _ in on_etcd.began()) == Counter("abc")
    on_etcd.open("mended")
    again = second.share().wait()
    assert again.rc == 0, again
    assert on_etcd.began()[3:] == [("b", "m2")]


def test_failing_fast_cancels_what_others_build(local: Site) -> None:
    first, second = local.machines("m1", "m2", text=template(names=FEW, fails="a"))
    running = first.share("--fail-fast")
    local.await_begun(1, running)
    other = second.share()
    local.await_begun(2, running, other)
    local.open("a")
    ended = [each.wait() for each in (running, other)]
    assert [each.rc for each in ended] == [1, 1], ended
    assert "null.a failed, says" in ended[1].err
    assert statuses(first) == {"null.a": "failed", "null.b": "cancelled", "null.c": "cancelled"}
    assert len(local.began()) == 2
    assert states.status(first.cli) == "free"


def test_one_may_cancel_for_all(on_etcd: Site) -> None:
    first, second = on_etcd.machines("m1", "m2", text=template(names=FEW))
    running = first.share("--cancel-all")
    on_etcd.await_begun(1, running)
    other = second.share()
    on_etcd.await_begun(2, running, other)
    running.signal(signal.SIGINT)
    ended = [each.wait() for each in (running, other)]
    assert [each.rc for each in ended] == [130, 1], ended
    assert "cancelled (--cancel-all), says" in ended[1].err
    assert set(statuses(first).values()) == {"cancelled"}
    assert answers(first.cli, "runs", "t.pkr.hcl")[0]["run"]["status"] == "cancelled"
