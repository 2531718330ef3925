"""What cannot be known is never silently unchanged."""

from pathlib import Path

import pytest

from packer_fork.template import hcl_json
from tests.conftest import Project
from tests.support.collected_inputs import inputs_of

pytestmark = pytest.mark.usefixtures("packer")


@pytest.fixture
def root(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project.root)
    return project.root


USE = """
source "null" "n" { ssh_host = var.v }
build { sources = ["source.null.n"] }
"""


def qemu(attributes: str) -> str:
    return f'source "qemu" "q" {{\n{attributes}\n}}\nbuild {{ sources = ["source.qemu.q"] }}\n'


@pytest.mark.parametrize(
    ("template", "unknown"),
    [
        (
            qemu('iso_url = "https://me:pw@h.example/a.iso?key=1"'),
            ("iso_url https://h.example/a.iso",),
        ),
        (
            qemu('iso_urls = ["http://a.example/x", "x.iso"]\niso_checksum = "none"'),
            ("iso_urls http://a.example/x",),
        ),
        (
            qemu('iso_url = "http://a.example/x"\niso_checksum = "file:http://a.example/SUMS"'),
            ("iso_url http://a.example/x",),
        ),
        (qemu('iso_url = "http://a.example/x"\niso_checksum = "sha256:abcd"'), ()),
        (qemu('iso_url = "http://a.example/x?checksum=sha256:abcd"'), ()),
        (qemu('iso_url = "file:///nowhere/a.iso"\niso_checksum = "none"'), ()),
        (
            qemu('iso_url = "x.iso"\nmore {\n iso_url = "http://a.example/x"\n}'),
            ("more.iso_url http://a.example/x",),
        ),
        (
            qemu(
                'iso_url = "http://a.example/x"\niso_checksum = "sha256:abcd"\n'
                'more {\n iso_url = "http://a.example/y"\n}'
            ),
            ("more.iso_url http://a.example/y",),
        ),
        (
            qemu(
                'iso_url = "x.iso"\niso_checksum = "sha256:abcd"\n'
                'guest_additions_url = "http://a.example/z"'
            ),
            ("guest_additions_url http://a.example/z",),
        ),
        (
            qemu(
                'guest_additions_url = "http://a.example/z"\nguest_additions_sha256 = "abcd"\n'
                'more {\n iso_urls = ["http://a.example/y"]\n iso_checksum = "md5:abcd"\n}'
            ),
            (),
        ),
        ('source "null" "n" {\n communicator = \n', ("template t.pkr.hcl",)),
        (f'variable "v" {{ type = string }}\n{USE}', ("variable v",)),
        (f'variable "v" {{ default = vault("a", "b") }}\n{USE}', ("variables", "vault")),
        (f'variable "v" {{ default = "vault" }}\n{USE}', ()),
    ],
)
def test_unknown_is_named(
    root: Path, project: Project, template: str, unknown: tuple[str, ...]
) -> None:
    project.write("t.pkr.hcl", template)
    assert inputs_of(root, "t.pkr.hcl").unknown == unknown


def test_checksum_of_a_source_holds_where_a_build_changes_it(root: Path, project: Project) -> None:
    project.write(
        "t.pkr.hcl",
        """
        source "qemu" "q" { iso_checksum = "sha256:abcd" }
        build {
          source "source.qemu.q" { iso_url = "http://a.example/x" }
        }
        """,
    )
    assert inputs_of(root, "t.pkr.hcl").unknown == ()


@pytest.mark.parametrize(
    ("assumed", "left"),
    [
        ({"data.amazon-ami.base"}, {"data.amazon-ami.other"}),
        ({"data.base"}, {"data.amazon-ami.other"}),
        ({"data.*"}, set()),
        ({"base"}, {"data.amazon-ami.base", "data.amazon-ami.other"}),
    ],
)
def test_data_sources_and_trust_in_them(
    root: Path, project: Project, assumed: set[str], left: set[str]
) -> None:
    project.write(
        "t.pkr.hcl",
        """
        locals { ami = data.amazon-ami.base.id }
        source "null" "n" { ssh_host = "${data.amazon-ami.other["id"]}-${local.ami}" }
        build { sources = ["source.null.n"] }
        """,
    )
    found = inputs_of(root, "t.pkr.hcl", assume_unchanged=frozenset((*assumed, "variables")))
    assert set(found.unknown) == left


def test_more_files_than_can_be_looked_at(root: Path, project: Project) -> None:
    for number in range(10):
        project.write(f"many/{number}", "")
    project.write(
        "t.pkr.hcl",
        'source "file" "f" {\n source = "many"\n target = "x"\n}\n'
        'build {\n sources = ["file.f"]\n}\n',
    )
    assert inputs_of(root, "t.pkr.hcl", max_files=11).unknown == ()
    assert inputs_of(root, "t.pkr.hcl", max_files=5).unknown == ("more than 5 files",)


def test_older_json_template_with_values_kept_elsewhere(root: Path, project: Project) -> None:
    project.write(
        "t.json",
        """
        {"variables": {"a": "{{consul_key `x`}}", "vault": "plain"},
         "builders": [{"type": "qemu", "iso_url": "{{user `a`}}/{{user `vault`}}"}]}
        """,
    )
    assert {"consul_key", "variables"} <= set(inputs_of(root, "t.json").unknown)
    project.write("t.json", '{"variables": {"vault": "{{user `vault`}}"}}')
    assert inputs_of(root, "t.json").unknown == ()


@pytest.mark.parametrize("text", [rb"\ud800", b"\xff", b"\xf0\x9f"])
def test_json_that_is_no_text_is_not_understood(text: bytes) -> None:
    source = b'{"variable": {"a": {"default": "%s"}}}' % text
    assert not hcl_json.parse(source).is_parsable
    assert hcl_json.parse(source.replace(text, b"plain")).is_parsable
