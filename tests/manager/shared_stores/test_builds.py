"""A state on servers is used as one in a folder: same commands, same answers, by all machines."""

import json
from itertools import pairwise
from typing import Any

import pytest

from tests.conftest import Cli, eventually
from tests.support import states
from tests.support.checkouts import with_origin
from tests.support.packer_versions import script_line
from tests.support.queries import ONE, answer, answers, done, is_up_to_date, refused, runs, serials
from tests.support.servers import Cluster
from tests.support.team import Machine, Team, on
from tests.support.templates import GATED

pytestmark = pytest.mark.usefixtures("packer")


TELLING = """
    variable "x" { default = "1" }
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "shell-local" { inline = ["echo ${var.x}"] }
    }
"""


def two(team: Team, template: str = ONE) -> tuple[Machine, Machine]:
    return team.machine("here", template), team.machine("there", template)


@on("consul", "s3")
def test_two_machines_build_once(team: Team) -> None:
    here, there = two(team, TELLING)
    refused(here.cli, "state", "pull", "t.pkr.hcl", rc=10, text="t.pkr.hcl has no state yet")
    done(here.cli, "build", "t.pkr.hcl")
    assert "everything is up to date" in done(there.cli, "build", "t.pkr.hcl")
    told = done(there.cli, "build", "-var", "x=2", "t.pkr.hcl")
    assert "null.n: build (variable x changed)" in told
    assert is_up_to_date(here.cli, "-var", "x=2")
    assert states.state(here.cli) == states.state(there.cli)
    assert runs(here.cli) == [2, 1]
    assert serials(here.cli) == list(range(serials(here.cli)[0], 0, -1))
    assert states.lock(here.cli)["location"] == f"{team.url()}/web/t.pkr.hcl/default"
    assert f"{script_line('null.n', '2')}\n" in there.cli("logs").out
    refused(here.cli, "logs", rc=2, text="there is no log of run 2")
    assert not here.outbox()


@on("consul", "s3")
def test_without_a_template_all_states_of_the_project_are_meant(team: Team) -> None:
    here = team.machine("here", ONE)
    done(here.cli, "build", "t.pkr.hcl")
    done(here.cli, "build", "--workspace", "other", "t.pkr.hcl")
    there = team.machine("there", ONE)
    assert [
        (each["template"], each["workspace"]) for each in answer(there.cli, "show")["states"]
    ] == [
        ("t.pkr.hcl", "default"),
        ("t.pkr.hcl", "other"),
    ]
    assert "2 states below this directory" in there.cli("state", "pull").err
    elsewhere = team.machine("elsewhere", ONE, settings={"project": "another"})
    assert answer(elsewhere.cli, "show")["states"] == []


@on("etcd", "s3")
def test_what_was_is_brought_back(team: Team) -> None:
    here, there = two(team)
    for value in ("1", "2"):
        done(here.cli, "build", "-var", f"x={value}", "t.pkr.hcl")
    second = states.state(here.cli)
    (kept,) = answer(here.cli, "backup")
    done(here.cli, "state", "backup", "--to", "b.tar")
    assert kept["path"].startswith(f"{team.url()}/web/t.pkr.hcl/default/")
    told = done(there.cli, "state", "rollback", "run:1", "--yes")
    assert "run 2 -> 1; variable x changed" in told
    assert is_up_to_date(there.cli, "-var", "x=1")
    assert [each["reason"] for each in answer(here.cli, "backup", "--list")] == [
        "manual",
        "restore",
    ]
    done(there.cli, "state", "restore", kept["path"], "--yes")
    assert states.state(here.cli)["builds"] == second["builds"]
    assert "no build differs" in done(here.cli, "state", "restore", "b.tar", "--yes")
    refused(here.cli, "state", "restore", f"{kept['path']}x", rc=2, text="there is no backup")
    difference = answer(here.cli, "diff", "run:1", "run:2")
    assert [each["name"] for each in difference["builds"]] == ["null.n"]
    done(here.cli, "state", "prune", "--keep-runs", "1")
    assert "sound" in here.cli("state", "check").out
    assert "nothing is damaged" in done(there.cli, "state", "check", "--repair")


@on("consul", "s3")
def test_a_document_out_and_in(team: Team) -> None:
    here = team.machine("here", ONE)
    done(here.cli, "build", "t.pkr.hcl")
    document = json.loads(here.cli("state", "pull").out)
    document["builds"]["null.n"]["metadata"] = {"ticket": 7}
    here.project.write("edited.json", json.dumps(document))
    done(here.cli, "state", "push", "edited.json", "--yes")
    assert states.state(here.cli)["builds"]["null.n"]["metadata"] == {"ticket": 7}
    assert [each["reason"] for each in answer(here.cli, "backup", "--list")] == ["push"]


@on("etcd", "s3")
def test_one_waits_for_another_machine(team: Team) -> None:
    here, there = two(team, GATED)
    running = here.begun()
    told = refused(there.cli, "build", "t.pkr.hcl", rc=11, text="The lock is held by")
    assert f"(pid {running.pid}, build, run 1)" in told
    found = states.lock(there.cli)
    assert (found["status"], found["pid"], found["run"]) == ("held", running.pid, 1)
    assert "the lease of participant 1 of token 1 is alive" in found["evidence"][0]
    waiting = there.cli.start("build", "--lock-timeout", "1m", "t.pkr.hcl")
    eventually(lambda: "waiting up to" in waiting.err())
    assert "held by" in waiting.err()
    assert f"pid {running.pid}, build" in waiting.err()
    eventually(lambda: len(states.lock(here.cli)["waiters"]) == 1)
    here.go_on()
    assert running.wait().rc == 0
    ended = waiting.wait()
    assert ended.rc == 0, ended
    assert "everything is up to date" in ended.err
    assert states.status(here.cli) == "free"


@on("consul", "s3")
def test_the_lock_is_closed_under_another_machine(team: Team) -> None:
    here, there = two(team, GATED)
    running = here.begun()
    lock = states.lock(there.cli)["id"]
    refused(there.cli, "force-unlock", lock, "--yes", rc=11, text="it is not unlocked")
    done(there.cli, "force-unlock", lock, "--yes", "--allow-live")
    ended = running.wait()
    assert ended.rc == 13, ended
    assert "The lock is lost: Packer is told to end" in ended.err
    (late,) = here.outbox()
    done(here.cli, "state", "recover", late)
    assert states.statuses(there.cli) == {"null.n": "cancelled"}


def pulled(machine: Machine, state: str) -> Any:
    result = machine.cli("state", "pull", "t.pkr.hcl", "--state", state)
    assert result.rc == 0, result
    return json.loads(result.out)


def history(machine: Machine, state: str) -> list[Any]:
    return answers(machine.cli, "history", "t.pkr.hcl", "--limit", "0", "--state", state)


@on("etcd", "s3")
def test_a_state_moves_everywhere_and_back(team: Team, consul_server: Cluster) -> None:
    """Each kind of store is left once, and come to once."""
    elsewhere = f"consul://{','.join(consul_server.endpoints)}/{team.prefix}"
    here = team.machine("here", ONE)
    done(here.cli, "build", "t.pkr.hcl", "--state", "folder")
    way = ["folder", team.url(), elsewhere, "another"]
    for source, target in pairwise(way):
        command = ("state", "migrate", "t.pkr.hcl", "--state", source, "--to", target)
        told = done(here.cli, *command)
        lasting = target if "://" in target else str(here.root / target)
        assert f"state = {json.dumps(lasting)}" in told
        assert pulled(here, target) == pulled(here, source)
        assert history(here, target) == history(here, source)
    assert is_up_to_date(here.cli, "--state", "another")
    assert cli_logs(here, "another") == cli_logs(here, "folder")


def cli_logs(machine: Machine, state: str) -> str:
    return machine.cli("logs", "t.pkr.hcl", "--state", state).out


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"project": ""}, "needs the name of the project"),
        ({"project": "../x"}, "is not the name of a project"),
        ({"state": "etcd://me:pass-word@h/x"}, "has credentials in it"),
        ({"state": "etcd3://h/x"}, "its beginning is not one of"),
        ({"state": "consul://h:port/x"}, "is no host"),
        ({"state": "s3://me:pass-word@images/x"}, "has credentials in it"),
        ({"state": "s3:///x"}, "names no bucket"),
    ],
    ids=lambda each: next(iter(each.values())) or "none" if isinstance(each, dict) else "",
)
def test_a_setting_that_makes_no_sense(cli: Cli, settings: dict[str, str], text: str) -> None:
    here = Team(cli, "etcd", "x", ("127.0.0.1:1",)).machine("here", ONE, settings=settings)
    for command in (("build", "t.pkr.hcl"), ("state", "show"), ("lock", "status", "t.pkr.hcl")):
        told = refused(here.cli, *command, rc=2, text=text)
        assert "pass-word" not in told
        assert told.count("\n") <= 2


@on("etcd", "consul")
def test_one_name_for_two_projects_on_servers_is_refused(team: Team) -> None:
    here, there, copied = (team.machine(name, ONE) for name in ("here", "there", "copied"))
    for machine, url in ((here, "https://h/acme/images"), (there, "https://h/acme/other")):
        with_origin(machine.cli.cwd, url)
    done(here.cli, "build", "t.pkr.hcl")
    done(copied.cli, "plan", "t.pkr.hcl")
    refused(there.cli, "build", "t.pkr.hcl", rc=10, text="belongs to the project h/acme/images")
    done(there.cli, "state", "adopt", "t.pkr.hcl", "--yes")
    done(there.cli, "build", "--rebuild", "t.pkr.hcl")
    assert runs(here.cli) == [2, 1]
