"""``inputs``: what counts for each build, how it is known, and what is not tracked."""

import json
import subprocess
from pathlib import Path

import msgspec
import pytest

from packer_fork.responses import Input, InputsReport, Untracked
from tests.conftest import Cli, Project
from tests.support import states
from tests.support.queries import kept
from tests.support.templates import begun, go_on

pytestmark = pytest.mark.usefixtures("packer")

TEMPLATE = """\
variable "region" { default = "eu" }
variable "token" {
  default   = "secret-token"
  sensitive = true
}
locals { motd = file("motd") }
source "null" "a" { communicator = "none" }
source "null" "b" {
  communicator = "none"
}
build {
  sources = ["null.a", "null.b"]
  provisioner "shell-local" {
    inline = ["./scripts/all.sh ${var.region} ${var.token} ${local.motd}"]
  }
  provisioner "shell-local" {
    only    = ["null.b"]
    scripts = [
      "scripts/all.sh",
      "scripts/secret-token.sh",
    ]
  }
}
"""

SHOWN = """\
every build of t.pkr.hcl
  template           provisioner 1 (shell-local)  named at t.pkr.hcl:13
  variable           region                       evaluated by Packer
  variable           token                        evaluated by Packer
  local              motd                         evaluated at t.pkr.hcl:6
  file               motd                         evaluated at t.pkr.hcl:6
  file               roles/r.yml                  declared in inputs
  file               scripts/all.sh               named at t.pkr.hcl:14
  file               scripts/lib.sh               observed in run 1
  env                PLACE                        declared in input_env
  input-command      cat newest                   declared in input_commands
  working-directory  .                            always
  packer             VERSION                      always
null.a
  template           source null.a                named at t.pkr.hcl:7
null.b
  template           source null.b                named at t.pkr.hcl:8
  template           provisioner 2 (shell-local)  named at t.pkr.hcl:16
  file               scripts/<sensitive>.sh       named at t.pkr.hcl:20
  files              scripts/*                    observed in run 1
"""

MOVING = """\
source "amazon-ebs" "web" {
  region = "eu-west-1"
  source_ami_filter {
    filters     = { name = "ubuntu-*" }
    most_recent = true
  }
}
source "qemu" "disk" { iso_url = "https://me:pw@h.example/x.iso" }
source "docker" "box" {
  image = "ubuntu:24.04"
}
build { sources = ["amazon-ebs.web", "qemu.disk", "docker.box"] }
"""


@pytest.fixture
def root(project: Project) -> Project:
    project.write("t.pkr.hcl", TEMPLATE)
    project.write("motd", "hello")
    project.write("newest", "ami-1")
    project.write("roles/r.yml", "")
    for name in ("all", "secret-token"):
        script = project.write(f"scripts/{name}.sh", "#!/bin/sh\n. scripts/lib.sh\n")
        script.chmod(0o755)
    project.write("scripts/lib.sh", "true\n")
    project.write("scripts/unused.sh", "true\n")
    project.write(
        "packer-fork.toml",
        'inputs = ["roles/**"]\ninput_env = ["PLACE"]\ninput_commands = [["cat", "newest"]]\n',
    )
    return project


def report(cli: Cli, *args: str) -> InputsReport:
    result = cli("inputs", "--json", *args)
    assert result.rc == 0, result
    return msgspec.json.decode(result.out, type=InputsReport, strict=True)


@pytest.mark.usefixtures("root")
def test_it_shows_what_counts_and_how_that_is_known(cli: Cli) -> None:
    env = {"PLACE": "here"}
    built = cli("build", "t.pkr.hcl", env=env)
    assert built.rc == 0, built
    result = cli("inputs", "t.pkr.hcl", env=env)
    assert result.rc == 0, result
    version = json.loads(cli("inputs", "--json", "t.pkr.hcl").out)["common"][-1]["name"]
    assert result.out == SHOWN.replace("VERSION", f"{version:<7}")
    assert "secret-token" not in result.out + result.err


def test_it_needs_no_state_and_leaves_none(cli: Cli, root: Project) -> None:
    found = report(cli, "t.pkr.hcl")
    assert [(build.name, build.run) for build in found.builds] == [
        ("null.a", None),
        ("null.b", None),
    ]
    assert Input(kind="variable", name="region", how="evaluated") in found.common
    assert not any(each.how == "observed" for build in found.builds for each in build.inputs)
    assert not (root.root / ".packer-fork").exists()


def test_it_waits_for_no_lock_and_changes_nothing(cli: Cli, root: Project) -> None:
    gated = TEMPLATE.replace("./scripts", "touch begun; while [ ! -e go ]; do sleep 0.1; done; #")
    root.write("t.pkr.hcl", gated)
    building = begun(cli, root, "-only", "null.a", "t.pkr.hcl")
    report(cli, "t.pkr.hcl")
    go_on(root.root)
    assert building.wait().rc == 0
    before = kept(states.folder(root.root))
    report(cli, "t.pkr.hcl")
    assert kept(states.folder(root.root)) == before


@pytest.mark.usefixtures("root")
def test_one_build_has_all_of_its_inputs(cli: Cli) -> None:
    every = report(cli, "t.pkr.hcl")
    for args in (("--build", "null.b"), ("-only", "null.b")):
        found = report(cli, *args, "t.pkr.hcl")
        assert found.common == ()
        (build,) = found.builds
        assert build.name == "null.b"
        assert set(build.inputs) == {*every.common, *every.builds[1].inputs}
    refused = cli("inputs", "--build", "nul.b", "t.pkr.hcl")
    assert (refused.rc, refused.out) == (2, "")
    assert "Did you mean 'null.b'?" in refused.err


def test_a_name_with_a_line_feed_takes_one_line(cli: Cli, root: Project) -> None:
    root.write("odd/a\n\x1b[31mb", "")
    result = cli("inputs", "--input", "odd/*", "--build", "null.b", "t.pkr.hcl")
    assert (result.rc, "\x1b" in result.out) == (0, False)
    assert r"odd/a\nb" in result.out


def test_it_takes_the_options_of_plan(cli: Cli, root: Project) -> None:
    root.write("v.pkrvars.hcl", 'name = "motd"\n')
    root.write(
        "u.pkr.hcl",
        'variable "name" {}\nvariable "more" { default = "x" }\n'
        'source "null" "n" { communicator = "none" }\nbuild {\n  sources = ["null.n"]\n'
        '  provisioner "file" {\n    source      = "${var.name}"\n    destination = var.more\n'
        "  }\n}\n",
    )
    options = ("--input", "newest", "--input-env", "HOME", "--input-command", "cat motd")
    variables = ("-var-file=v.pkrvars.hcl", "-var", "more=y", "--ignore-var", "more")
    found = report(cli, "--workspace", "w", *options, *variables, "u.pkr.hcl")
    (build,) = found.builds
    names = {(each.kind, each.name, each.how) for each in build.inputs}
    assert found.workspace == "w"
    assert names >= {
        ("file", "motd", "named"),
        ("file", "newest", "declared"),
        ("env", "HOME", "declared"),
        ("input-command", "cat motd", "declared"),
        ("variable", "name", "evaluated"),
    }
    assert ("variable", "more", "evaluated") not in names


def test_what_is_not_tracked_has_its_place_and_what_would_track_it(
    cli: Cli, project: Project
) -> None:
    project.write("m.pkr.hcl", MOVING)
    found = report(cli, "m.pkr.hcl", "--assume-unchanged", "image")
    assert found.untracked == tuple(
        Untracked(name=name, at=f"m.pkr.hcl:{line}", builds=(build,), effect=effect, setting=by)
        for name, line, build, effect, by in (
            ("iso_url https://h.example/x.iso", 8, "qemu.disk", "built", "iso_checksum"),
            (
                *("source_ami_filter of amazon-ebs.web", 3, "amazon-ebs.web", "unnoticed"),
                "input_commands",
            ),
            ("image of docker.box", 10, "docker.box", "trusted", "input_commands"),
        )
    )
    lines = cli("inputs", "m.pkr.hcl").out.splitlines()
    assert lines[lines.index("not tracked") + 1].split("  ")[1:2] == [
        "iso_url https://h.example/x.iso"
    ]


JSON = """\
{
  "builders": [
    {"type": "null", "name": "a", "communicator": "none"},
    {"type": "null", "name": "b", "communicator": "none"}
  ],
  "provisioners": [
    {"type": "shell-local", "script": "once.sh"},
    {"type": "shell-local", "script": "twice.sh", "only": ["a"]},
    {"type": "shell-local", "script": "twice.sh", "only": ["b"]}
  ]
}
"""
BLOCKS = """\
{
  "source": {"null": {"a": {"communicator": "none"}}},
  "build": {
    "sources": ["null.a"],
    "provisioner": [
      {"shell-local": {"script": "once.sh"}},
      {"shell-local": {"environment_vars": ["X=1"],
                       "script": "twice.sh"}},
      {"shell-local": {"script": "twice.sh"}}
    ]
  }
}
"""


@pytest.mark.parametrize(("name", "text", "line"), [("t.json", JSON, 7), ("t.pkr.json", BLOCKS, 6)])
def test_a_line_of_json_is_shown_if_it_is_the_only_one(
    cli: Cli, project: Project, name: str, text: str, line: int
) -> None:
    project.write(name, text)
    for script in ("once.sh", "twice.sh"):
        project.write(script, "true")
    found = report(cli, name)
    every = [*found.common, *(each for build in found.builds for each in build.inputs)]
    assert {each.at for each in every if each.name == "once.sh"} == {f"{name}:{line}"}
    assert {each.at for each in every if each.name == "twice.sh"} == {name}


def test_places_are_relative_to_the_project(cli: Cli, root: Project) -> None:
    root.write("images/one.pkr.hcl", TEMPLATE[: TEMPLATE.index("build {")])
    root.write("images/two.pkr.hcl", TEMPLATE[TEMPLATE.index("build {") :])
    result = cli("inputs", "--json", ".", cwd=root.root / "images")
    assert result.rc == 0, result
    found = msgspec.json.decode(result.out, type=InputsReport)
    places = {each.name: each.at for each in found.common}
    assert places["provisioner 1 (shell-local)"] == "images/two.pkr.hcl:3"
    assert places["motd"] == "images/one.pkr.hcl:6"


DOCKER = """\
#!/bin/sh
case $1 in
  -v) echo "Docker version 20.10.0, build 0" ;;
  run) echo abcdef123456 ;;
esac
"""
"""Stands in for Docker, of which the builder needs no more here."""


BOX = """
    source "docker" "box" {
      image        = "ubuntu"
      discard      = true
      communicator = "none"
    }
    source "null" "plain" { communicator = "none" }
    build { sources = ["docker.box", "null.plain"] }
"""


@pytest.fixture
def box(cli: Cli, project: Project, packer: Path) -> Cli:
    """The command line where `t.pkr.hcl` builds on an image that may move."""
    version = subprocess.run([packer, "--version"], capture_output=True, text=True, check=True)
    if not version.stdout.startswith("1.6."):
        pytest.skip("this Packer brings no builder for Docker")
    project.write("bin/docker", DOCKER).chmod(0o755)
    project.write("t.pkr.hcl", BOX)
    path = f"{project.root / 'bin'}:{cli.environment['PATH']}"
    return cli._replace(environment={**cli.environment, "PATH": path})


NOTE = "  not tracked: image of docker.box (t.pkr.hcl:3); see `packer-fork inputs t.pkr.hcl`\n"


def test_plan_says_in_one_line_what_is_not_tracked(box: Cli) -> None:
    planned = box("plan", "t.pkr.hcl")
    assert planned.out.endswith(f"null.plain: build (never built)\n{NOTE}")
    assert "not tracked" not in box("plan", "-only", "null.plain", "t.pkr.hcl").out
    assert "not tracked" not in box("plan", "--assume-unchanged", "*of*", "t.pkr.hcl").out
    event = json.loads(box("plan", "--json", "t.pkr.hcl").out)
    assert event["untracked"] == ["image of docker.box (t.pkr.hcl:3)"]


@pytest.mark.parametrize("shared", [(), ("--share",)])
def test_build_says_so_before_it_builds_and_where_it_skips(
    box: Cli, shared: tuple[str, ...]
) -> None:
    note = f"packer-fork: {NOTE}"
    built = box("build", *shared, "t.pkr.hcl")
    assert built.rc == 0, built
    before, _, after = built.err.partition(note)
    assert "to build" in before
    assert "complete" in after
    skipped = box("build", *shared, "t.pkr.hcl")
    assert "everything is up to date" in skipped.err
    assert built.err.count(note) == skipped.err.count(note) == 1
    assert note not in box("build", "--quiet", *shared, "t.pkr.hcl").err
