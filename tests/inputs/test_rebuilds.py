"""Which builds an edit of a template means: exactly those that it changes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from packer_fork.inputs.dependence import dependence
from packer_fork.template import hcl, legacy
from packer_fork.template.contents import ANY_TYPE, Sections

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

SOURCE_B = 'source "null" "b" { ssh_host = data.amazon-ami.base.id }'
SOURCE_C = 'source "null" "c" { ssh_host = local.other }'
DYNAMIC = """  dynamic "provisioner" {
    for_each = [1]
    labels   = ["shell"]
    content {}
  }"""
STEP = """  provisioner "shell" {
    inline = ["echo everyone"]
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
    ('source "null" "c"', 'source "null" "d" {}\nsource "null" "c"', set()),
    ('source "null" "c" {', '# the last one\nsource "null" "c" {', set()),
    (
        f"{SOURCE_B}\n{SOURCE_C}",
        f"{SOURCE_C}\n{SOURCE_B}",
        set(),
    ),
    ('name    = "second"', 'name = "second"\n  provisioner "shell" { inline = ["x"] }', {C}),
    ('name    = "second"', 'name = "second"\n  description = "text"', set()),
    (
        'name    = "second"',
        'name = "second"\n  error-cleanup-provisioner "shell" { inline = ["x"] }',
        {C},
    ),
    ('name    = "second"', 'name = "second"\n  hcp_packer_registry { bucket_name = "x" }', {C}),
    (
        'name    = "second"',
        f'name = "second"\n{DYNAMIC}',
        {C},
    ),
    (STEP, "", FIRST),
    (STEP, STEP + STEP, FIRST),
    (STEP, STEP.replace("inline", 'pause_before = "1s"\n    inline'), FIRST),
    (STEP, STEP.replace('"shell"', '"shell-local"'), FIRST),
    ("default = 1", "default = 2", set()),
    ('variable "size" { default = 1 }', "", set()),
    ("upper(", "lower(", {C}),
    ('team = "web"', 'team = "db"', {R, C}),
    ("locals {", "locals {\n  unused = 1", set()),
    ('owners = ["self"]', 'owners = ["self"]\n  most_recent = true', {B}),
    ('data "amazon-ami" "base"', 'data "amazon-ami" "unused" {}\ndata "amazon-ami" "base"', set()),
    ("ssh_host = local.other", "ssh_host = local.tags.team", {C}),
    ("ssh_host = local.other", "ssh_host = var.size", {C}),
    ('key = "more"', 'key = "less"', {R}),
    ('nested { key = "more" }', "", {R}),
    ('except   = ["null.a", "null.renamed"]', 'except = ["null.a"]', {R}),
    ('except   = ["null.a", "null.renamed"]', 'except = ["null.renamed", "null.a"]', set()),
    ('except   = ["null.a", "null.renamed"]', "except = [local.other]", FIRST),
    ('only   = ["null.a"]', "only   = []", {B, R}),
    ('only = ["null.renamed"]', 'only = ["null.renamed", "null.a"]', {A}),
    ('["null.a", "source.null.b"]', '["source.null.b", "source.null.a"]', set()),
    ('["null.a", "source.null.b"]', '[for s in ["null.a", "null.b"] : s]', {*HCL_BUILDS}),
    ("<<-EOT", "<<EOT", {R}),
    ('output = "x.tar"', 'output = "x.tar"\n      keep_input_artifact = true', FIRST),
    ('post-processor "compress" { output = "x.tar" }', 'post-processor "checksum" {}', FIRST),
    ('ssh_host = "a.example"', 'ssh_host    =   "a.example" // here', set()),
    ('ssh_host = "a.example"', 'ssh_host = "a.example"\n  ssh_port = 22', {A, R}),
    ('ssh_host = "a.example"', 'ssh_host = "${"a"}.example"', {A, R}),
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
    ('"ssh_host": "a.example"', '"ssh_host": "a.example", "ssh_port": 22', {"a"}),
    (
        '{"type": "null", "name": "a"',
        '{"type": "null", "name": "c"}, {"type": "null", "name": "a"',
        set(),
    ),
    ('["manifest", [', "[[", {"a", "b"}),
    ('["manifest", [', '[{"type": "manifest"}, [', set()),
    ('"except": ["a"]', '"except": []', {"a"}),
    ('"except": ["a"]', '"except": ["b"]', {"a", "b"}),
    ('"except": ["a"]', '"except": ["a", "b"]', {"b"}),
    ('"only": ["a"], "inline": ["echo only a"]', '"inline": ["echo only a"], "only": ["a"]', set()),
    ('"only": ["a"]', '"pause_before": "1s", "only": ["a"]', {"a"}),
    ('"override": {"b"', '"override": {"a"', {"b"}),
    ('"type": "checksum"', '"type": "artifice"', {"a", "b"}),
    ('"variables": {', '"description": "text", "variables": {', set()),
    ('"variables": {', '"min_packer_version": "1.6.0", "variables": {', set()),
    ('"variables": {', '"sensitive-variables": ["size"], "variables": {', set()),
    (
        '"variables": {',
        '"error-cleanup-provisioner": {"type": "shell-local", "inline": ["x"]}, "variables": {',
        {"a", "b"},
    ),
    ('{"type": "shell", "inline": ["echo everyone"]},', "", {"a", "b"}),
    ("{{user `size`}}", "{{user `unused`}}", {"b"}),
    ("{{user `size`}}", "{{ user `size` }}", {"b"}),
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
    assert edited.is_parsable
    assert rebuilt(before, digests(edited.sections, HCL_BUILDS)) == builds


@pytest.mark.parametrize(("old", "new", "builds"), JSON_EDITS)
def test_an_edit_of_json_means_these_builds(old: str, new: str, builds: set[str]) -> None:
    assert old in JSON
    before = digests(legacy.parse(JSON.encode()).sections, ("a", "b"))
    edited = legacy.parse(JSON.replace(old, new).encode())
    assert edited.is_parsable
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


@pytest.mark.parametrize(
    ("dynamic", "builds"),
    [("provisioner", {A}), ("post-processor", {A}), ("source", {A, B})],
)
def test_sources_are_known_beside_dynamic_steps(dynamic: str, builds: set[str]) -> None:
    block = DYNAMIC.replace('"provisioner"', f'"{dynamic}"')
    source = f"""
    source "null" "a" {{ ssh_host = "a.example" }}
    source "null" "b" {{}}
    build {{
      sources = ["null.a", "null.b"]
    {block}
    }}
    """
    before = digests(hcl.parse(source.encode()).sections, (A, B))
    after = hcl.parse(source.replace("a.example", "z.example").encode()).sections
    assert rebuilt(before, digests(after, (A, B))) == builds


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
    assert parsed.is_parsable
    assert ANY_TYPE in dependence(parsed.sections, "null.a").types


class Template(NamedTuple):
    """A generated template, of the parts that `behaviour` knows how to judge.

    ``sources``, ``texts`` of locals: a text, and the local that it refers to, by name.
    ``blocks``: names of sources, and steps: text, local, ``only`` (empty for all), ``except``.
    """

    sources: dict[str, tuple[str, str]]
    texts: dict[str, tuple[str, str]]
    blocks: tuple[tuple[tuple[str, ...], tuple[GeneratedStep, ...]], ...]


GeneratedStep = tuple[str, str, tuple[str, ...], tuple[str, ...]]


def generated(rng: random.Random) -> Template:
    names = "abcd"
    texts = {f"t{n}": (word(rng), f"t{rng.randrange(n)}" if n else "") for n in range(4)}
    sources = {name: (word(rng), rng.choice(["", *texts])) for name in names}
    blocks = []
    for used in (names[: (cut := rng.randrange(1, 4))], names[cut:]):
        steps = tuple(generated_step(rng, used, texts) for _ in range(rng.randrange(3)))
        blocks.append((tuple(used), steps))
    return Template(sources, texts, tuple(blocks))


def word(rng: random.Random) -> str:
    return rng.choice(["one", "two", "three", "# four", "a  b", "{}"])


def generated_step(rng: random.Random, used: str, texts: Mapping[str, object]) -> GeneratedStep:
    only = tuple(rng.sample(used, rng.randrange(len(used) + 1)))
    excepted = tuple(rng.sample(used, rng.randrange(2)))
    return word(rng), rng.choice(["", *texts]), only, excepted


def edited(template: Template, rng: random.Random) -> Template:
    """With one part that may be another one, or all in another order."""
    other = generated(rng)
    match rng.choice(["source", "text", "steps", "order"]):
        case "source":
            name = rng.choice([*template.sources])
            return template._replace(sources=template.sources | {name: other.sources[name]})
        case "text":
            name = rng.choice([*template.texts])
            return template._replace(texts=template.texts | {name: other.texts[name]})
        case "steps":
            number = rng.randrange(2)
            used = template.blocks[number][0]
            steps = tuple(generated_step(rng, "".join(used), template.texts) for _ in range(2))
            blocks = list(template.blocks)
            blocks[number] = (used, steps)
            return template._replace(blocks=tuple(blocks))
    return template._replace(
        sources=dict(reversed(template.sources.items())),
        texts=dict(reversed(template.texts.items())),
        blocks=tuple(reversed(template.blocks)),
    )


def in_hcl(template: Template, rng: random.Random) -> bytes:
    """In a layout of its own each time."""

    def space() -> str:
        return rng.choice([" ", "  ", "   "])

    def line() -> str:
        return rng.choice(["\n", "\n\n", " # a remark\n", "\n// another\n"])

    def listed(names: tuple[str, ...]) -> str:
        return "[{}{}]".format(",".join(f'{space()}"null.{each}"' for each in names), space())

    def text(value: str, local: str) -> str:
        return f'"{value}${{local.{local}}}"' if local else f'"{value}"'

    parts = [
        f'source "null" "{name}" {{{line()}  ssh_host{space()}={space()}{text(*value)}{line()}}}'
        for name, value in template.sources.items()
    ]
    for name, value in template.texts.items():
        parts.append(f"locals {{{line()}{name}{space()}={space()}{text(*value)}{line()}}}")
    for used, steps in template.blocks:
        written = f"build {{{line()}sources{space()}= {listed(used)}{line()}"
        for content, local, only, excepted in steps:
            choices = f"only = {listed(only)}{line()}except = {listed(excepted)}{line()}"
            inline = f"inline = [{text(content, local)}]{line()}"
            written += f'provisioner "shell" {{{line()}{choices}{inline}}}{line()}'
        parts.append(f"{written}}}")
    return line().join([*parts, ""]).encode()


def behaviour(template: Template, name: str) -> object:
    """What Packer does for the build "null.NAME": its source, then its steps, with all texts."""

    def resolved(value: str, local: str) -> str:
        return value + (resolved(*template.texts[local]) if local else "")

    (steps,) = (steps for used, steps in template.blocks if name in used)
    return resolved(*template.sources[name]), [
        resolved(value, local)
        for value, local, only, excepted in steps
        if (not only or name in only) and name not in excepted
    ]


def meaning(template: Template, name: str) -> object:
    """The same by the texts themselves: "a" and a local of "b" are no "ab"."""
    (steps,) = (steps for used, steps in template.blocks if name in used)
    ran = [
        (value, local)
        for value, local, only, excepted in steps
        if (not only or name in only) and name not in excepted
    ]
    reached = {local for _, local in (template.sources[name], *ran) if local}
    while more := {template.texts[each][1] for each in reached} - reached - {""}:
        reached |= more
    return template.sources[name], ran, {each: template.texts[each] for each in reached}


@pytest.mark.parametrize("seed", range(150))
def test_generated_edits_mean_the_builds_that_they_change(seed: int) -> None:
    """Against what Packer does, which is judged from the model and not from the text of it."""
    rng = random.Random(seed)
    before = generated(rng)
    after = edited(before, rng)
    builds = tuple(f"null.{name}" for name in before.sources)
    first, second = (digests(hcl.parse(in_hcl(t, rng)).sections, builds) for t in (before, after))
    found = rebuilt(first, second)
    changed = {b for b in builds if behaviour(before, b[5:]) != behaviour(after, b[5:])}
    assert changed <= found, "a stale build would be called up to date"
    assert found == {b for b in builds if meaning(before, b[5:]) != meaning(after, b[5:])}
