"""Which builds an edit of a template means: exactly those that it changes."""

import hashlib

import pytest

from packer_fork.inputs import hcl, legacy
from packer_fork.inputs.dependence import dependence
from packer_fork.inputs.mentions import ANY_TYPE, Sections

HCL = """
packer { required_version = ">= 1.6.0" }
variable "size" { default = 1 }
locals {
  tags  = { team = "web" }
  other = upper(local.tags.team)
}
data "amazon-ami" "base" { owners = ["self"] }
source "null" "a" {
  ssh_host = "a.example"
  nested { key = "one" }
}
source "null" "b" { ssh_host = data.amazon-ami.base.id }
source "null" "c" { ssh_host = local.other }
build {
  sources = ["null.a", "source.null.b"]
  source "null.a" {
    name     = "renamed"
    ssh_port = 22
    nested { key = "more" }
  }
  provisioner "shell" {
    inline = ["echo everyone"]
  }
  provisioner "shell" {
    only   = ["null.a"]
    inline = ["echo only a"]
  }
  provisioner "shell" {
    except   = ["null.a", "null.renamed"]
    inline   = ["echo not a"]
    override = { b = { inline = ["echo b"] }, a = { inline = ["echo a"] } }
  }
  provisioner "shell-local" {
    inline = [<<-EOT
      # a text, ${local.tags.team}
    EOT
    ]
    only = ["null.renamed"]
  }
  post-processors {
    post-processor "compress" { output = "x.tar" }
    post-processor "manifest" {}
  }
}
build {
  name    = "second"
  sources = ["null.c"]
}
"""
HCL_BUILDS = ("null.a", "null.b", "null.renamed", "second.null.c")
A, B, R, C = HCL_BUILDS
FIRST = {A, B, R}

JSON = """
{
  "variables": {"size": "1", "unused": "2"},
  "builders": [
    {"type": "null", "name": "a", "ssh_host": "a.example"},
    {"type": "null", "name": "b", "ssh_host": "{{user `size`}}"}
  ],
  "provisioners": [
    {"type": "shell", "inline": ["echo everyone"]},
    {"type": "shell", "only": ["a"], "inline": ["echo only a"]},
    {"type": "shell", "except": ["a"], "override": {"b": {"inline": ["b"]}}}
  ],
  "post-processors": ["manifest", ["compress", {"type": "checksum", "output": "sums"}]]
}
"""

HCL_EDITS = [
    ('"a.example"', '"z.example"', {A, R}),
    ('key = "one"', 'key = "two"', {A, R}),
    ("ssh_port = 22", "ssh_port = 2222", {R}),
    ('owners = ["self"]', 'owners = ["amazon"]', {B}),
    ("echo everyone", "echo all", FIRST),
    ("echo only a", "echo just a", {A}),
    ("echo not a", "echo b and others", {B}),
    ('["echo b"]', '["echo bb"]', {B}),
    ('["echo a"]', '["echo aa"]', set()),
    ('only   = ["null.a"]', 'only   = ["null.b"]', {A, B}),
    ('only   = ["null.a"]', 'only   = ["null.a", "null.b"]', {B}),
    ('only   = ["null.a"]', "only   = [local.other]", FIRST),
    ('only   = ["null.a"]', 'only   = ["null.elsewhere"]', {B, R}),
    ('only   = ["null.a"]', 'only   = ["null.c"]', {A}),
    ("# a text", "# another text", {R}),
    ('"x.tar"', '"y.tar"', FIRST),
    ('post-processor "manifest" {}', "", FIRST),
    ('name    = "second"', 'name    = "second" # a comment', set()),
    ('ssh_host = "a.example"', '/* where */\n  ssh_host="a.example"', set()),
    ('["null.a", "source.null.b"]', '[\n    "null.a", # first\n    "source.null.b",\n  ]', set()),
    ('{ team = "web" }', '{\n    team : "web",\n  }', set()),
    ('required_version = ">= 1.6.0"', 'required_version = ">= 1.7.0"', set()),
    ('["echo everyone"]', '["echo  everyone"]', FIRST),
    ("      # a text", "        # a text", {R}),
    ("EOT", "END", set()),
    ('sources = ["null.c"]', "sources = local.which", {C}),
]
JSON_EDITS = [
    ('"a.example"', '"z.example"', {"a"}),
    ("echo everyone", "echo all", {"a", "b"}),
    ("echo only a", "echo just a", {"a"}),
    ('"inline": ["b"]', '"inline": ["bb"]', {"b"}),
    ('"only": ["a"]', '"only": ["b"]', {"a", "b"}),
    ('"only": ["a"]', '"only": ["a", "b"]', {"b"}),
    ('"only": ["a"]', '"only": ["elsewhere"]', {"b"}),
    ('"output": "sums"', '"output": "other"', {"a", "b"}),
    ('["compress", {"type"', '["compress"], [{"type"', {"a", "b"}),
    ('"unused": "2"', '"unused": "3"', set()),
    ('"name": "a", "ssh_host"', '"name":"a",\n"ssh_host"', set()),
    ('"variables": {', '"_comment": "hello", "variables": {', set()),
    ('"variables": {', '"unheard_of": 1, "variables": {', {"a", "b"}),
]


def digests(sections: Sections, builds: tuple[str, ...]) -> dict[str, str]:
    """Of all that each build depends on, but for values."""
    found = {}
    for name in builds:
        needed = dependence(sections, name)
        texts = {key: dict(section.tokens) for key, section in needed.locals.items()}
        told = repr((sorted(needed.own.items()), sorted(texts.items())))
        found[name] = hashlib.sha256(told.encode()).hexdigest()
    return found


def rebuilt(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(("old", "new", "builds"), HCL_EDITS)
def test_an_edit_of_hcl_means_these_builds(old: str, new: str, builds: set[str]) -> None:
    assert old in HCL
    before = digests(hcl.parse(HCL.encode()).sections, HCL_BUILDS)
    edited = hcl.parse(HCL.replace(old, new).encode())
    assert edited.intelligible
    assert rebuilt(before, digests(edited.sections, HCL_BUILDS)) == builds


@pytest.mark.parametrize(("old", "new", "builds"), JSON_EDITS)
def test_an_edit_of_json_means_these_builds(old: str, new: str, builds: set[str]) -> None:
    assert old in JSON
    before = digests(legacy.parse(JSON.encode()).sections, ("a", "b"))
    edited = legacy.parse(JSON.replace(old, new).encode())
    assert edited.intelligible
    assert rebuilt(before, digests(edited.sections, ("a", "b"))) == builds


@pytest.mark.parametrize(
    ("build", "references"),
    [
        (A, set()),
        (B, {"data.amazon-ami.base"}),
        (R, {"local.tags"}),
        (C, {"local.other", "local.tags"}),
    ],
)
def test_what_a_build_refers_to(build: str, references: set[str]) -> None:
    found = dependence(hcl.parse(HCL.encode()).sections, build).references
    assert {name for name in found if name.startswith(("var", "local", "data"))} == references


def test_a_variable_that_is_not_known_means_all() -> None:
    source = 'source "null" "a" { ssh_host = var["x"] }\nbuild { sources = ["null.a"] }\n'
    assert "var" in dependence(hcl.parse(source.encode()).sections, "null.a").references
    document = b'{"builders": [{"type": "null", "ssh_host": "{{user (env `X`)}}"}]}'
    assert "var" in dependence(legacy.parse(document).sections, "null").references


def test_a_name_that_is_not_known_is_no_name() -> None:
    document = b'{"builders": [{"type": "null", "name": "{{user `x`}}"}, {"type": "qemu"}]}'
    assert dependence(legacy.parse(document).sections, "None").types == {"null", "qemu"}


def test_plugins_of_dynamic_steps_are_not_known() -> None:
    source = """
    source "null" "a" {}
    build {
      sources = ["null.a"]
      dynamic "provisioner" {
        for_each = ["ansible"]
        labels   = [provisioner.value]
        content {}
      }
    }
    """
    assert ANY_TYPE in dependence(hcl.parse(source.encode()).sections, "null.a").types
    chain = source.replace('dynamic "provisioner"', 'dynamic "post-processor"')
    chain = chain.replace("dynamic", "post-processors {\ndynamic").replace(
        "content {}", "content {}\n}"
    )
    parsed = hcl.parse(chain.encode())
    assert parsed.intelligible
    assert ANY_TYPE in dependence(parsed.sections, "null.a").types
