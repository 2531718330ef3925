"""Builds that read artifacts of others: in which order, when, and what of them is up to date."""

import json
from typing import Any

import pytest

from packer_fork.events import Action, BuildPlan
from packer_fork.manager.build import layers
from tests.conftest import Cli, Project, Result
from tests.support import states

BASE = """
    variable "version" { default = "1" }
    source "file" "base" {
      content = var.version
      target  = "images/base.img"
    }
    build { sources = ["file.base"] }
"""
NAMED = """
    source "file" "app" {
      source = "images/base.img"
      target = "images/app.img"
    }
    build { sources = ["file.app"] }
"""
BY_SCRIPT = """
    source "null" "app" { communicator = "none" }
    build {
      sources = ["null.app"]
      provisioner "shell-local" { script = "app.sh" }
    }
"""
CHANGED = ("-var", "version=2")
REASON = "reads the artifact of file.base (images/base.img), which is built first"


@pytest.fixture(autouse=True)
def _packer(packer: object) -> None:
    """All of these start it, but for the tables."""


def plan(cli: Cli, *arguments: str) -> dict[str, list[str]]:
    """Of each build that is to be built, why."""
    result = cli("plan", "--json", *arguments, "t.pkr.hcl")
    assert result.rc == 0, result
    builds = json.loads(result.out)["builds"]
    return {each["name"]: each["reasons"] for each in builds if each["action"] == "build"}


def build(cli: Cli, *arguments: str) -> Result:
    result = cli.cached("build", *arguments, "t.pkr.hcl")
    assert result.rc == 0, result
    return result


def last_run(cli: Cli) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(cli("state", "show", "--json", "t.pkr.hcl").out)["last_run"]
    return run


def test_artifact_that_a_build_names_is_built_first(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", BASE + NAMED)
    image = project.root / "images" / "app.img"
    build(cli)
    assert image.read_text() == "1"
    items = states.state(cli)["items"]
    assert [each["sources"] for each in items.values()] == [["file.base"], ["file.app"]]
    assert plan(cli) == {}
    assert plan(cli, *CHANGED) == {
        "file.base": ["variable version changed"],
        "file.app": [REASON],
    }
    assert plan(cli, *CHANGED, "-only=file.app") == {}
    build(cli, *CHANGED)
    assert image.read_text() == "2"
    assert plan(cli, *CHANGED) == {}
    build(cli, "--rebuild", "-var", "version=3")
    assert image.read_text() == "3"


@pytest.mark.parametrize("link", [("latest", "images/base.img"), ("latest", "images")])
def test_artifact_that_a_build_names_by_a_link_is_built_first(
    cli: Cli, project: Project, link: tuple[str, str]
) -> None:
    name, target = link
    (project.root / name).symlink_to(target)
    named = name if target.endswith(".img") else f"{name}/base.img"
    project.write("t.pkr.hcl", BASE + NAMED.replace("images/base.img", named))
    build(cli)
    assert (project.root / "images" / "app.img").read_text() == "1"
    assert plan(cli, *CHANGED)["file.app"] == [REASON]


def test_a_shared_build_says_that_it_keeps_no_order(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", BASE + NAMED)
    build(cli)
    warning = "--share may build file.app before file.base, whose artifact it reads."
    assert warning in build(cli, "--share", *CHANGED).err
    assert warning not in build(cli, "--share", "-only=file.app").err


def test_artifact_that_a_script_reads_is_built_first_once_that_was_seen(
    cli: Cli, project: Project
) -> None:
    project.write("app.sh", "#!/bin/sh\ncat images/base.img >> log\n").chmod(0o755)
    project.write("images/README", "")
    project.write("t.pkr.hcl", BASE)
    build(cli)
    project.write("t.pkr.hcl", BASE + BY_SCRIPT)
    build(cli)
    assert plan(cli) == {}
    assert plan(cli, *CHANGED)["null.app"] == [REASON]
    build(cli, *CHANGED)
    assert (project.root / "log").read_text() == "12"
    assert plan(cli, *CHANGED) == {}


def test_artifact_that_a_script_read_while_it_was_built_is_read_again(
    cli: Cli, project: Project
) -> None:
    """Before it was seen to read it, one Packer builds both."""
    script = "#!/bin/sh\nwhile [ ! -s images/base.img ]; do sleep 0.1; done\ncat images/base.img\n"
    project.write("app.sh", script).chmod(0o755)
    project.write("t.pkr.hcl", BASE + BY_SCRIPT)
    build(cli)
    reasons = plan(cli)
    assert reasons.keys() == {"null.app"}
    assert "images/base.img was written while run 1 went on" in reasons["null.app"][0]
    build(cli)
    assert plan(cli) == {}
    assert plan(cli, *CHANGED)["null.app"] == [REASON]


def test_script_that_another_build_makes_need_not_be_there_yet(cli: Cli, project: Project) -> None:
    project.write(
        "t.pkr.hcl",
        """
        source "file" "script" {
          content = "#!/bin/sh\\ntrue\\n"
          target  = "made.sh"
        }
        source "null" "app" { communicator = "none" }
        build { sources = ["file.script"] }
        build {
          sources = ["null.app"]
          provisioner "shell-local" {
            execute_command = ["sh", "{{.Script}}"]
            script          = "made.sh"
          }
        }
        """,
    )
    assert plan(cli).keys() == {"file.script", "null.app"}
    assert "refuses" not in build(cli).err
    assert plan(cli) == {}


def test_build_that_reads_the_artifact_of_a_failed_one_is_left_out(
    cli: Cli, project: Project
) -> None:
    step = 'provisioner "shell-local" { inline = ["test ${var.version} = 1"] }'
    block = f'build {{\nsources = ["file.base"]\n{step}\n}}'
    project.write("t.pkr.hcl", BASE.replace('build { sources = ["file.base"] }', block) + NAMED)
    build(cli)
    result = cli("build", *CHANGED, "t.pkr.hcl")
    assert result.rc == 1
    expected = "file.app is not built: it reads the artifact of file.base, which failed."
    assert expected in result.err
    assert (project.root / "images" / "app.img").read_text() == "1"
    assert plan(cli, *CHANGED).keys() == {"file.base", "file.app"}
    result = cli("build", "--fail-fast", *CHANGED, "t.pkr.hcl")
    assert result.rc == 1
    assert "Not built, as the run before did not complete: file.app." in result.err


def test_steps_that_builds_share_make_no_layers(cli: Cli, project: Project) -> None:
    """Each reads its own artifacts, by names that would fit those of the other as well."""
    project.write(
        "t.pkr.hcl",
        """
        source "file" "a" {
          content = "a"
          target  = "images/a.img"
        }
        source "file" "b" {
          content = "b"
          target  = "images/b.img"
        }
        build {
          sources = ["file.a", "file.b"]
          provisioner "shell-local" {
            inline = ["mkdir -p images; cd images; cat ${source.name}.img $PACKER_BUILD_NAME.img"]
          }
          post-processor "checksum" {
            checksum_types = ["md5"]
            output         = "images/{{.BuildName}}_{{.ChecksumType}}.checksum"
          }
        }
        """,
    )
    for _ in range(2):
        build(cli, "--rebuild")
        assert set(last_run(cli)["builds"]) == {"file.a", "file.b"}
        assert plan(cli) == {}


@pytest.mark.parametrize(
    ("after", "stages"),
    [
        ({"a": "", "b": "", "c": ""}, ["abc"]),
        ({"a": "b", "b": "", "c": ""}, ["bc", "a"]),
        ({"a": "b", "b": "c", "c": ""}, ["c", "b", "a"]),
        ({"a": "b", "b": "a", "c": ""}, ["abc"]),
        ({"a": "b", "b": "a", "c": "a"}, ["ab", "c"]),
        ({"a": "x", "b": "", "c": "ab"}, ["ab", "c"]),
    ],
)
def test_stages(after: dict[str, str], stages: list[str]) -> None:
    builds = [
        BuildPlan(name=name, action=Action.BUILD, reasons=(), after=tuple(others))
        for name, others in after.items()
    ]
    assert layers.stages(builds, "abc") == [tuple(stage) for stage in stages]


def test_what_reads_what_is_built_is_built_through_all_layers() -> None:
    builds = [
        BuildPlan(name=name, action=action, reasons=())
        for name, action in zip("abcd", [Action.BUILD, *[Action.UP_TO_DATE] * 3], strict=True)
    ]
    reads = {"b": {"a": "/p/a.img"}, "c": {"b": "/p/b.img"}, "d": {}}
    found = layers.ordered(builds, reads, "/p")
    assert [each.action for each in found] == [*[Action.BUILD] * 3, Action.UP_TO_DATE]
    assert found[2].reasons == ("reads the artifact of b (b.img), which is built first",)
