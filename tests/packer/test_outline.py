"""What is known before Packer starts, against what real Packer then does."""

import os
import random
import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from packer_fork.packer import outline, program
from packer_fork.packer.evaluate import Evaluator
from packer_fork.packer.flags import take
from packer_fork.packer.outline import BuildOutline, chosen, shared_names
from packer_fork.packer.selection import select
from packer_fork.packer.tree import blocks
from packer_fork.template.reader import is_hcl, read

TREE = """
    source "null" "a" { communicator = "none" }
    source "null" "b" { communicator = "none" }
    source "file" "f" { content = "x" }
    build {
      name        = "x"
      description = "text\\n\\n  > sources:\\n\\n      null.fake\\n"
      sources     = ["null.a", "source.null.b"]
      source "file.f" { target = "out" }
      dynamic "provisioner" {
        labels   = ["shell-local"]
        for_each = ["1", "2"]
        content { inline = ["true"] }
      }
      provisioner "shell-local" {
        name   = "my. second"
        inline = ["true"]
      }
      post-processor "manifest" {}
      post-processors {
        post-processor "checksum" {
          name                = "sums"
          checksum_types      = ["md5"]
          keep_input_artifact = true
        }
        post-processor "manifest" {}
      }
    }
    build { sources = ["null.b"] }
    build {
      name    = "a.b-c"
      sources = ["null.b"]
      provisioner "breakpoint" { disable = true }
    }
    build { sources = ["null.a"] }
"""


BARE_TREE = """
    source "null" "a" { communicator = "none" }
    source "null" "b" { communicator = "none" }
    source "file" "f" { content = "" }
    build {
      name        = "x"
      sources     = ["null.a", "source.null.b"]
      source "file.f" { target = "out" }
    }
    build { sources = ["null.b"] }
    build {
      name    = "a.b-c"
      sources = ["null.b"]
    }
    build { sources = ["null.a"] }
"""
"""The same names, without steps, each of which is a process of Packer's."""


ONE_PROCESS = {"GOGC": "off", "CHECKPOINT_DISABLE": "1", **program._ONE_PROCESS}
"""Packer is asked often here, so that it starts no second process that watches it."""


def ask(packer: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(packer), *arguments],
        cwd=folder,
        env={**os.environ, **ONE_PROCESS},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def inspected(packer: Path, template: Path) -> tuple[BuildOutline, ...]:
    said = ask(packer, template.parent, "inspect", "-machine-readable", template.name)
    return outline.outline(said, read(str(template))).builds


def built(packer: Path, template: Path, *flags: str) -> set[str]:
    """The names of the builds that Packer finishes or fails."""
    said = ask(packer, template.parent, "build", "-machine-readable", *flags, template.name)
    return set(re.findall(r",Build '(.*)' (?:finished|errored) after", said))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "t.pkr.hcl"
    path.write_text(TREE)
    return path


@pytest.fixture
def bare_tree(tmp_path: Path) -> Path:
    path = tmp_path / "t.pkr.hcl"
    path.write_text(BARE_TREE)
    return path


def test_the_outline_of_an_hcl_template(packer: Path, tree: Path) -> None:
    found = {each.name: each for each in inspected(packer, tree)}
    assert set(found) == built(packer, tree)
    names = ["x.null.a", "x.null.b", "x.file.f", "null.b", "a.b-c.null.b", "null.a"]
    assert list(found) == names
    shell = ("shell-local", "")
    posts = (("manifest", ""), ("checksum", "sums"), ("manifest", ""))
    provisioners = (shell, shell, ("shell-local", "my. second"))
    assert found["x.file.f"] == BuildOutline("x.file.f", "file", provisioners, posts, (2,))
    assert found["null.b"] == BuildOutline("null.b", "null")
    assert found["a.b-c.null.b"].provisioners == (("breakpoint", ""),)


def test_a_directory_is_one_template(packer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dir"
    folder.mkdir()
    (folder / "a.pkr.hcl").write_text('source "null" "a" { communicator = "none" }')
    (folder / "b.pkr.hcl").write_text('build {\n  source "null.a" { name = "own" }\n}\n')
    assert {each.name for each in inspected(packer, folder)} == built(packer, folder)


RENAMED = """
    variable "v" { default = "late" }
    source "null" "a" { communicator = "none" }
    build {
      name    = "x"
      sources = ["null.a"]
      source "null.a" { name = "own" }
    }
    build {
      source "source.null.a" { name = "other" }
    }
"""


def test_sources_that_a_build_renames(packer: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.pkr.hcl"
    path.write_text(RENAMED)
    names = {each.name for each in inspected(packer, path)}
    assert names == {"x.null.a", "x.null.own", "null.other"}
    assert names == built(packer, path)


def test_a_name_that_inspect_already_tells_is_left_alone(tmp_path: Path) -> None:
    """As later versions print it."""
    path = tmp_path / "t.pkr.hcl"
    path.write_text(RENAMED)
    said = r"1,,ui,say,> builds:\n\n  > x:\n\n    sources:\n\n      null.a\n\n      null.own\n"
    assert [each.name for each in outline.outline(said, read(str(path))).builds] == [
        "x.null.a",
        "x.null.own",
    ]


def test_names_that_only_packer_can_tell_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.pkr.hcl"
    path.write_text('build {\n  source "null.a" { name = var.x }\n  sources = ["null.b"]\n}\n')
    tree = r"1,,ui,say,> builds:\n\n  > <unnamed build 0>:\n\n    sources:\n\n      null.a\n"
    assert [
        e.name for e in outline.outline(rf"{tree}\n      null.b\n", read(str(path))).builds
    ] == ["null.b"]


SOURCES = {
    'sources = ["null.a"]': True,
    'source "null.a" { name = "own" }': True,
    'source "null.a" { name = var.x }': False,
    'sources = ["null.a"]\n dynamic "source" {\n content {\n name = "b"\n }\n }': False,
    'sources = ["null.a"]\n dynamic "source" {\n content {\n x = "b"\n }\n }': True,
}


@pytest.mark.parametrize("sources", SOURCES)
def test_an_outline_says_whether_it_has_all_names(tmp_path: Path, sources: str) -> None:
    path = tmp_path / "t.pkr.hcl"
    path.write_text(f"build {{\n  {sources}\n}}\n")
    tree = r"1,,ui,say,> builds:\n\n  > <unnamed build 0>:\n\n    sources:\n\n      null.a\n"
    assert outline.outline(tree, read(str(path))).is_complete == SOURCES[sources]


JSON = {
    "variables": {"v": "dyn"},
    "builders": [
        {"type": "null", "communicator": "none"},
        {"type": "null", "communicator": "none", "name": "ünï, \"q\" (x): 'y'"},
        {"type": "null", "communicator": "none", "name": r"back\nslash"},
        {"type": "file", "name": "f", "content": "x", "target": "t"},
    ],
    "provisioners": [
        {"type": "shell-local", "inline": ["true"]},
        {"type": "shell-local", "only": ["f"], "inline": ["true"]},
        {"type": "breakpoint", "disable": True, "except": ["null"]},
    ],
    "post-processors": [
        "manifest",
        {"type": "manifest", "name": "own", "only": ["null"]},
        [{"type": "checksum", "except": ["null"], "keep_input_artifact": True}, "manifest"],
    ],
}


def test_the_outline_of_a_json_template(packer: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(msgspec.json.encode(JSON))
    found = {each.name: each for each in inspected(packer, path)}
    assert {*found} == {"null", "ünï, \"q\" (x): 'y'", r"back\nslash", "f"}
    assert found["f"].type == "file"
    shell, pause, manifest = ("shell-local", ""), ("breakpoint", ""), ("manifest", "")
    assert found["f"].provisioners == (shell, shell, pause)
    assert found["null"].provisioners == (shell,)
    assert found["null"].post_processors == (manifest, ("manifest", "own"), manifest)
    assert found["f"].post_processors == (manifest, ("checksum", ""), manifest)


def test_a_json_name_with_a_variable_is_evaluated(packer: Path, tmp_path: Path) -> None:
    """Steps call the builder as it stands in the template; another function leaves it out."""
    path = tmp_path / "t.json"
    names = ("{{user `v`}}-x", "{{uuid}}")
    template = {
        "variables": {"v": "dyn"},
        "builders": [{"type": "null", "communicator": "none", "name": name} for name in names],
        "provisioners": [
            {"type": "shell-local", "inline": ["true"], "only": [names[0]]},
            {"type": "breakpoint", "disable": True, "except": [names[0]]},
        ],
    }
    path.write_bytes(msgspec.json.encode(template))
    said = ask(packer, tmp_path, "inspect", "-machine-readable", "t.json")
    evaluate = Evaluator(program.find(str(packer)), str(path), take([])[0], os.environ)
    (found,) = outline.outline(said, read(str(path)), evaluate).builds
    assert found == BuildOutline("dyn-x", "null", (("shell-local", ""),), called="{{user `v`}}-x")
    assert not outline.outline(said, read(str(path)), evaluate).is_complete
    assert any(name.endswith("dyn-x") for name in built(packer, path))


def test_json_names_have_their_type_since_1_8_4(packer: Path, tmp_path: Path) -> None:
    """In output; flags, steps and `inspect` still have the bare name."""
    path = tmp_path / "t.json"
    builders = [{"type": "null", "communicator": "none", "name": name} for name in ("a", "b")]
    builders.append({"type": "null", "communicator": "none"})
    step = {"type": "shell-local", "inline": ["true"], "only": ["a"]}
    path.write_bytes(msgspec.json.encode({"builders": builders, "provisioners": [step]}))
    said = ask(packer, tmp_path, "inspect", "-machine-readable", "t.json")
    found = outline.outline(said, read(str(path)), version=(1, 8, 4)).builds
    shell = (("shell-local", ""),)
    assert set(found) == {
        BuildOutline("null.a", "null", shell, called="a", selected="a"),
        BuildOutline("null.b", "null", called="b", selected="b"),
        BuildOutline("null", "null"),
    }
    before = outline.outline(said, read(str(path)), version=(1, 8, 3)).builds
    assert {each.name for each in before} == {"a", "b", "null"}
    version = program.find(str(packer)).version
    names = {each.name for each in outline.outline(said, read(str(path)), version=version).builds}
    assert built(packer, path) == names


@pytest.mark.parametrize(
    "said",
    ["", "panic: x\n", "1,,ui,say\n", "1,,template-builder,x\n", "1,,ui,say,> builds:\\n\\n  > x"],
)
def test_what_cannot_be_inspected_has_no_outline(tmp_path: Path, said: str) -> None:
    path = tmp_path / "t.json"
    path.touch()
    assert outline.outline(said, read(str(path))).builds == ()


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"builders": 3, "provisioners": [1]}'])
def test_a_json_template_that_cannot_be_read_still_has_its_names(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    assert outline.outline("1,,template-builder,n,null\n", read(str(path))).builds == (
        BuildOutline("n", "null"),
    )


def test_a_build_without_sources_is_a_block() -> None:
    tree = "> builds:\n\n  > x:\n\n    sources:\n\n      <no source>\n\n    provisioners:\n\n"
    assert [(block.name, block.sources) for block in blocks(tree)] == [("x", [])]


def test_names_that_are_not_unique() -> None:
    twice = [BuildOutline("a"), BuildOutline("b"), BuildOutline("a")]
    assert shared_names(twice) == ("a",)
    assert shared_names(twice[1:]) == ()


def test_which_templates_are_hcl(tmp_path: Path) -> None:
    assert is_hcl(tmp_path)
    assert is_hcl(tmp_path / "a.pkr.json")
    assert not is_hcl(tmp_path / "a.json")


PATTERNS = [
    *("null.a", "x.*", "*a", "*.null.?", "x.null.[ab]", "x.null.{a}", "*", "null.*", "x.null.[!a]"),
    *("x.null.a*", "nothing", "b", "", "{null.b", "null\\.b", "null.b\\"),
    *("[a-n]ull.a", "[^n]*", "[n", "[]n]*", "[!]*", "[n-]*", "[n-a]ull.a", "[abn]ull.a", "**.b"),
    *("NULL.a", "*]", "*}", "n**l?b", "[n-n]ull.b", "[a-]", "null.[\\ab]", "{n{u}ll}.b", "[*]"),
    *("null.a,x.null.b", ",", "{null.a,null.b}", "a.b-?.*", "[x]*.[nf]*"),
]


@pytest.mark.parametrize(
    ("flag", "patterns"),
    [("only", PATTERNS), ("except", ["x.*", "*.null.?", "null.a,x.null.b", "[^n]*", "", "b"])],
)
def test_selection_is_packers_own(
    packer: Path, bare_tree: Path, flag: str, patterns: list[str]
) -> None:
    outlines = inspected(packer, bare_tree)
    for pattern in patterns:
        values = tuple(pattern.split(","))
        only, except_ = (values, ()) if flag == "only" else ((), values)
        ours = {each.name for each in chosen(outlines, only, except_, hcl=True)}
        assert ours == built(packer, bare_tree, f"-{flag}={pattern}"), pattern


def test_random_selections_are_packers_own(packer: Path, bare_tree: Path) -> None:
    names = [each.name for each in inspected(packer, bare_tree)]
    choice = random.Random(7)
    letters = [*"null.abxf", *"*?[]!-{}\\^", "*", "*", "."]
    for _ in range(15):
        pattern = "".join(choice.choices(letters, k=choice.randint(1, 6)))
        pattern = pattern.replace("{}", "")  # Packer crashes, or not, or matches anything
        assert set(select(names, [pattern], [], hcl=True)) == built(
            packer, bare_tree, f"-only={pattern}"
        ), pattern


@pytest.mark.parametrize(
    ("only", "except_"),
    [(["*.b"], ["x.*"]), (["x.*", "null.a"], ["x.null.?", "nothing"]), (["null.a"], ["null.a"])],
)
def test_both_flags_at_once(
    packer: Path, bare_tree: Path, only: list[str], except_: list[str]
) -> None:
    names = [each.name for each in inspected(packer, bare_tree)]
    flags = [f"-only={','.join(only)}", f"-except={','.join(except_)}"]
    assert set(select(names, only, except_, hcl=True)) == built(packer, bare_tree, *flags)


def test_json_names_are_taken_as_they_are(packer: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(msgspec.json.encode(JSON))
    said = ask(packer, tmp_path, "inspect", "-machine-readable", "t.json")
    version = program.find(str(packer)).version
    found = outline.outline(said, read(str(path)), version=version).builds
    for only in (["null"], ["n*"], ["null", "f", "other"], [""]):
        flag = f"-only={','.join(only)}"
        ours = {each.name for each in chosen(found, only, [], hcl=False)}
        assert ours == built(packer, path, flag), flag
    left = {each.selector for each in chosen(found, [], ["f", "*"], hcl=False)}
    assert left == {each.selector for each in found} - {"f"}
