"""What was built, for whoever goes on with it; and what must not be used any more."""

import json
import subprocess

import pytest

from packer_fork.manager.state.artifacts import BuiltArtifacts, flat
from packer_fork.model import Artifact
from tests.conftest import Cli, Project
from tests.support import states
from tests.support.queries import answer, done, done_cached, refused

pytestmark = pytest.mark.usefixtures("packer")

FILES = """
    variable "text" { default = "one" }
    source "file" "a" {
      content = var.text
      target  = "a.txt"
    }
    source "file" "b" {
      content = "b"
      target  = "b.txt"
    }
    build { sources = ["file.a", "file.b"] }
"""


def git(project: Project, *words: str) -> None:
    name = ("-c", "user.name=ana", "-c", "user.email=ana@example.org")
    subprocess.run(("git", *name, *words), cwd=project.root, check=True, capture_output=True)


def runs(cli: Cli, *args: str) -> dict[str, int]:
    told = cli("artifacts", "t.pkr.hcl", "--json", *args)
    assert told.rc == 0, told
    return {each["build"]: each["run"] for each in json.loads(told.out)}


def test_what_was_revoked_is_built_again_and_told_of_no_more(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", FILES)
    done_cached(cli, "build", "t.pkr.hcl")
    told = done(cli, "state", "revoke", "--build", "file.a", "--reason", "a hole", "t.pkr.hcl")
    assert "revoked file.a of run 1" in told
    assert runs(cli) == {"file.b": 1}
    planned = cli("plan", "t.pkr.hcl").out
    assert "file.a: build (run 1 was revoked: a hole)" in planned
    assert "file.b: up to date" in planned
    assert "revoked: run 1: a hole" in cli("state", "show", "--build", "file.a", "t.pkr.hcl").out
    done(cli, "build", "-force", "t.pkr.hcl")
    assert runs(cli) == {"file.a": 2, "file.b": 1}
    assert states.state(cli)["builds"]["file.a"]["revoked"] == {"1": "a hole"}


def test_an_older_run_is_revoked_by_its_number(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", FILES)
    for text in ("one", "two", "three"):
        done(cli, "build", "-force", "-var", f"text={text}", "t.pkr.hcl")
    revoke = ("revoke", "--build", "file.a", "--reason", "x", "t.pkr.hcl")
    assert answer(cli, *revoke, "--run", "3")["operation"] == "revoke"
    assert runs(cli) == {"file.a": 2, "file.b": 1}
    refused(cli, "state", *revoke, "--run", "3", rc=2, text="runs with a complete result: 1, 2")
    refused(cli, "state", *revoke, "--reason", " ", rc=2, text="needs a reason")
    refused(cli, "state", *revoke, "--run", "9", rc=2, text="no complete result in run 9")


def test_a_branch_has_its_own_newest_artifacts(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", FILES)
    git(project, "init", "-b", "main")
    git(project, "add", "t.pkr.hcl")
    git(project, "commit", "-m", "a template")
    done(cli, "build", "t.pkr.hcl")
    git(project, "checkout", "-b", "next")
    done(cli, "build", "-force", "-var", "text=two", "-only", "file.a", "t.pkr.hcl")
    assert runs(cli) == {"file.a": 2, "file.b": 1}
    assert runs(cli, "--branch", "main") == {"file.a": 1, "file.b": 1}
    assert runs(cli, "--branch", "next") == {"file.a": 2}
    assert runs(cli, "--branch", "next", "--build", "file.a") == {"file.a": 2}
    assert runs(cli, "--branch", "other") == {}
    assert runs(cli, "--latest") == {"file.a": 2}
    unknown = cli("artifacts", "--branch", "main", "--build", "x", "t.pkr.hcl")
    assert (unknown.rc, "x" in unknown.err) == (2, True)


def test_terraform_reads_a_flat_object_of_texts(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", FILES)
    done_cached(cli, "build", "t.pkr.hcl")
    told = json.loads(cli("artifacts", "--flat", "t.pkr.hcl").out)
    assert told == {"file.a": "File", "file.a.run": "1", "file.b": "File", "file.b.run": "1"}


def test_images_of_several_regions_are_told_apart() -> None:
    ids = "eu-west-1:ami-1,us-east-1:ami-2"
    made = BuiltArtifacts(
        build="amazon-ebs.web", type="amazon-ebs", run=7, ended=None, artifacts=(Artifact(id=ids),)
    )
    assert flat([made]) == {
        "amazon-ebs.web": ids,
        "amazon-ebs.web.run": "7",
        "amazon-ebs.web.eu-west-1": "ami-1",
        "amazon-ebs.web.us-east-1": "ami-2",
    }
