"""``artifacts --manifest`` beside the manifest that Packer's own post-processor writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli, Project
from tests.support.queries import done

pytestmark = pytest.mark.usefixtures("packer")

SOURCES = """
    source "file" "a" {
      content = "hello"
      target  = "out/a.txt"
    }
    source "file" "b" {
      content = "b"
      target  = "out/b.txt"
    }
    source "null" "n" { communicator = "none" }
"""
COMPRESS = """
    post-processor "compress" {
      only   = ["file.a"]
      output = "out/a.tar.gz"
    }
"""
KEEPING = COMPRESS.replace("only ", "keep_input_artifact = true\n      only ")
CHECKSUM = """
    post-processor "checksum" {
      only   = ["file.a"]
      output = "out/{{.BuildName}}.sum"
    }
"""
MANIFEST = 'post-processor "manifest" {}'
CHAINS = {
    "alone": MANIFEST,
    "beside another": f"{CHECKSUM}{MANIFEST}",
    "at the end": f"post-processors {{ {COMPRESS}{CHECKSUM}{MANIFEST}\n }}",
    "in the middle": f"post-processors {{ {CHECKSUM}{MANIFEST}\n{KEEPING} }}",
    "in the second chain": f"post-processors {{ {CHECKSUM} }}\n"
    f"post-processors {{ {COMPRESS}{MANIFEST}\n }}",
}


def told(path: Path) -> list[dict[str, Any]]:
    """The builds of a manifest, without what differs from run to run."""
    builds = json.loads(path.read_text())["builds"]
    for build in builds:
        assert isinstance(build.pop("build_time"), int)
        assert len(build.pop("packer_run_uuid")) == 36
    return sorted(builds, key=lambda build: str(build["name"]))


def is_the_same(cli: Cli, project: Project, template: str) -> None:
    (project.root / "out").mkdir()
    done(cli, "build", template)
    done(cli, "artifacts", "--manifest", "ours.json", template)
    theirs = told(project.root / "packer-manifest.json")
    assert theirs
    assert told(project.root / "ours.json") == theirs


@pytest.mark.parametrize("chains", CHAINS.values(), ids=CHAINS)
def test_it_is_packers_own(cli: Cli, project: Project, chains: str) -> None:
    build = f'build {{\n sources = ["file.a", "file.b", "null.n"]\n {chains}\n}}'
    project.write("t.pkr.hcl", f"{SOURCES}\n{build}")
    is_the_same(cli, project, "t.pkr.hcl")


def test_it_is_packers_own_for_json(cli: Cli, project: Project) -> None:
    template = {
        "builders": [
            {"type": "file", "content": "hello", "target": "out/a.txt"},
            {"type": "null", "communicator": "none", "name": "n"},
        ],
        "post-processors": [
            [
                {"type": "compress", "output": "out/a.tar.gz", "only": ["file"]},
                {"type": "manifest"},
            ],
        ],
    }
    (project.root / "t.json").write_text(json.dumps(template))
    is_the_same(cli, project, "t.json")


def test_the_manifest_is_an_artifact_of_the_builds_that_it_tells(
    cli: Cli, project: Project
) -> None:
    manifests = """
        post-processor "manifest" { only = ["null.n"] }
        post-processor "manifest" {
          output = "${var.folder}/second.json"
          only   = ["file.b"]
        }
    """
    build = f'build {{\n sources = ["null.n", "file.b"]\n {manifests}\n}}'
    folder = 'variable "folder" { default = "out" }'
    project.write("t.pkr.hcl", f"{SOURCES}\n{folder}\n{build}")
    (project.root / "out").mkdir()
    done(cli, "build", "t.pkr.hcl")
    assert "packer-manifest.json" in cli("artifacts", "--build", "null.n").out
    for name, path in {"null.n": "packer-manifest.json", "file.b": "out/second.json"}.items():
        assert "everything is up to date" in done(cli, "build", "t.pkr.hcl")
        (project.root / path).unlink()
        told = done(cli, "build", "t.pkr.hcl")
        assert "1 to build, 1 up to date" in told
        assert f"{name}: build (artifact {path} is missing)" in told
    (project.root / "packer-manifest.json").write_text('{"builds": []}')
    assert "everything is up to date" in done(cli, "build", "t.pkr.hcl")


def test_without_a_manifest_in_the_template_it_tells_how_chains_end(
    cli: Cli, project: Project
) -> None:
    build = (
        f'build {{\n sources = ["file.a", "null.n"]\n post-processors {{{COMPRESS}{CHECKSUM}}}\n}}'
    )
    project.write("t.pkr.hcl", f"{SOURCES}\n{build}")
    (project.root / "out").mkdir()
    done(cli, "build", "t.pkr.hcl")
    done(cli, "artifacts", "--manifest", "ours.json", "t.pkr.hcl")
    (a, n) = told(project.root / "ours.json")
    assert [file["name"] for file in a["files"]] == ["out/a.tar.gz", "out/a.sum"]
    assert (n["artifact_id"], n["files"]) == ("Null", None)
