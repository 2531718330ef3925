"""Inputs that are known without Packer: the same as with it, or not known at all."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from packer_fork.inputs.cache import DigestCache
from packer_fork.inputs.collect import collected, planned_by, said_of
from packer_fork.inputs.declared import Collected, declared_by
from packer_fork.inputs.request import InputsRequest
from packer_fork.template.reader import read
from tests.inputs.test_rebuilds import (
    HCL,
    HCL_BUILDS,
    HCL_EDITS,
    JSON,
    JSON_EDITS,
    edited,
    generated,
    in_hcl,
)
from tests.support.collected_inputs import KEY, assert_recalled, kept, outcome

DATA_BLOCK = 'data "amazon-ami" "base" { owners = ["self"] }'


def without_data(text: str) -> str:
    """Sources of data are asked each time."""
    return text.replace(DATA_BLOCK, "").replace("data.amazon-ami.base.id", "local.tags")


BUILDS = {name: name for name in HCL_BUILDS}


def told(asked: Mapping[str, str]) -> Mapping[str, object]:
    """Some value for each expression: what is kept of it is asked for here, not what it is."""
    return {name: f"value of {source}" for name, source in asked.items()}


def request(
    root: Path,
    name: str,
    builds: Mapping[str, str],
    variable_files: Iterable[str] = (),
    **more: Any,
) -> InputsRequest:
    known: dict[str, object] = {
        "template": read(str(root / name), (str(root / each) for each in variable_files)),
        "builds": builds,
        "root": root,
        "directory": root,
        "key": KEY,
        "evaluate": told,
        "environ": {"HOME": "/root", "FLAVOUR": "sweet"},
        "packer_version": "1.6.6",
        "cache": DigestCache(None),
    }
    return InputsRequest(**(known | more))  # type: ignore[arg-type]


def collect_hcl(root: Path, text: str, **more: Any) -> tuple[Collected, InputsRequest]:
    (root / "t.pkr.hcl").write_text(text)
    asked = request(root, "t.pkr.hcl", {"null.n": "null.n"}, **more)
    return collected(asked), asked


@pytest.mark.parametrize(
    ("name", "text", "builds"),
    [
        *(("t.pkr.hcl", without_data(HCL.replace(old, new)), BUILDS) for old, new, _ in HCL_EDITS),
        *(("t.json", JSON.replace(old, new), {"a": "a", "b": "b"}) for old, new, _ in JSON_EDITS),
    ],
)
def test_every_edit_is_recalled_as_it_was_found(
    tmp_path: Path, name: str, text: str, builds: Mapping[str, str]
) -> None:
    (tmp_path / name).write_text(text)
    asked = request(tmp_path, name, builds)
    found = collected(asked)
    assert (found.references is None) == ('data "amazon-ami"' in text)
    if found.references:
        assert_recalled(found, structs.replace(asked, cache=DigestCache(None)))


@pytest.mark.parametrize("seed", range(150))
def test_generated_templates_are_recalled_as_they_were_found(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    before = generated(rng)
    for template in (before, edited(before, rng)):
        (tmp_path / "t.pkr.hcl").write_bytes(in_hcl(template, rng))
        asked = request(tmp_path, "t.pkr.hcl", {f"null.{n}": f"null.{n}" for n in template.sources})
        found = collected(asked)
        assert_recalled(found, structs.replace(asked, cache=DigestCache(None)))


FILES = """
source "null" "n" { communicator = "none" }
build {
  sources = ["null.n"]
  provisioner "shell-local" { script = "run.sh" }
  provisioner "shell-local" { inline = ["sh tools/install.sh lib/*.txt late ../up", "cp x y"] }
  provisioner "file" {
    source      = "upload/"
    destination = "/tmp"
  }
  provisioner "file" {
    source      = "link"
    destination = "/tmp"
  }
  provisioner "ansible" { playbook_file = "play/site.yml" }
  post-processor "manifest" { output = "upload/made.json" }
}
"""


def touch(path: Path, text: str = "new") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": str,
    "a script": lambda root: touch(root / "run.sh"),
    "its mode": lambda root: (root / "run.sh").chmod(0o755),
    "gone": lambda root: (root / "run.sh").unlink(),
    "a folder now": lambda root: to_folder(root / "run.sh"),
    "a file in a folder": lambda root: touch(root / "upload/more"),
    "a file in a deep folder": lambda root: touch(root / "upload/deep/more"),
    "one less": lambda root: (root / "upload/a").unlink(),
    "an empty folder": lambda root: (root / "upload/empty").mkdir(),
    "what the build makes": lambda root: touch(root / "upload/made.json"),
    "a word of a command": lambda root: touch(root / "late"),
    "a word above": lambda root: touch(root.parent / "up"),
    "a match": lambda root: touch(root / "lib/b.txt"),
    "no match": lambda root: touch(root / "lib/b.sh"),
    "another target": lambda root: relink(root / "link", "lib"),
    "a target": lambda root: (root / "elsewhere").mkdir(),
    "an unrelated file": lambda root: touch(root / "unrelated"),
    "beside the playbook": lambda root: touch(root / "play/roles/r/tasks/main.yml"),
    "beside its folder": lambda root: touch(root / "roles/r/tasks/main.yml"),
    "settings of Ansible": lambda root: touch(root / "ansible.cfg", "[defaults]\ninventory=inv"),
    "other settings": lambda root: touch(root / "inv", "host"),
    "a folder that is gone": lambda root: shutil.rmtree(root / "lib"),
    "the template's folder as a word": lambda root: touch(root / "cp"),
}
WITHOUT_PACKER = {"nothing", "a script", "its mode", "an unrelated file", "what the build makes"}
"""What is seen by what is kept: all else may be asked of Packer again."""


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_in_the_file_system_is_seen(tmp_path: Path, change: str) -> None:
    root = tmp_path / "project"
    for name in ("run.sh", "tools/install.sh", "lib/a.txt", "upload/a", "upload/deep/b"):
        touch(root / name, name)
    touch(root / "play/site.yml", "---")
    (root / "link").symlink_to("elsewhere")
    found, asked = collect_hcl(root, FILES)
    assert found.references is not None
    CHANGES[change](root)
    asked = structs.replace(asked, cache=DigestCache(None))
    recalled = declared_by(
        kept(found.references),
        asked,
        said=lambda name: said_of(asked, name),
        planned=planned_by(asked),
    )
    anew = collected(structs.replace(asked, cache=DigestCache(None))).declared
    assert recalled is None or outcome(recalled) == outcome(anew)
    if change in WITHOUT_PACKER:
        assert recalled is not None


@pytest.mark.parametrize("name", ["ansible.cfg", "data.txt"])
def test_what_a_file_says_that_decides_on_others_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for each in ("ansible.cfg", "data.txt", "play/site.yml"):
        touch(tmp_path / each, "before")
    now = time.time_ns() + 3_600 * 10**9
    monkeypatch.setattr("packer_fork.inputs.cache.time.time_ns", lambda: now)
    source = 'locals { l = fileexists("data.txt") ? file("data.txt") : "" }\n'
    found, asked = collect_hcl(tmp_path, source + FILES)
    assert_recalled(found, structs.replace(asked, cache=DigestCache(None)))
    assert found.references is not None
    touch(tmp_path / name, "after")
    anew = structs.replace(asked, cache=DigestCache(None))
    references = kept(found.references)
    assert declared_by(references, anew, said=str, planned=planned_by(anew)) is None


def test_another_target_of_a_link_that_packer_reads_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text may be the same: the file that was opened is another one."""
    for name in ("one", "two"):
        touch(tmp_path / name, "same")
    (tmp_path / "data.txt").symlink_to("one")
    now = time.time_ns() + 3_600 * 10**9
    monkeypatch.setattr("packer_fork.inputs.cache.time.time_ns", lambda: now)
    found, asked = collect_hcl(tmp_path, 'locals { l = file("data.txt") }\n' + FILES)
    assert_recalled(found, structs.replace(asked, cache=DigestCache(None)))
    assert found.references is not None
    relink(tmp_path / "data.txt", "two")
    anew = structs.replace(asked, cache=DigestCache(None))
    references = kept(found.references)
    assert declared_by(references, anew, said=str, planned=planned_by(anew)) is None


IMPURE = {
    "timestamp()": False,
    "uuidv4()": False,
    'bcrypt("x")': False,
    'legacy_isotime("2006")': False,
    'vault("a", "b")': False,
    'consul_key("a")': False,
    'fileset(".", "*.sh")': False,
    "unheard_of()": False,
    "file(var.x)": True,
    'upper("x")': True,
    'file("data.txt")': True,
    'templatefile("text.tpl", {})': True,
    'templatefile("moving.tpl", {})': False,
    'templatefile("reading.tpl", {})': False,
    'templatefile("commented.tpl", {})': False,
    'file("moving.tpl")': True,
    'file("new.txt")': False,
}


@pytest.mark.parametrize("expression", IMPURE)
def test_what_may_change_by_itself_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expression: str
) -> None:
    texts = {"text.tpl": "${x}", "moving.tpl": "${timestamp()}", "reading.tpl": '${file("a")}'}
    texts["commented.tpl"] = '${file /* of a */ # b\n ("a")}'
    for name, text in {"data.txt": "data", **texts}.items():
        touch(tmp_path / name, text)
    now = time.time_ns() + 3_600 * 10**9
    monkeypatch.setattr("packer_fork.inputs.cache.time.time_ns", lambda: now)
    touch(tmp_path / "new.txt")
    os.utime(tmp_path / "new.txt", ns=(now, now))
    source = f'variable "x" {{}}\nlocals {{ l = {expression} }}\n{FILES}'
    found, _ = collect_hcl(tmp_path, source, evaluate=_nothing_of_x)
    assert (found.references is not None) == IMPURE[expression]


def _nothing_of_x(asked: Mapping[str, str]) -> Mapping[str, object]:
    return {name: "told" for name, source in asked.items() if source == "var.x"}


HCL_JSON_OF_ENVIRONMENT = r"""{
  "variable": {"f": {"default": "${env(\"A\")}${\u0065nv(\u0022FLAVOUR\u0022)}"}},
  "source": {"null": {"n": {"communicator": "none"}}},
  "build": {"sources": ["null.n"]}
}"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.pkr.hcl", 'variable "f" { default = env("FLAVOUR") }\n' + FILES),
        ("t.json", JSON.replace('"size": "1"', '"size": "{{env `FLAVOUR`}}"')),
        ("t.json", JSON.replace('"size": "1"', r'"size": "{{env `A`}}{{\u0065nv\n`FLAVOUR`}}"')),
        ("t.pkr.json", HCL_JSON_OF_ENVIRONMENT),
    ],
)
def test_a_variable_of_the_environment_counts(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    builds = {"a": "a", "b": "b"} if name == "t.json" else {"null.n": "null.n"}
    asked = request(tmp_path, name, builds)
    found = collected(asked)
    assert_recalled(found, asked)
    assert found.references is not None
    for environ in ({"HOME": "/root"}, {"HOME": "/root", "FLAVOUR": "sour"}):
        changed = structs.replace(asked, environ=environ)
        assert declared_by(found.references, changed, said=str, planned=planned_by(changed)) is None
    (tmp_path / name).write_text(text.replace("FLAVOUR", "${1}"))
    assert collected(request(tmp_path, name, builds)).references is None


@pytest.mark.parametrize("word", ["isotime", "timestamp", "uuid", "strftime", "vault `a` `b`"])
def test_moments_in_json_are_not_kept(tmp_path: Path, word: str) -> None:
    (tmp_path / "t.json").write_text(JSON.replace("{{user `size`}}", f"x{{{{{word}}}}}"))
    assert collected(request(tmp_path, "t.json", {"a": "a"})).references is None


def test_no_value_is_kept(tmp_path: Path) -> None:
    source = 'variable "x" {}\n' + FILES.replace("cp x y", "login --password ${var.x} the-word")
    found, _ = collect_hcl(tmp_path, source, evaluate=lambda asked: dict.fromkeys(asked, "hunter2"))
    assert found.references is not None
    assert "the-word" in found.declared.said("null.n")
    for secret in ("hunter2", "the-word", "password"):
        assert secret not in repr(found.references)
