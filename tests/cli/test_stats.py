"""What `packer-fork stats` tells of real builds, in words, as JSON and as a page."""

import json
from typing import Any

import pytest

from packer_fork.statistics import Statistics
from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.queries import answers, done, fields, flip, refused
from tests.support.templates import GATED, begun, go_on
from tests.test_statistics_page import Parsed

TWO = """
    variable "bad" { default = "none" }
    source "null" "a" { communicator = "none" }
    source "null" "b" { communicator = "none" }
    build {
      sources = ["null.a", "null.b"]
      provisioner "shell-local" { inline = ["test $PACKER_BUILD_NAME != ${var.bad}"] }
      provisioner "shell-local" {
        name   = "rest"
        inline = ["true"]
      }
    }
"""


def figures(cli: Cli, *args: str) -> Any:
    result = cli("stats", "t.pkr.hcl", "--json", *args)
    assert result.rc == 0, result
    document = json.loads(result.out)
    assert set(document) == fields(Statistics)
    assert document["error"] is None
    return document["figures"]


@pytest.mark.usefixtures("packer")
def test_numbers_are_those_of_what_was_built(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", TWO)
    for bad, rc in (("b", 1), ("b", 1), ("none", 0)):
        assert cli.cached("build", "-var", f"bad={bad}", "t.pkr.hcl").rc == rc
    listed = answers(cli, "list")[::-1]
    found = figures(cli)
    assert found["ends"] == {"complete": 1, "failed": 2}
    assert [(each["run"], each["started"], each["status"]) for each in found["runs"]] == [
        (each["run"]["number"], each["run"]["started"], each["run"]["status"]) for each in listed
    ]
    assert (found["earlier"], found["skips"], found["locks"], found["waits"]) == (False, 1, 3, None)
    a, b = found["sources"]
    assert (a["name"], a["ends"], a["skips"]) == ("null.a", {"complete": 2}, 1)
    assert a["saved"] == a["builds"][0]["seconds"]
    assert (b["name"], b["ends"], b["success"]) == ("null.b", {"complete": 1, "failed": 2}, 1 / 3)
    assert [(step["name"], step["failed"]) for step in b["steps"]] == [("", 2), ("rest", 0)]
    assert [step["took"]["count"] for step in a["steps"]] == [2, 2]
    assert [each["artifacts"] for each in found["artifacts"]] == [["Null"], ["Null"]]
    assert [each["run"] for each in figures(cli, "--last", "2")["runs"]] == [2, 3]
    assert figures(cli, "--since", "2100-01-01")["runs"] == []
    shown_in_words(cli)
    shown_as_a_page(cli, project)


def shown_in_words(cli: Cli) -> None:
    wide = cli("stats", env={"PYTHONUTF8": "1", "COLUMNS": "80"})
    narrow = cli("stats", env={"PYTHONIOENCODING": "ascii", "COLUMNS": "60"})
    assert wide.rc == narrow.rc == 0
    head, runs, *_, a, b = wide.out.splitlines()
    assert head.startswith("t.pkr.hcl: 3 runs, since 2")
    assert runs == "  runs:    2 failed, 1 complete; 33% succeeded"
    assert a.split()[:3] == ["null.a", "2", "100%"]
    assert b.split()[:3] == ["null.b", "3", "33%"]
    assert b.split()[-1][:2] == "✗✗"
    assert max(map(len, wide.out.splitlines())) <= 80
    assert narrow.out.isascii()
    assert narrow.out.splitlines()[0] == head


def shown_as_a_page(cli: Cli, project: Project) -> None:
    real = project.root / "real.html"
    real.write_text("old", encoding="utf-8")
    (project.root / "page.html").symlink_to(real)
    with real.open(encoding="utf-8") as reading:
        written = cli("stats", "--html", "page.html")
        assert reading.read() == "old", "whoever reads goes on reading what was"
    assert written == (0, "", "")
    assert (project.root / "page.html").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in project.root.iterdir() if "html" in path.name} == {
        *("page.html", "real.html")
    }
    found = Parsed(real.read_text(encoding="utf-8"))
    assert [e.text for e in found.named("h4")] == ["null.a", "null.b"]
    assert len([e for e in found.of_class("failed") if e.name == "rect"]) == 2
    printed = cli("stats", "--html", "-", "--last", "1", "t.pkr.hcl")
    assert printed.rc == 0
    assert Parsed(printed.out).named("h2")[0].text == "t.pkr.hcl"
    nowhere = project.root / "missing" / "page.html"
    refused(cli, "stats", "--html", nowhere, rc=15, text=f"cannot be written to {nowhere}")
    refused(cli, "stats", "--html", project.root, rc=15, text="it is no file")
    refused(cli, "stats", "--html", "x", "--json", rc=2, text="one of --html FILE and --json")
    assert not (project.root / "x").exists()


@pytest.mark.usefixtures("packer")
def test_a_wait_is_told(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    running = begun(cli, project, "t.pkr.hcl")
    waiting = cli.start("build", "--rebuild", "--lock-timeout", "1m", "t.pkr.hcl")
    eventually(lambda: states.lock(cli)["waiters"])
    assert "no run has ended yet" in cli("stats").out
    go_on(project.root)
    assert (running.wait().rc, waiting.wait().rc) == (0, 0)
    found = figures(cli)
    assert (found["locks"], found["waits"]["count"]) == (2, 1)
    assert found["waits"]["longest"] == found["runs"][1]["waited"] > 0
    assert "waited:  for 1 of 2 locks" in cli("stats").out


@pytest.mark.usefixtures("packer")
def test_a_damaged_state_is_told_and_the_others_are_shown(cli: Cli, project: Project) -> None:
    for template in ("a.pkr.hcl", "t.pkr.hcl"):
        project.write(template, TWO)
        done(cli, "build", template)
    flip(states.folder(project.root) / "state.json", 100)
    shown = cli("stats")
    assert shown.rc == 10
    assert "The state is damaged" in shown.err
    assert shown.out.startswith("a.pkr.hcl: 1 run")
    assert "t.pkr.hcl" not in shown.out
    found = json.loads(cli("stats", "--json").out)["states"]
    assert [(each["template"], each["figures"] is None) for each in found] == [
        *(("a.pkr.hcl", False), ("t.pkr.hcl", True))
    ]
    assert "The state is damaged" in found[1]["error"]
    refused(cli, "stats", "t.pkr.hcl", "--json", rc=10, text="The state is damaged")
    page = cli("stats", "--html", "-")
    assert page.rc == 10
    assert any("The state is damaged" in text for text in Parsed(page.out).texts())


def test_where_nothing_was_built(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", TWO)
    nothing = cli("stats")
    assert (nothing.rc, nothing.out) == (0, "")
    assert "there is no state below this directory" in nothing.err
    assert cli("stats", "t.pkr.hcl").out == "t.pkr.hcl: no run has ended yet\n"
    assert figures(cli)["runs"] == []
    assert Parsed(cli("stats", "--html", "-", "t.pkr.hcl").out).named("h2")
