"""What a command that changes a state answers in JSON: what it did, and where what was is."""

import json
from pathlib import Path
from typing import Any

import pytest

from packer_fork.responses import Done
from tests.conftest import Cli, Project
from tests.support.queries import answer, built, done, fields, flip, serials

pytestmark = pytest.mark.usefixtures("packer")

OF_THE_GO_PROGRAM = {
    "version": 4,
    "serial": 1,
    "lineage": "3f2a",
    "template": {"path": "t.pkr.hcl"},
    "builds": {"null.old": {"name": "null.old", "type": "null", "status": "complete"}},
}


def checked(cli: Cli, found: Any, operation: str) -> Any:
    assert found.keys() == fields(Done)
    assert (found["operation"], found["workspace"]) == (operation, "default")
    assert found["serial"] == serials(cli)[0]
    assert found["backup"] is None or Path(found["backup"]["path"]).exists()
    return found


def test_rollback_restore_and_push(cli: Cli, project: Project) -> None:
    built(cli, project, "1", "2")
    done(cli, "state", "backup", "--to", "b.tar")
    project.write("pulled.json", cli("state", "pull").out)
    back = checked(cli, answer(cli, "rollback", "run:1", "--yes"), "restore")
    assert back["template"] == "t.pkr.hcl"
    assert back["backup"]["reason"] == "restore"
    assert [each["name"] for each in back["difference"]["builds"]] == ["null.n"]
    again = checked(cli, answer(cli, "rollback", "run:1", "--yes"), "restore")
    assert (again["backup"], again["difference"]["builds"]) == (None, [])
    restored = checked(cli, answer(cli, "restore", "b.tar", "--yes"), "restore")
    assert restored["backup"]["reason"] == "restore"
    assert restored["difference"]["builds"]
    nothing = checked(cli, answer(cli, "restore", "b.tar", "--yes"), "restore")
    assert nothing["backup"] is None
    done(cli, "state", "rollback", "run:1", "--yes")
    pushed = checked(cli, answer(cli, "push", "pulled.json", "--force", "--yes"), "push")
    assert pushed["backup"]["reason"] == "push"


def test_import_rm_and_repair(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    project.write("old.json", json.dumps(OF_THE_GO_PROGRAM))
    assert checked(cli, answer(cli, "import", "old.json"), "import")["difference"] is None
    gone = checked(cli, answer(cli, "rm", "--build", "null.old", "--yes"), "rm")
    assert gone["backup"]["reason"] == "rm"
    sound = checked(cli, answer(cli, "check", "--repair", "--yes"), "repair")
    flip(folder / "state.json", 100)
    mended = checked(cli, answer(cli, "check", "--repair", "--yes"), "repair")
    assert mended["serial"] > sound["serial"]


def test_migrate_tells_of_the_state_there(cli: Cli, project: Project) -> None:
    built(cli, project, "1")
    moved = answer(cli, "migrate", "--to", "there")
    assert moved["operation"] == "migrate"
    result = cli("state", "show", "t.pkr.hcl", "--state", "there", "--json")
    assert json.loads(result.out)["serial"] == moved["serial"]


def test_what_is_refused_answers_nothing(cli: Cli, project: Project) -> None:
    built(cli, project, "1")
    result = cli("state", "rollback", "99", "--yes", "--json")
    assert (result.rc, result.out) == (2, "")
