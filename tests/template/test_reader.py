"""One reading of a template for secrets, planned builds and inputs, beside real Packer's."""

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from packer_fork.errors import TemplateError
from packer_fork.inputs.dependence import dependence
from packer_fork.packer import outline
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.sensitive import standing_plainly
from packer_fork.template.reader import ParsedTemplate, is_hcl, read
from tests.conftest import Project

NULL = '{"null": {"a": {"communicator": "none"}, "b": {"communicator": "none"}}}'
HCL = 'source "null" "a" { communicator = "none" }\nbuild { sources = ["null.a"] }\n'
BUILDERS = '"builders": [{"type": "null", "communicator": "none"}]'
OLDER = f"{{{BUILDERS}}}"
HIDDEN = 'variable "x" {\n  default   = "secret-x"\n  sensitive = true\n}\n'

INSPECTED = r"1,,ui,say,> builds:\n\n  > <unnamed build 0>:\n\n    sources:\n\n      null.a\n"
"""Packer 1.6.6 prints the names of sources, whatever the builds are called."""

BUILDER = "1,,template-builder,null,null\n"


def secrets(template: ParsedTemplate) -> object:
    return set(standing_plainly(template, PackerFlags(), {"A_TOKEN": "of-environment"}))


def names(template: ParsedTemplate) -> object:
    return [each.name for each in outline.outline(INSPECTED, template).builds]


def provisioners(template: ParsedTemplate) -> object:
    (build,) = outline.outline(BUILDER, template).builds
    return build.provisioners


def sources_of_the_build(template: ParsedTemplate) -> object:
    sections = dependence(template.contents.sections, "null.a").sections
    return {each.label for each in sections if each.label.startswith("source ")}


class Row(NamedTuple):
    """What Packer, too, makes of a template; its readers used to disagree about it."""

    name: str
    text: str
    found: Callable[[ParsedTemplate], object]
    expected: object


AGREED: Mapping[str, Row] = {
    "a block that comes twice in JSON": Row(
        "t.pkr.json",
        '{"variable": {"x": {"default": "secret-x", "sensitive": true}},'
        f' "variable": {{"y": {{"default": "public"}}}}, "source": {NULL}}}',
        secrets,
        {"secret-x"},
    ),
    "a flag as a text": Row("t.pkr.hcl", HIDDEN.replace("true", '"true"'), secrets, {"secret-x"}),
    "a flag as a text in JSON": Row(
        "t.pkr.json",
        '{"variable": {"x": {"default": "secret-x", "sensitive": "true"},'
        ' "y": {"default": "public", "sensitive": "false"}}}',
        secrets,
        {"secret-x"},
    ),
    "letter case of sections": Row(
        "t.json",
        '{"Variables": {"x": "secret-x"}, "Sensitive-Variables": ["x"],'
        f" {BUILDERS.replace('builders', 'Builders')}}}",
        secrets,
        {"secret-x"},
    ),
    "letter case of steps": Row(
        "t.json",
        f'{{{BUILDERS}, "Provisioners": [{{"type": "shell-local", "inline": ["true"]}}]}}',
        provisioners,
        (("shell-local", ""),),
    ),
    "a name that JSON gives a source": Row(
        "t.pkr.json",
        f'{{"source": {NULL}, "build": {{"source": {{"null.a": {{"name": "own"}}}}}}}}',
        names,
        ["null.own"],
    ),
    "sources of a build in JSON": Row(
        "t.pkr.json",
        f'{{"source": {NULL}, "build": {{"sources": ["null.a", "null.b"]}}}}',
        sources_of_the_build,
        {"source null.a"},
    ),
}


@pytest.mark.parametrize("case", AGREED)
def test_readers_agree(project: Project, case: str) -> None:
    row = AGREED[case]
    assert row.found(read(str(project.write(row.name, row.text)))) == row.expected


@pytest.mark.parametrize("case", [case for case, row in AGREED.items() if row.found is secrets])
def test_packer_takes_the_same_values_for_secrets(
    project: Project, packer: Path, case: str
) -> None:
    row = AGREED[case]
    template = project.write(row.name, row.text)
    said = subprocess.run(
        [packer, "inspect", template], capture_output=True, text=True, check=True
    ).stdout
    hidden = set(re.findall(r"(\w+)\W+<sensitive>", said))
    assert {secret.name for secret in read(str(template)).contents.secrets} == hidden == {"x"}
    assert "secret-x" not in said


INCOMPLETE = {
    "a block without an end": ("t.pkr.hcl", f'{HIDDEN}source "null" "n" {{\n'),
    "an error after it": ("t.pkr.hcl", f"{HIDDEN}\n= = }}"),
    "half a surrogate pair": (
        "t.pkr.json",
        r'{"a": "\ud800", "variable": {"x": {"default": "secret-x", "sensitive": true}}}',
    ),
    "half a pair in older JSON": (
        "t.json",
        r'{"a": "\ud800", "variables": {"x": "secret-x"}, "sensitive-variables": ["x"]}',
    ),
    "an expression too deep": ("t.pkr.hcl", f"{HIDDEN}locals {{ x = {'[' * 900}{']' * 900} }}\n"),
}


@pytest.mark.parametrize("case", INCOMPLETE)
def test_what_cannot_be_parsed_hides_no_secret(project: Project, case: str) -> None:
    template = read(str(project.write(*INCOMPLETE[case])))
    assert [file.path.name for file in template.unparsable] == [INCOMPLETE[case][0]]
    assert secrets(template) == {"secret-x"}


@pytest.mark.parametrize(
    ("name", "target", "text"),
    [
        ("a.pkr.hcl", "", HCL),
        ("a.pkr.json", "", f'{{"source": {NULL}, "build": {{"sources": ["null.a"]}}}}'),
        ("a.hcl", "", OLDER),
        ("a.json", "", OLDER),
        ("link.pkr.hcl", "template.txt", HCL),
        ("link.json", "template.pkr.hcl", OLDER),
    ],
)
def test_the_name_as_given_tells_the_language(
    project: Project, packer: Path, name: str, target: str, text: str
) -> None:
    path = project.root / name
    project.write(target or name, text)
    if target:
        path.symlink_to(target)
    template = read(str(path))
    assert is_hcl(path) == template.is_hcl == (text != OLDER)
    assert (template.unparsable, len(template.contents.sections.builds)) == ((), 1)
    assert subprocess.run([packer, "validate", path], check=False).returncode == 0


def test_files_of_a_folder(project: Project) -> None:
    for name in ("b.pkr.hcl", "c.pkr.hcl", ".d.pkr.hcl"):
        project.write(f"images/{name}", HCL)
    project.write("images/a.pkr.json", f'{{"source": {NULL}}}')
    for name in ("z.auto.pkrvars.hcl", "a.auto.pkrvars.json", "other.pkrvars.hcl", "a.json"):
        project.write(f"images/{name}", "{}" if name.endswith("json") else "")
    project.write("given.pkrvars.hcl", "")
    for folder in ("x.pkr.hcl", "x.auto.pkrvars.json"):
        (project.root / "images" / folder).mkdir()
    given = str(project.root / "given.pkrvars.hcl")
    template = read(str(project.root / "images"), [given])
    found, variables = (
        [file.path.name for file in files] for files in (template.files, template.variable_files)
    )
    assert found == [".d.pkr.hcl", "b.pkr.hcl", "c.pkr.hcl", "a.pkr.json"]
    assert variables == ["z.auto.pkrvars.hcl", "a.auto.pkrvars.json", "given.pkrvars.hcl"]
    assert len(template.contents.sections.builds) == 3


@pytest.mark.parametrize("name", ["t.pkr.hcl", "t.pkr.json", "t.json", "v.pkrvars.hcl"])
def test_one_bound_and_one_error_for_every_file(project: Project, name: str) -> None:
    template = project.write("a.pkr.hcl", HCL)

    def read_it() -> ParsedTemplate:
        path = str(project.root / name)
        return read(str(template), [path]) if "vars" in name else read(path)

    with pytest.raises(TemplateError, match=rf"{name} cannot be read: No such file") as missing:
        read_it()
    assert missing.value.hint
    project.write(name, "")
    os.truncate(project.root / name, 16 << 20)
    read_it()
    os.truncate(project.root / name, (16 << 20) + 1)
    with pytest.raises(TemplateError, match=rf"{name} is larger than 16 MiB") as large:
        read_it()
    assert large.value.hint


def test_a_pipe_is_not_emptied(project: Project) -> None:
    for name in ("t.pkr.hcl", "t.json"):
        os.mkfifo(project.root / name)
        template = read(str(project.root / name))
        assert [file.path.name for file in template.unparsable] == [name]
