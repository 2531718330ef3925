"""Plugins beside Packer, in its folders and, for newer releases, as it lists them."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from packer_fork.packer import plugins, program
from packer_fork.packer.program import Program

pytestmark = pytest.mark.processes


def in_use(program_: Program, environ: dict[str, str]) -> dict[str, str]:
    question = plugins.installed(program_, environ)
    return plugins.in_use(program_, environ, question.output() if question else None)


DIGEST = f"sha256:{sha256(b'program').hexdigest()}"


def test_unversioned_plugins_are_told_by_their_content(
    packer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, named, here = tmp_path / ".packer.d/plugins", tmp_path / "named", tmp_path / "here"
    for folder in (own, named, here):
        folder.mkdir(parents=True)
    (own / "packer-builder-a").write_bytes(b"program")
    (named / "packer-provisioner-b").write_bytes(b"program")
    (here / "packer-post-processor-c").write_bytes(b"program")
    (here / "packer-plugin.txt").write_bytes(b"program")
    monkeypatch.chdir(here)
    environ = {**os.environ, "HOME": str(tmp_path), "PACKER_PLUGIN_PATH": str(named)}
    found = in_use(program.find(str(packer)), environ)
    names = ("packer-builder-a", "packer-provisioner-b", "packer-post-processor-c")
    assert {name: found.get(name) for name in names} == dict.fromkeys(names, DIGEST)
    assert "packer-plugin.txt" not in found


def test_listed_plugins_are_told_by_their_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is that of `packer plugins installed` since 1.8."""
    folder = "/home/u/.config/packer/plugins/github.com/hashicorp"
    newer = tmp_path / "packer"
    newer.write_text(
        f"#!/bin/sh\n"
        f"echo {folder}/docker/packer-plugin-docker_v1.0.8_x5.0_linux_amd64\n"
        f"echo {folder}/docker/packer-plugin-docker_v1.1.0_x5.0_linux_amd64\n"
        f"echo {folder}/qemu/packer-plugin-qemu_v1.2.0-dev_x5.0_linux_amd64\n",
        encoding="utf-8",
    )
    newer.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    found = in_use(Program(str(newer), (1, 11, 2), "1.11.2"), {"HOME": str(tmp_path)})
    assert found == {
        "github.com/hashicorp/docker": "1.0.8, 1.1.0",
        "github.com/hashicorp/qemu": "1.2.0-dev",
    }
