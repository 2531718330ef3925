"""TEMPLATE comes first in every state command, and may be left out where one state is below."""

import json

import pytest

from tests.conftest import Cli, Project
from tests.support import states
from tests.support.commands import commands
from tests.support.queries import ONE, answer, answers, built, done, refused, runs
from tests.support.templates import TWO

pytestmark = pytest.mark.usefixtures("packer")


def test_template_is_the_first_argument_of_every_state_command() -> None:
    for words, command in commands().items():
        if words.startswith("state ") or words in ("logs", "artifacts", "lock status"):
            arguments = [each for each in command.params if each.param_type_name == "argument"]
            assert arguments[0].name == "template", words
            assert "--template" not in {name for each in command.params for name in each.opts}


def test_template_may_be_left_out_before_other_arguments(cli: Cli, project: Project) -> None:
    built(cli, project, "1", "2")
    document = cli("state", "pull").out
    project.write("pulled.json", document)
    done(cli, "state", "backup", "--to", "b.tar")
    for template in ((), ("t.pkr.hcl",)):
        assert "run 1 -> 2" in cli("state", "diff", *template, "run:1", "run:2").out
        done(cli, "state", "restore", *template, "run:1", "--yes")
        assert states.state(cli)["builds"]["null.n"]["run"] == 1
        done(cli, "state", "restore", *template, "b.tar", "--yes")
        assert states.state(cli)["builds"]["null.n"]["run"] == 2
        done(cli, "state", "push", *template, "pulled.json", "--force", "--yes")
    project.write("other.pkr.hcl", ONE)
    done(cli, "build", "other.pkr.hcl")
    refused(cli, "state", "restore", "run:1", rc=2, text="There are 2 states")


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ("diff", "A"),
        ("diff t.pkr.hcl", "B"),
        ("restore --yes", "SERIAL|run:N|FILE"),
        ("push --yes", "FILE"),
        ("import", "FILE"),
    ],
)
def test_a_missing_argument_is_named(cli: Cli, words: str, missing: str) -> None:
    refused(cli, "state", *words.split(), rc=2, text=f"missing argument: {missing}")


def test_a_template_in_the_place_of_a_file_is_named(cli: Cli, project: Project) -> None:
    built(cli, project, "1")
    told = refused(cli, "state", "restore", "t.pkr.hcl", rc=2, text="t.pkr.hcl is a template")
    assert "state restore t.pkr.hcl run:7" in told
    assert answer(cli, "backup", "t.pkr.hcl", "--list") == []
    (made,) = answer(cli, "backup", "t.pkr.hcl")
    assert [each["path"] for each in answer(cli, "backup", "--list", "t.pkr.hcl")] == [made["path"]]
    refused(cli, "state", "backup", "--list", "--to", "b.tar", rc=2, text="exclude each other")


def test_state_list_prints_the_names_of_builds(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", TWO)
    assert cli("build", "-var", "bad=b", "t.pkr.hcl").rc == 1
    assert cli("state", "list").out == "null.a\nnull.b\n"
    assert cli("state", "list", "t.pkr.hcl", "--status", "failed").out == "null.b\n"
    assert json.loads(cli("state", "list", "--json").out) == ["null.a", "null.b"]
    refused(cli, "state", "list", "--status", "broken", rc=2, text="choose one of: ")
    assert runs(cli) == [1]


def results_of_run(cli: Cli, number: int) -> str:
    """Results as a build spools them, of a run that the state does not know."""
    state = json.loads(cli("state", "pull", "t.pkr.hcl").out)
    begun = {"token": 90 + number}
    (last,) = state["items"].values()
    late = {
        "lineage": state["lineage"],
        "run": {**state["last_run"], "number": number, **begun},
        "item": {**last, "run": number, **begun},
        "builds": {},
    }
    return json.dumps(late)


def test_recover_tells_results_from_a_template(cli: Cli, project: Project) -> None:
    built(cli, project, "1")
    assert "nothing to recover" in done(cli, "state", "recover", "t.pkr.hcl")
    project.write("8-1-9.late.json", "{")
    refused(cli, "state", "recover", "8-1-9.late.json", rc=2, text="8-1-9.late.json holds no late")
    for words in (("a.json",), ("t.pkr.hcl", "b.json")):
        project.write(words[-1], results_of_run(cli, 9))
        done(cli, "state", "recover", *words)
        assert (project.root / f"{words[-1]}.replayed").exists()


def test_recover_merges_all_results_that_wait(cli: Cli, project: Project) -> None:
    logs = built(cli, project, "1") / "logs"
    for number in (8, 9):
        (logs / f"{number}-1-{90 + number}.late.json").write_text(results_of_run(cli, number))
    (logs / "7-1-97.late.json").write_text("{")
    told = done(cli, "state", "recover", "t.pkr.hcl")
    assert "7-1-97.late.json holds no late results" in told
    assert {path.name for path in logs.glob("*late*")} == {
        "7-1-97.late.json",
        "8-1-98.late.json.replayed",
        "9-1-99.late.json.replayed",
    }
    merged = [each for each in answers(cli, "history") if each["operation"] == "replay"]
    assert [each["why"] for each in merged] == [
        f"late results of item 1 of run {n}" for n in (9, 8)
    ]
