"""Expressions evaluated by the real Packer, whatever its console makes difficult."""

import os
from decimal import Decimal
from pathlib import Path

import pytest

from packer_fork.packer import program
from packer_fork.packer.evaluate import Evaluator
from packer_fork.packer.flags import take
from tests.conftest import Project

pytestmark = pytest.mark.usefixtures("packer")


@pytest.fixture(autouse=True)
def root(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project.root)
    return project.root


def evaluator(template: str, *flags: str) -> Evaluator:
    return Evaluator(program.find(None), template, take(flags)[0], dict(os.environ))


def test_values_keep_their_types(project: Project) -> None:
    project.write("t.pkr.hcl", 'variable "v" { default = "é\\n\\"" }')
    expressions = {
        "text": "var.v",
        "null": "null",
        "number": "1.5",
        "digits": "0.12345678901234567891",
        "truth": "1 == 1",
        "list": '[for i in ["a"]: "${i}${var.v}"]',
        "map": '{a = {"b c" = path.root}}',
    }
    assert evaluator("t.pkr.hcl")(expressions) == {
        "text": 'é\n"',
        "null": None,
        "number": 1.5,
        "digits": Decimal("0.12345678901234567891"),
        "truth": True,
        "list": ['aé\n"'],
        "map": {"a": {"b c": "."}},
    }


def test_one_without_a_value_costs_no_other(project: Project) -> None:
    project.write("t.pkr.hcl", 'variable "unset" { type = string }\nvariable "v" { default = "x" }')
    expressions = {str(n): f'"{n}"' for n in range(20)} | {"v": "var.v"}
    bad = {"unset": "var.unset", "none": "local.none", "call": "no_such(1)", "syntax": "1 +"}
    assert evaluator("t.pkr.hcl")(bad | expressions) == {
        "v": "x",
        **{str(n): str(n) for n in range(20)},
    }


def test_more_than_a_line_holds(project: Project) -> None:
    project.write("t.pkr.hcl", 'variable "v" { default = "x" }')
    many = {str(n): f'"{"y" * 1000}{n}${{var.v}}"' for n in range(60)}
    values = evaluator("t.pkr.hcl")(many | {"large": f'"{"z" * 70_000}"'})
    assert values == {str(n): f"{'y' * 1000}{n}x" for n in range(60)}


@pytest.mark.parametrize("secret", ["a", "=", "ab", "0", "one of some length"])
def test_secrets_are_read(project: Project, secret: str) -> None:
    project.write("t.pkr.hcl", 'variable "v" {\n  type = string\n  sensitive = true\n}')
    values = evaluator("t.pkr.hcl", f"-var=v={secret}")({"v": "var.v", "w": '"aaaaaaaaa000"'})
    assert values == {"v": secret, "w": "aaaaaaaaa000"}


def test_template_that_cannot_be_loaded(project: Project) -> None:
    project.write("t.pkr.hcl", 'variable "v" {')
    assert evaluator("t.pkr.hcl")({"v": "var.v"}) is None
    assert evaluator("missing.pkr.hcl")({"v": "1"}) is None
    project.write("u.pkr.hcl", "")
    assert evaluator("u.pkr.hcl")({}) == {}


def test_older_json_template(root: Path, project: Project) -> None:
    project.write(
        "t.json",
        """
        {"variables": {"a": "x|y", "s": "secret"}, "sensitive-variables": ["s"],
         "builders": [{"type": "null", "communicator": "none"}]}
        """,
    )
    values = evaluator("t.json", "-var=a=é\n")(
        {"a": "user `a`", "s": "user `s`", "folder": "template_dir", "no": "vault `a` `b`"}
    )
    assert values == {"a": "é\n", "s": "secret", "folder": str(root)}
