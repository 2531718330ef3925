"""A secret is nowhere afterwards: not on the screen, not below the state folder."""

from pathlib import Path

import pytest

from tests.conftest import Cli, Project, Result, eventually
from tests.support import states
from tests.support.templates import begun, go_on

pytestmark = pytest.mark.usefixtures("packer")

SECRETS = {
    "default": "default-secret-1",
    "given": "given, with comma=secret-2",
    "environment": "environment-secret-3",
    "file": "file-secret-4",
    "lines": "line-secret-5\nline-secret-6",
}
PIECES = [piece for value in SECRETS.values() for piece in value.split("\n")]

TEMPLATE = """
    variable "default" {
      sensitive = true
      default   = "default-secret-1"
    }
    variable "given" { sensitive = true }
    variable "environment" { sensitive = true }
    variable "file" { sensitive = true }
    variable "lines" { sensitive = true }
    source "null" "ok" { communicator = "none" }
    source "null" "bad" { communicator = "none" }
    source "file" "f" {
      content = "x"
      target  = "out-${var.file}.txt"
    }
    build {
      sources = ["null.ok", "null.bad", "file.f"]
      provisioner "shell-local" {
        inline = [
          "echo '${var.default} ${var.given}'",
          "echo '${var.environment} ${var.file}' >&2",
          "echo '${var.lines}'",
          "touch begun; while [ ! -e $PWD/go ]; do sleep 0.1; done",
        ]
      }
      provisioner "shell-local" {
        only        = ["null.bad"]
        inline      = ["exit 3"]
        valid_exit_codes = [0]
      }
    }
"""


@pytest.fixture
def arguments(project: Project) -> list[str]:
    project.write("t.pkr.hcl", TEMPLATE)
    project.write("v.pkrvars.hcl", 'file = "file-secret-4"\n')
    return ["-var", f"given={SECRETS['given']}", "-var-file=v.pkrvars.hcl", "t.pkr.hcl"]


ENV = {"PKR_VAR_environment": SECRETS["environment"], "PKR_VAR_lines": SECRETS["lines"]}


def assert_hidden(result: Result) -> None:
    for piece in PIECES:
        assert piece not in result.out
        assert piece not in result.err


def assert_not_kept(root: Path) -> None:
    files = [path for path in (root / ".packer-fork").rglob("*") if path.is_file()]
    assert files
    for path in files:
        for piece in PIECES:
            assert piece.encode() not in path.read_bytes(), path
        assert path.stat().st_mode & 0o077 == 0, path
    assert all(p.stat().st_mode & 0o077 == 0 for p in (root / ".packer-fork").rglob("*"))


@pytest.mark.parametrize("mode", [[], ["--json"], ["-machine-readable"]], ids=" ".join)
def test_no_secret_is_shown_or_kept(
    cli: Cli, project: Project, arguments: list[str], mode: list[str]
) -> None:
    go_on(project.root)
    result = cli("build", *mode, *arguments, env=ENV)
    assert result.rc == 1
    assert "sensitive" in result.out
    assert_hidden(result)
    assert_not_kept(project.root)
    for command in (["state", "show"], ["state", "show", "--json"], ["logs"], ["lock", "status"]):
        assert_hidden(cli(*command))


def test_the_lock_does_not_tell_the_values_of_variables(
    cli: Cli, project: Project, arguments: list[str]
) -> None:
    running = begun(cli, project, *arguments, env=ENV)
    status = cli("lock", "status", "--json")
    assert "given=***" in status.out
    assert_hidden(status)
    assert_hidden(cli("lock", "status"))
    go_on(project.root)
    running.wait()


def test_a_recovery_masks_as_the_run_would_have(
    cli: Cli, project: Project, arguments: list[str]
) -> None:
    running = begun(cli, project, *arguments, env=ENV)
    running.process.kill()
    running.process.wait()
    go_on(project.root)
    eventually(lambda: states.status(cli) == "abandoned")
    assert_hidden(cli("state", "recover"))
    assert_not_kept(project.root)
    assert "<sensitive>" in cli("logs").out


def test_the_secrets_of_a_json_template(cli: Cli, project: Project) -> None:
    project.write(
        "t.json",
        '{"variables": {"pw": "{{env `PW`}}"}, "sensitive-variables": ["pw"],'
        ' "builders": [{"type": "null", "communicator": "none"}],'
        ' "provisioners": [{"type": "shell-local", "inline": ["echo {{user `pw`}}"]}]}',
    )
    result = cli("build", "t.json", env={"PW": "default-secret-1"})
    assert result.rc == 0
    assert_hidden(result)
    assert_not_kept(project.root)


def test_a_secret_too_short_to_mask_is_warned_about(cli: Cli, project: Project) -> None:
    project.write(
        "t.pkr.hcl",
        """
        variable "pin" {
          sensitive = true
          default   = "123"
        }
        source "null" "n" { communicator = "none" }
        build { sources = ["null.n"] }
        """,
    )
    result = cli("build", "t.pkr.hcl")
    assert result.rc == 0
    assert "'pin' is shorter than 4 characters" in result.err
