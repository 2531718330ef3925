"""Base images that a server may exchange: named as untracked, with their places."""

import json
from typing import Any

import pytest

from packer_fork.inputs import unknowns
from packer_fork.inputs.dependence import dependence
from packer_fork.inputs.texts import Values
from packer_fork.inputs.unknowns import Unknowable
from packer_fork.template import hcl, hcl_json, legacy
from packer_fork.template.contents import Contents

DIGEST = f"@sha256:{'0' * 64}"
VALUES = Values({"var.image": "ubuntu:24.04", "local.pinned": f"ubuntu{DIGEST}"}, {}, {})
FILTER = {"filters": {"name": "x"}, "most_recent": True}

ROWS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("amazon-ebs", {"source_ami_filter": FILTER}, ["source_ami_filter"]),
    ("amazon-ebs", {"source_ami": "ami-1", "subnet_filter": {"filters": {"x": "y"}}}, []),
    ("googlecompute", {"source_image_family": "debian-12"}, ["source_image_family"]),
    ("googlecompute", {"source_image": "debian-12-v2026", "image_family": "mine"}, []),
    ("openstack", {"source_image_filter": FILTER}, ["source_image_filter"]),
    ("unheard-of", {"base": FILTER}, ["base"]),
    ("docker", {"image": "ubuntu:24.04", "pull": False}, ["image"]),
    ("docker", {"image": f"ubuntu{DIGEST}"}, []),
    ("null", {"image": "ubuntu:24.04"}, []),
    ("azure-arm", {"image_publisher": "Canonical"}, ["image_publisher"]),
    ("azure-arm", {"image_publisher": "x", "image_version": "latest"}, ["image_publisher"]),
    ("azure-arm", {"image_publisher": "x", "image_version": "1.2.3"}, []),
    ("azure-arm", {"shared_image_gallery": {"image_name": "x"}}, ["shared_image_gallery"]),
    ("azure-arm", {"shared_image_gallery": {"image_version": "1.0.0"}}, []),
    ("vagrant", {"source_path": "hashicorp/bionic64"}, ["source_path"]),
    ("vagrant", {"source_path": "hashicorp/bionic64", "box_version": "1.0"}, []),
    ("vagrant", {"source_path": "boxes/mine.box"}, []),
    ("hcloud", {"image": "ubuntu-24.04"}, ["image"]),
    ("hcloud", {"image": "114690387"}, []),
]


def moving(parsed: Contents, build: str) -> list[Unknowable]:
    assert parsed.is_parsable
    return list(unknowns.moving(dependence(parsed.sections, build).sections, VALUES))


def written(content: dict[str, Any]) -> str:
    """Attributes in HCL, objects as blocks, each on a line of its own."""
    lines = (
        f"{key} {{\n{written(value)}}}\n"
        if isinstance(value, dict)
        else f"{key} = {json.dumps(value)}\n"
        for key, value in content.items()
    )
    return "".join(lines)


@pytest.mark.parametrize(("plugin", "content", "found"), ROWS)
def test_what_moves_is_named_in_every_language(
    plugin: str, content: dict[str, Any], found: list[str]
) -> None:
    source = f'source "{plugin}" "s" {{\n{written({"before": 1, **content})}}}\n'
    in_hcl = moving(
        hcl.parse(f'{source}build {{ sources = ["source.{plugin}.s"] }}\n'.encode(), "t.pkr.hcl"),
        f"{plugin}.s",
    )
    assert [each.name for each in in_hcl] == [f"{name} of {plugin}.s" for name in found]
    for each in in_hcl:
        assert each.at is not None
        assert source.splitlines()[each.at.line - 1].startswith(each.name.partition(" ")[0])
    document = {"builders": [{"type": plugin, "name": "s", **content}]}
    in_json = moving(legacy.parse(json.dumps(document).encode()), "s")
    assert [each.name for each in in_json] == [f"{name} of s" for name in found]
    blocks = {"source": {plugin: {"s": content}}, "build": {"sources": [f"{plugin}.s"]}}
    in_blocks = moving(hcl_json.parse(json.dumps(blocks).encode(), "t.pkr.json"), f"{plugin}.s")
    assert [(each.name, each.at and each.at.line) for each in in_blocks] == [
        (f"{name} of {plugin}.s", 0) for name in found
    ]


@pytest.mark.parametrize(
    ("expression", "found"), [("var.image", 1), ("local.pinned", 0), ("var.not_known", 1)]
)
def test_what_pins_an_image_is_evaluated(expression: str, found: int) -> None:
    source = f'source "docker" "s" {{ image = {expression} }}\nbuild {{ sources = ["docker.s"] }}\n'
    assert len(moving(hcl.parse(source.encode()), "docker.s")) == found


def test_a_build_block_may_pin_or_add() -> None:
    source = """
    source "azure-arm" "s" { image_publisher = "x" }
    build {
      source "azure-arm.s" {
        name          = "pinned"
        image_version = "1.0"
      }
      source "azure-arm.s" { name = "free" }
    }
    """
    parsed = hcl.parse(source.encode())
    assert moving(parsed, "azure-arm.pinned") == []
    assert len(moving(parsed, "azure-arm.free")) == 1
