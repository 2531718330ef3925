"""What the template says that each build runs, joined with the steps that Packer lists."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from packer_fork.manager.build.planned_steps import with_planned_steps
from packer_fork.model import Actor, Build, Lines, Step, WorkItem
from packer_fork.packer import outcome
from packer_fork.packer.outline import BuildOutline
from packer_fork.template import reader
from packer_fork.template.planned import planned

HCL = """
source "amazon-ebs" "a" {
  skip_create_ami = var.dry
}
source "amazon-ebs" "b" {}
build {
  sources = ["source.amazon-ebs.a", "amazon-ebs.b"]
  provisioner "shell" {
    only   = ["amazon-ebs.b"]
    inline = ["true"]
  }
  provisioner "shell" {
    except  = ["amazon-ebs.b"]
    scripts = ["one.sh", "${path.root}/two.sh"]
  }
  provisioner "shell" {
    only   = [var.which]
    script = "three.sh"
  }
  provisioner "shell" {
    script = "{{template_dir}}/four.sh"
  }
  provisioner "file" {
    sources     = var.uploads
    destination = "/"
  }
  post-processors {
    post-processor "checksum" {}
    post-processor "compress" {
      name = "zip"
    }
    post-processor "artifice" {}
  }
  post-processor "manifest" {}
}
"""
VALUES = {"path.root": "images", "var.uploads": ["x", "y"], "var.dry": True}
SHELL = 4 * (("shell", ""),)
FILE = ("file", "")
POSTS = (("checksum", ""), ("compress", "zip"), ("artifice", ""), ("manifest", ""))


def joined(
    path: Path, text: str, outlines: list[BuildOutline], *except_: str, **names: str
) -> dict[str, Build]:
    path.write_text(text)
    sections = reader.read(str(path)).contents.sections
    by = Actor(user="u", host="h", pid=1)
    item = WorkItem(run=1, number=1, token=1, started=datetime.now(UTC), by=by)
    return with_planned_steps(
        outcome.begin(item, outlines),
        lambda name: planned(sections, names.get(name, name), VALUES),
        except_,
        hcl=path.suffix == ".hcl",
    ).builds


def hcl(tmp_path: Path, *except_: str) -> dict[str, Build]:
    names = ("amazon-ebs.a", "amazon-ebs.b")
    outlines = [BuildOutline(name, "amazon-ebs", (*SHELL, FILE), POSTS, (1, 2)) for name in names]
    return joined(tmp_path / "t.pkr.hcl", HCL, outlines, *except_)


def short(steps: tuple[Step, ...]) -> list[tuple[bool, tuple[str, ...] | None]]:
    return [(step.is_certain, step.scripts) for step in steps]


def test_a_build_has_the_steps_that_the_template_gives_it(tmp_path: Path) -> None:
    builds = hcl(tmp_path)
    rest = [(False, ("three.sh",)), (True, None), (True, ("x", "y"))]
    assert short(builds["amazon-ebs.a"].provisioners) == [
        (True, ("one.sh", "images/two.sh")),
        *rest,
    ]
    assert short(builds["amazon-ebs.b"].provisioners) == [(True, ("",)), *rest]


def test_a_source_may_say_that_it_makes_no_artifact(tmp_path: Path) -> None:
    builds = hcl(tmp_path)
    assert [build.makes_no_artifact for build in builds.values()] == [True, False]


def test_a_build_has_its_places(tmp_path: Path) -> None:
    places = hcl(tmp_path)["amazon-ebs.b"].places
    assert places[0] == Lines(file="t.pkr.hcl", first=5, last=5)
    assert Lines(file="t.pkr.hcl", first=8, last=11) in places
    assert not any(lines.first == 12 for lines in places), "the step that is left out"


@pytest.mark.parametrize(
    ("except_", "left"),
    [
        ((), ["checksum", "compress", "artifice", "manifest"]),
        (("zip",), ["checksum", "manifest"]),
        (("compress",), ["checksum", "compress", "artifice", "manifest"]),
        (("check*",), ["manifest"]),
        (("manifest", "other"), ["checksum", "compress", "artifice"]),
    ],
)
def test_except_drops_a_post_processor_and_the_rest_of_its_chain(
    tmp_path: Path, except_: tuple[str, ...], left: list[str]
) -> None:
    for build in hcl(tmp_path, *except_).values():
        assert [step.type for step in build.post_processors] == left


JSON = """{
  "builders": [{"type": "null", "name": "a", "skip_export": "true"}, {"type": "null"}],
  "provisioners": [
    {"type": "shell-local", "only": ["a"], "script": "a.sh"},
    {"type": "shell-local", "except": ["a"], "inline": ["true"]}
  ],
  "post-processors": [["checksum", {"type": "compress", "name": "zip"}], "manifest"]
}"""


def test_a_json_template_names_builds_as_they_stand(tmp_path: Path) -> None:
    posts = (("checksum", ""), ("compress", "zip"), ("manifest", ""))
    outlines = [BuildOutline(n, "null", SHELL_LOCAL, posts) for n in ("null.a", "null")]
    path = tmp_path / "t.json"
    builds = joined(path, JSON, outlines, "zip", **{"null.a": "a"})
    assert short(builds["null.a"].provisioners) == [(True, ("a.sh",))]
    assert short(builds["null"].provisioners) == [(True, ("",))]
    assert [build.makes_no_artifact for build in builds.values()] == [True, False]
    for build in builds.values():
        assert [step.type for step in build.post_processors] == ["checksum", "manifest"]


SHELL_LOCAL = (("shell-local", ""),)


def test_steps_that_the_template_does_not_list_are_not_certain(tmp_path: Path) -> None:
    """As those of a ``dynamic`` block, which Packer expands."""
    provisioners = (*SHELL, ("shell", ""), FILE)
    outlines = [BuildOutline("amazon-ebs.a", "amazon-ebs", provisioners, POSTS)]
    build = joined(tmp_path / "t.pkr.hcl", HCL, outlines)["amazon-ebs.a"]
    assert [step.is_certain for step in build.provisioners] == 6 * [False]
    assert [step.is_certain for step in build.post_processors] == 4 * [True]
