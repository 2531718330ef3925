"""Secrets of real templates, evaluated by real Packer where it is asked."""

import json
import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from packer_fork.errors import TemplateError
from packer_fork.packer import program
from packer_fork.packer.flags import PackerFlags, take
from packer_fork.packer.mask import HIDDEN, Mask, Sensitive
from packer_fork.packer.program import Program
from packer_fork.packer.sensitive import collect
from packer_fork.template.reader import read
from tests.conftest import Project
from tests.support.packer_versions import masks_machine_readable

HCL = """
variable "password" {
  default   = "hunter22"
  sensitive = true
}
variable "nested" {
  default = {
    list = ["first-leaf", 12345678, true]
    map  = { deep = "second-leaf" }
  }
  sensitive = true
}
variable "from_environment" {
  default   = env("A_TOKEN")
  sensitive = true
}
variable "public" { default = "public-value" }
"""


@pytest.fixture
def real(packer: Path) -> Program:
    return program.find(str(packer))


@pytest.fixture
def dead(tmp_path: Path) -> Program:
    """A program that leaves a mark when it is run, and cannot evaluate anything."""
    path = tmp_path / "dead"
    path.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\nexit 1\n")
    path.chmod(0o700)
    return Program(str(path), (1, 6, 6), "1.6.6")


def secrets(program: Program, template: Path, argv: Sequence[str] = (), *environ: str) -> Sensitive:
    flags, rest = take(argv)
    assert rest == []
    more = dict(entry.split("=", 1) for entry in environ)
    parsed = read(str(template), flags.variable_files)
    return collect(program, parsed, flags, {**os.environ, **more})


def test_hcl_file(project: Project, real: Program) -> None:
    template = project.write("t.pkr.hcl", HCL)
    found = secrets(real, template, [], "A_TOKEN=token-value")
    assert set(found.values) == {
        "hunter22",
        "first-leaf",
        "12345678",
        "second-leaf",
        "token-value",
    }
    assert found.too_short == ()
    assert found.unknown == ()


@pytest.mark.parametrize("name", ["vars.pkrvars.hcl", "vars.json"])
def test_hcl_overrides(project: Project, real: Program, name: str) -> None:
    template = project.write("t.pkr.hcl", HCL)
    given = {
        "vars.pkrvars.hcl": 'password = "of-file"\nnested = { a = ["of-list"] }\n',
        "vars.json": '{"password": "of-file", "nested": {"a": ["of-list"]}}',
    }
    file = project.write(name, given[name])
    argv = ["-var-file", str(file), "-var", "from_environment=of,var"]
    found = secrets(real, template, argv, "PKR_VAR_password=of-environment")
    assert {"of-file", "of-list", "of,var", "of-environment", "hunter22"} <= set(found.values)


def test_directory_with_automatic_files(project: Project, real: Program) -> None:
    project.write("a.pkr.hcl", 'variable "one" {\n type = string\n sensitive = true\n}')
    project.write("b.pkr.json", '{"variable": {"two": {"type": "string", "sensitive": true}}}')
    project.write("c.auto.pkrvars.hcl", 'one = "auto-hcl"')
    project.write("d.auto.pkrvars.json", '{"two": "auto-json"}')
    assert set(secrets(real, project.root).values) == {"auto-hcl", "auto-json"}


def test_legacy_json(project: Project, real: Program) -> None:
    template = project.write(
        "t.json",
        r"""{"variables": {"plain": "json-secret", "env": "{{env `A_TOKEN`}}", "public": "shown",
                           "joined": "{{user `plain`}}-and-{{env `A_TOKEN`}}",
                           "odd\"`}} name": "odd-secret", "given": ""},
             "sensitive-variables": ["plain", "env", "joined", "odd\"`}} name", "given"],
             "builders": [{"type": "null", "communicator": "none"}]}""",
    )
    found = secrets(real, template, ["-var", "given=a\n b2345"], "A_TOKEN=token-value")
    assert set(found.values) == {
        "json-secret",
        "token-value",
        "json-secret-and-token-value",
        "odd-secret",
        "a\n b2345",
        "a",
        " b2345",
        "b2345",
    }
    assert found.unknown == ()


def test_computed_values_come_from_packer_only(
    project: Project, real: Program, dead: Program
) -> None:
    template = project.write(
        "t.pkr.hcl", 'variable "x" {\n default = env("A_TOKEN")\n sensitive = true\n}'
    )
    typed = project.write("u.pkr.hcl", 'variable "x" {\n type = number\n sensitive = true\n}')
    given = ["-var", "x=0012345.50"]
    assert secrets(dead, template, [], "A_TOKEN=plain-anyway").values == ("plain-anyway",)
    assert "12345.5" not in secrets(dead, typed, given).values
    assert "12345.5" in secrets(real, typed, given).values
    legacy = project.write(
        "v.json",
        """{"variables": {"x": "a-{{env `A_TOKEN`}}"}, "sensitive-variables": ["x"],
            "builders": [{"type": "null", "communicator": "none"}]}""",
    )
    assert secrets(dead, legacy, [], "A_TOKEN=of-env").unknown == ("x",)
    assert secrets(real, legacy, [], "A_TOKEN=of-env").values == ("a-of-env",)


def test_one_variable_without_a_value_hides_no_other(project: Project, real: Program) -> None:
    declared = (
        f'variable "v{n}" {{\n default = env("T{n}")\n sensitive = true\n}}' for n in range(5)
    )
    unset = 'variable "unset" {\n type = string\n sensitive = true\n}'
    template = project.write("t.pkr.hcl", "\n".join([*declared, unset]))
    found = secrets(real, template, [], *(f"T{n}=value-{n}" for n in range(5)))
    assert set(found.values) == {f"value-{n}" for n in range(5)}
    assert found.unknown == ("unset",)


def test_short_secrets_do_not_spoil_the_answers(project: Project, real: Program) -> None:
    """Packer replaces each of them in what its console prints, wherever they occur."""
    shorts = "".join(
        f'variable "s{n}" {{\n default = "{value}"\n sensitive = true\n}}\n'
        for n, value in enumerate(["ey", "Ij", "J9", "I6"])
    )
    template = project.write(
        "t.pkr.hcl",
        shorts + 'variable "long" {\n type = number\n sensitive = true\n default = 1\n}',
    )
    found = secrets(real, template, ["-var", "long=0012345.50"])
    assert "12345.5" in found.values
    assert found.too_short == ("s0", "s1", "s2", "s3")
    assert {value for value in found.values if len(value) < 4} == {"ey", "Ij", "J9", "I6", "1"}


@pytest.mark.parametrize("short", ["6", "61", "6\nend of it"])
def test_short_secrets_of_json_do_not_spoil_the_answers(
    project: Project, real: Program, short: str
) -> None:
    variables = {"short": "", "long": "a-{{env `A_TOKEN`}}"}
    template = project.root / "t.json"
    template.write_text(
        json.dumps(
            {
                "variables": variables,
                "sensitive-variables": [*variables],
                "builders": [{"type": "null", "communicator": "none"}],
            }
        )
    )
    found = secrets(real, template, ["-var", f"short={short}"], "A_TOKEN=of-env")
    assert "a-of-env" in found.values
    assert found.unknown == ()


def test_large_and_multi_line_values(project: Project, real: Program) -> None:
    project.write("big.pkrvars.json", f'{{"key": "{"B" * 300_000}\\nsecond line\\n}}\\n"}}')
    template = project.write("t.pkr.hcl", 'variable "key" {\n type = string\n sensitive = true\n}')
    argv = ["-var-file", str(project.root / "big.pkrvars.json")]
    values = secrets(real, template, argv).values
    big = "B" * 300_000
    assert values == (f"{big}\nsecond line\n}}\n", big, "second line", "}")


def test_heredocs_and_escapes_without_packer(project: Project, dead: Program) -> None:
    template = project.write(
        "t.pkr.hcl",
        r"""
        variable "x" {
          sensitive = true
          default = <<-EOT
            first line
              second line
          EOT
        }
        variable "y" {
          sensitive = true
          default = ["with \"quotes\" and \u00fc", "$${not}"]
        }
        variable "broken" {
        """,
    )
    values = set(secrets(dead, template).values)
    assert {"first line", "second line", 'with "quotes" and ü', "${not}"} <= values


def test_sensitive_local(project: Project, dead: Program) -> None:
    template = project.write(
        "t.pkr.hcl", 'local "x" {\n sensitive = true\n expression = ["in-local"]\n}'
    )
    assert secrets(dead, template).values == ("in-local",)


def test_packer_is_not_asked_without_secrets(
    project: Project, dead: Program, tmp_path: Path
) -> None:
    plain = project.write("t.pkr.hcl", 'variable "x" { default = "shown" }')
    legacy = project.write("t.json", '{"variables": {"x": "shown"}, "builders": []}')
    assert secrets(dead, plain, ["-var", "x=given"]) == Sensitive()
    assert secrets(dead, legacy) == Sensitive()
    assert not (tmp_path / "was-run").exists()
    secrets(dead, project.write("u.pkr.hcl", HCL))
    assert (tmp_path / "was-run").exists()


def test_packer_is_not_asked_what_it_told_before(
    project: Project, dead: Program, tmp_path: Path
) -> None:
    """As to a plan, which evaluates all variables."""
    template = read(str(project.write("t.pkr.hcl", HCL)))
    told = {"var.password": "computed", "var.nested": ["a-leaf"], "var.from_environment": "here"}
    found = collect(dead, template, PackerFlags(()), os.environ, told)
    assert {"computed", "a-leaf", "here", "hunter22"} <= {*found.values}
    assert not (tmp_path / "was-run").exists()
    del told["var.nested"]
    collect(dead, template, PackerFlags(()), os.environ, told)
    assert (tmp_path / "was-run").exists()


@pytest.mark.parametrize("text", ["", "{", "variable", "\0\xff", '{"variable": 3}', "[" * 100_000])
@pytest.mark.parametrize("name", ["t.pkr.hcl", "t.pkr.json", "t.json"])
def test_broken_templates_are_no_matter(
    project: Project, dead: Program, name: str, text: str
) -> None:
    template = project.write(name, text)
    assert secrets(dead, template) == Sensitive()


def test_booleans_are_no_secrets(project: Project, real: Program) -> None:
    template = project.write(
        "t.pkr.hcl", 'variable "x" {\n type = bool\n default = true\n sensitive = true\n}'
    )
    assert secrets(real, template, ["-var", "x=false"]) == Sensitive()


def test_huge_file_is_refused(project: Project, real: Program) -> None:
    template = project.write("t.pkr.hcl", HCL)
    os.truncate(template, (16 << 20) + 1)
    with pytest.raises(TemplateError, match="larger than 16 MiB"):
        secrets(real, template)


def test_pipe_is_not_read(project: Project, dead: Program) -> None:
    template = project.write("t.pkr.hcl", HCL)
    pipe = project.root / "pipe"
    os.mkfifo(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert "hunter22" in secrets(dead, template, ["-var-file", str(pipe)]).values


def test_extra_arguments_count(project: Project, dead: Program) -> None:
    template = project.write("t.pkr.hcl", HCL)
    flags = PackerFlags(extra=("-var", "password=behind-dashes"))
    assert "behind-dashes" in collect(dead, read(str(template)), flags, {}).values


def test_nothing_secret_is_left_in_what_packer_prints(project: Project, real: Program) -> None:
    template = project.write(
        "t.pkr.hcl",
        r"""
        variable "secret" {
          default   = "Hide1, Hide2\nand \"Hide3\" \\ Hide4"
          sensitive = true
        }
        variable "inner" {
          default   = "\" \\ "
          sensitive = true
        }
        source "null" "web" { communicator = "none" }
        build {
          sources = ["null.web"]
          provisioner "shell-local" {
            environment_vars = ["SECRET=${var.secret}"]
            inline           = ["echo \"<$SECRET>\"", "echo \"<$SECRET>\" >&2", "exit 3"]
          }
        }
        """,
    )
    mask = Mask(secrets(real, template).values)
    done = subprocess.run(
        program.build_command(real, PackerFlags(), str(template)), capture_output=True, check=False
    )
    assert done.returncode == 1
    masked = b"".join(map(mask.line, done.stdout.splitlines(keepends=True))).decode()
    assert HIDDEN in masked
    for secret in ("Hide1", "Hide2", "Hide3", "Hide4"):
        assert (secret in done.stdout.decode()) != masks_machine_readable()
        assert secret not in masked
