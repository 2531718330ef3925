"""Hosts, each in a network of its own, of which one is killed or cut off."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.conftest import eventually
from tests.support import states
from tests.support.queries import answers
from tests.support.servers import Network
from tests.support.shared_site import NAMES, SOURCES, Site, template

pytestmark = [pytest.mark.usefixtures("packer"), pytest.mark.timeout(300)]


def on(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("hosts", [kind], indirect=True)


@on("etcd")
def test_sources_on_three_hosts_of_which_one_is_killed(hosts: Site) -> None:
    machines = hosts.machines("h1", "h2", "h3")
    running = [machine.share() for machine in machines]
    hosts.await_begun(3, *running)
    killed = next(m for m in machines if hosts.of(m.name))
    (lost,) = hosts.of(killed.name)
    victim = running.pop(machines.index(killed))
    victim.signal(signal.SIGKILL)
    victim.process.wait()
    hosts.open()
    ended = [each.wait(120) for each in running]
    assert [each.rc for each in ended] == [0, 0], ended
    other = next(machine for machine in machines if machine is not killed)
    found = answers(other.cli, "runs", "t.pkr.hcl")[0]
    assert {b["name"]: b["status"] for b in found["builds"]} == dict.fromkeys(SOURCES, "complete")
    assert Counter(source for source, _ in hosts.began()) == Counter(NAMES) + Counter([lost])


@on("consul")
def test_what_a_dead_host_had_built_is_late(hosts: Site) -> None:
    """Its Packer finished after packer-fork had died, which nobody saw until it was back."""
    finishing = hosts._replace(settings={**hosts.settings, "on_wrapper_death": "finish"})
    first, second = finishing.machines("h1", "h2", text=template(names=("a", "b")))
    dead = first.share()
    hosts.await_begun(1, dead)
    dead.signal(signal.SIGKILL)
    dead.process.wait()
    hosts.open()
    ended = second.share("--lock-timeout", "1m").wait(120)
    assert ended.rc == 0, ended
    assert "where its log is" in ended.err or "is lost: it was not read" in ended.err
    before = states.state(second.cli)["builds"]
    again = first("build", "t.pkr.hcl")
    assert (again.rc, "everything is up to date" in again.err) == (0, True), again
    assert (
        "Item 1 of run 1, which was ended without its log, is read now: null.a complete"
        in again.err
    )
    assert states.state(second.cli)["builds"] == before
    assert "replay" in {each["operation"] for each in answers(second.cli, "history", "t.pkr.hcl")}


@on("etcd")
def test_what_a_host_that_was_cut_off_built_is_late(hosts: Site, network: Network) -> None:
    machines = hosts.machines("h1", "h2", "h3")
    running = [machine.share() for machine in machines]
    hosts.await_begun(3, *running)
    number = next(n for n, machine in enumerate(machines) if hosts.of(machine.name))
    cut, victim = machines.pop(number), running.pop(number)
    (lost,) = hosts.of(cut.name)
    network.cut(1 + number)
    hosts.open(*(name for name in NAMES if name != lost))
    eventually(lambda: Counter(source for source, _ in hosts.began())[lost] == 2, 60)
    assert victim.process.poll() is None, victim.err()
    hosts.open()
    ended = [each.wait(120) for each in running]
    assert [each.rc for each in ended] == [0, 0], ended
    network.heal(1 + number)
    late = victim.wait(120)
    assert late.rc == 13, late
    assert list((hosts.folder / cut.name).rglob("*.late.json"))
    before = states.state(machines[0].cli)["builds"]
    again = cut("build", "t.pkr.hcl")
    assert (again.rc, "everything is up to date" in again.err) == (0, True), again
    assert "all were built again since" in again.err
    assert states.state(machines[0].cli)["builds"] == before
