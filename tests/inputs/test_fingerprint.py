"""When the fingerprint of a template is another one, and what is said of it."""

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packer_fork.errors import TemplateError
from packer_fork.inputs.record import Inputs, difference
from tests.conftest import Project
from tests.support.collected_inputs import inputs_of
from tests.support.packer_versions import needs_built_in

pytestmark = pytest.mark.usefixtures("packer")

TEMPLATE = """
variable "region" { default = "eu" }
variable "token" {
  default   = "first"
  sensitive = true
}
locals {
  when = timestamp()
  id   = uuidv4()
  name = "${var.region}-image"
  here = "${path.cwd}/scripts"
  tag  = "${local.name}-${local.when}"
}
source "null" "n" {
  communicator = "none"
  ssh_host     = local.tag
  ssh_password = var.token
}
build {
  sources = ["source.null.n"]
  provisioner "shell-local" { scripts = ["scripts/setup.sh", "scripts/other.sh"] }
  provisioner "shell-local" { script = "${path.cwd}/scripts/setup.sh" }
  provisioner "ansible" { playbook_file = "play/site.yml" }
}
"""

USE = """
source "null" "n" { ssh_host = jsonencode(var.v) }
build { sources = ["source.null.n"] }
"""


@pytest.fixture
def root(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project.root)
    project.write("t.pkr.hcl", TEMPLATE)
    for name in ("scripts/setup.sh", "scripts/other.sh", "play/site.yml", "play/roles/a.yml"):
        project.write(name, name)
    return project.root


def collected(root: Path, *flags: str, **changed: Any) -> Inputs:
    return inputs_of(root, "t.pkr.hcl", *flags, **changed)


def test_nothing_changed(root: Path) -> None:
    first, again = collected(root), collected(root)
    assert first.unknown == ()
    assert (first.fingerprint, difference(first, again)) == (again.fingerprint, ())


def test_kept_as_json_and_back(root: Path) -> None:
    inputs = collected(root)
    document = msgspec.json.encode(inputs)
    assert msgspec.json.decode(document, type=Inputs) == inputs


def test_each_change_is_named(root: Path, project: Project) -> None:
    before = collected(root)
    project.write("scripts/setup.sh", "other")
    project.write("play/roles/new.yml", "")
    (root / "play/roles/a.yml").unlink()
    (root / "scripts/other.sh").chmod(0o755)
    after = collected(root, "-var", "region=us", packer_version="1.11.2")
    assert difference(before, after) == (
        "play/roles/a.yml is gone",
        "play/roles/new.yml is new",
        "scripts/other.sh is now executable",
        "scripts/setup.sh changed",
        "packer 1.6.6 -> 1.11.2",
        "variable region changed",
    )
    assert before.fingerprint != after.fingerprint


def test_plugins_and_flags_and_environment_are_named(root: Path) -> None:
    plugins = {
        "github.com/hashicorp/ansible": "1.0",
        "packer-builder-null": "sha256:1",
        "x/unrelated": "1",
    }
    before = collected(root, plugins=plugins, environ={"PATH": "", "X": "1"})
    after = collected(
        root,
        plugins={"github.com/hashicorp/ansible": "1.1", "packer-builder-null": "sha256:2"},
        flags=("ignore-prerelease-plugins",),
        environ={"PATH": "", "X": "2"},
        input_env=("X", "Y"),
    )
    assert difference(before, after) == (
        "env X is new",
        "flag -ignore-prerelease-plugins is new",
        "plugin github.com/hashicorp/ansible 1.0 -> 1.1",
        "plugin packer-builder-null changed",
    )


def test_working_directory_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = collected(root)
    monkeypatch.chdir(root / "scripts")
    assert "working directory changed" in difference(
        before, collected(root, directory=root / "scripts")
    )


def test_touching_and_other_mode_bits_are_no_change(root: Path) -> None:
    before = collected(root)
    for path in (root / "scripts").iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    assert collected(root).fingerprint == before.fingerprint


def test_change_of_a_local_is_told_by_what_it_follows_from(root: Path) -> None:
    assert difference(collected(root), collected(root, "-var=region=us")) == (
        "variable region changed",
    )


def test_ignored_variable_and_all_that_follows_from_it(root: Path, project: Project) -> None:
    project.write("v.pkrvars.hcl", 'region = "ap"\n')
    changed: dict[str, Any] = {"ignore_vars": frozenset(("region",))}
    first = collected(root, "-var=region=us", **changed)
    assert collected(root, "-var=region=eu", **changed).fingerprint == first.fingerprint
    from_file = collected(root, "-var-file=v.pkrvars.hcl", **changed)
    assert from_file.fingerprint == first.fingerprint
    other = collected(root, "-var=token=second", **changed)
    assert difference(first, other) == ("variable token changed",)


def test_no_value_is_kept(root: Path) -> None:
    document = msgspec.json.encode(collected(root, "-var=token=very-secret-value"))
    assert b"very-secret-value" not in document
    keyed = collected(root, "-var=token=very-secret-value", key=b"another")
    assert msgspec.json.encode(keyed) != document


def test_checkout_elsewhere_with_another_umask_agrees(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = collected(root)
    there = tmp_path / "else where" / "checkout"
    shutil.copytree(root, there)
    for path in there.rglob("*"):
        path.chmod(path.stat().st_mode & ~(stat.S_IRWXG | stat.S_IRWXO))
    monkeypatch.chdir(there)
    monkeypatch.delenv("PWD", raising=False)
    assert difference(here, collected(there)) == ()
    (tmp_path / "link").symlink_to(there)
    monkeypatch.chdir(tmp_path / "link")
    linked = tmp_path / "link"
    environ = {**os.environ, "PWD": str(linked)}
    assert difference(here, collected(linked, environ=environ)) == ()


def test_precedence_of_variables_is_packers_own(
    root: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Default < PKR_VAR < automatic files < -var-file < -var, each proven by an equal value."""
    project.write("d/t.pkr.hcl", f'variable "v" {{\n type = string\n default = "1"\n}}\n{USE}')
    project.write("given.pkrvars.hcl", 'v = "4"\n')
    by_value = {
        n: inputs_of(root, "d", f"-var=v={n}").entries["variable v"] for n in ("1", "2", "3", "4")
    }
    assert len(set(by_value.values())) == 4
    assert inputs_of(root, "d").entries["variable v"] == by_value["1"]
    monkeypatch.setenv("PKR_VAR_v", "2")
    assert inputs_of(root, "d").entries["variable v"] == by_value["2"]
    project.write("d/x.auto.pkrvars.hcl", 'v = "3"\n')
    assert inputs_of(root, "d").entries["variable v"] == by_value["3"]
    with_file = inputs_of(root, "d", "-var-file=given.pkrvars.hcl")
    assert with_file.entries["variable v"] == by_value["4"]
    with_both = inputs_of(root, "d", "-var=v=1", "-var-file=given.pkrvars.hcl", "-var=v=2")
    assert with_both.entries["variable v"] == by_value["2"]


def test_environment_of_a_default_counts(
    root: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("t.pkr.hcl", f'variable "v" {{ default = env("OF_TEST") }}\n{USE}')
    monkeypatch.setenv("OF_TEST", "1")
    before = collected(root)
    monkeypatch.setenv("OF_TEST", "2")
    assert difference(before, collected(root)) == ("variable v changed",)


def test_variables_of_any_type_and_size(root: Path, project: Project) -> None:
    project.write("t.pkr.hcl", f'variable "v" {{\n default = null\n}}\n{USE}')
    values = ["1", "true", '["a"]', '{"a"=[1,{"b"=null}]}', '"' + "x" * 100_000 + '"', '"é\\n"']
    entries = [collected(root, f"-var=v={value}") for value in values]
    assert all(each.unknown == () for each in entries)
    assert len({each.entries["variable v"] for each in entries}) == len(values)


def test_short_secrets_do_not_blind_the_evaluator(root: Path, project: Project) -> None:
    for character in ("a", "1", "=", "|"):
        project.write(
            "t.pkr.hcl",
            f'variable "v" {{\n default = "{character}"\n sensitive = true\n}}\n'
            'variable "w" { default = "aaaaaaaa1111111" }\n'
            + USE.replace("var.v", "[var.v, var.w]"),
        )
        assert collected(root).entries.keys() >= {"variable v", "variable w"}


def test_file_that_packer_would_load_is_missing(root: Path) -> None:
    with pytest.raises(TemplateError, match=r"none\.pkrvars\.hcl"):
        collected(root, "-var-file=none.pkrvars.hcl")


def test_name_that_is_no_utf8(root: Path) -> None:
    strange = os.fsencode(root / "play") + b"/\xff\xfe"
    Path(os.fsdecode(strange)).write_text("1", encoding="utf-8")
    before = collected(root)
    msgspec.json.encode(before)
    Path(os.fsdecode(strange)).write_text("2", encoding="utf-8")
    assert len(difference(before, collected(root))) == 1


FOLDERS = ("play", "play/roles", "play/files/deep")
NAMES = ("a.yml", "b", "c.sh")
Content = tuple[str, bool]
trees = st.dictionaries(
    st.sampled_from([f"{folder}/{name}" for folder in FOLDERS for name in NAMES]),
    st.tuples(st.sampled_from(["", "x", "y", "xy"]), st.booleans()),
)


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(first=trees, second=trees, region=st.sampled_from(["eu", "us"]))
def test_fingerprint_is_equal_exactly_if_the_inputs_are(
    root: Path, tmp_path: Path, first: dict[str, Content], second: dict[str, Content], region: str
) -> None:
    cache = tmp_path / "cache"
    _become(root, first)
    before = collected(root, cache=cache)
    _become(root, second)
    after = collected(root, f"-var=region={region}", cache=cache)
    same = first == second and region == "eu"
    assert (before.fingerprint == after.fingerprint) is same
    changed = {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
    reasons = difference(before, after)
    assert len(reasons) == len(changed) + (region != "eu")
    assert all(any(reason.startswith(f"{name} ") for reason in reasons) for name in changed)


def _become(root: Path, tree: dict[str, Content]) -> None:
    shutil.rmtree(root / "play")
    (root / "play").mkdir()
    (root / "play/site.yml").touch()
    for name, (content, executable) in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        path.chmod(0o755 if executable else 0o644)


def test_building_is_no_change(root: Path, project: Project, packer: Path) -> None:
    needs_built_in("ansible-local")
    project.write(
        "t.pkr.hcl",
        """
        variable "folder" { default = "made" }
        source "file" "f" {
          content = file("scripts/setup.sh")
          target  = "${var.folder}/out.txt"
        }
        build {
          sources = ["source.file.f"]
          provisioner "shell-local" { scripts = ["scripts/other.sh"] }
          provisioner "shell-local" { inline = ["echo x > played.txt", "ls made"] }
          provisioner "ansible-local" {
            playbook_file = "site.yml"
            only          = ["null.never"]
          }
          post-processor "manifest" {}
          post-processor "checksum" {
            output = "sums/{{.BuildName}}_{{.ChecksumType}}.txt"
          }
          post-processor "shell-local" { inline = ["cat sums/*.txt packer-manifest.json"] }
        }
        """,
    )
    (root / "scripts/other.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    (root / "scripts/other.sh").chmod(0o755)
    (root / "made").mkdir()
    before = collected(root)
    environ = {**os.environ, "CHECKPOINT_DISABLE": "1", "PACKER_CACHE_DIR": str(root / "cached")}
    done = subprocess.run(
        [packer, "build", "t.pkr.hcl"], capture_output=True, text=True, check=False, env=environ
    )
    assert done.returncode == 0, done.stdout
    assert (root / "packer-manifest.json").exists()
    assert (root / "sums").is_dir()
    assert difference(before, collected(root)) == ()
