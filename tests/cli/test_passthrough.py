"""Packer's own commands are Packer's: the very process, its exit code, its words."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from packer_fork import __version__
from tests.conftest import Cli, Project, Result, descendants
from tests.support.packer_versions import version_text
from tests.support.templates import NULL_AND_FILE
from tests.support.terminal import ENTER, appears, on_terminal

pytestmark = pytest.mark.usefixtures("packer")

COMMANDS = {
    "validate": ["validate", "t.pkr.hcl"],
    "validate with a variable": ["validate", "-var", "x=1", "t.pkr.hcl"],
    "validate of nothing": ["validate", "missing.pkr.hcl"],
    "validate of something wrong": ["validate", "wrong.pkr.hcl"],
    "validate without a template": ["validate"],
    "inspect": ["inspect", "t.pkr.hcl"],
    "inspect for machines": ["inspect", "-machine-readable", "wrong.pkr.hcl"],
    "flag before the command": ["-machine-readable", "validate", "missing.pkr.hcl"],
    "fmt": ["fmt", "-check", "-diff", "untidy.pkr.hcl"],
    "fix": ["fix", "old.json"],
    "help": ["validate", "--help"],
    "a command that this Packer may lack": ["sbom"],
    "version by flag": ["-v"],
}


def bare(packer: Path, cli: Cli, *args: str, stdin: str = "") -> Result:
    done = subprocess.run(
        [packer, *args],
        cwd=cli.cwd,
        env=dict(cli.environment),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def without_times(result: Result) -> Result:
    """Machine-readable lines begin with the second that they are from."""
    lines = (line.split(",", 1) for line in result.out.splitlines())
    return result._replace(out="\n".join("," + rest[-1] for _, *rest in lines if rest))


@pytest.fixture
def templates(project: Project) -> Project:
    project.write("t.pkr.hcl", 'variable "x" { default = "0" }\n' + NULL_AND_FILE)
    project.write("wrong.pkr.hcl", 'source "null" {')
    project.write("untidy.pkr.hcl", 'source "null"   "n" {\ncommunicator="none"\n}\n')
    project.write("old.json", '{"builders": [{"type": "null", "communicator": "none"}]}')
    return project


@pytest.mark.usefixtures("templates")
@pytest.mark.parametrize("args", COMMANDS.values(), ids=list(COMMANDS))
def test_a_command_of_packers_is_as_packer_does_it(cli: Cli, packer: Path, args: list[str]) -> None:
    ours, packers = cli(*args), bare(packer, cli, *args)
    assert ours.out or ours.err or ours.rc == 0
    if "-machine-readable" in args:
        ours, packers = without_times(ours), without_times(packers)
    assert ours == packers


def test_stdin_is_packers(cli: Cli, packer: Path, templates: Project) -> None:
    line = "var.x == 3 ? 1 : length([var.x, 7])\n"
    assert templates.root == cli.cwd
    ours = cli("console", "t.pkr.hcl", stdin=line)
    assert ours == bare(packer, cli, "console", "t.pkr.hcl", stdin=line)
    assert ours.out == "2\n"


def test_packer_takes_our_place(cli: Cli, templates: Project) -> None:
    template = str(templates.root / "t.pkr.hcl")
    running = on_terminal(cli, "console", template, steps=[("> ", "exit" + ENTER)])
    result = running.wait()
    assert result.rc == 0, result
    held = on_terminal(cli, "console", template)
    appears(held, "> ")
    (first, *_) = descendants(held.pid)
    assert (first.ppid, first.command) == (held.pid, "packer console")


def test_signals_are_as_the_caller_left_them(cli: Cli, packer: Path, tmp_path: Path) -> None:
    """Many have a script for a Packer, for which an ignored SIGPIPE would stay ignored."""
    script = tmp_path / "packer"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = fmt ] || exec {packer} "$@"\ngrep Sig[IBC] /proc/self/status\n'
    )
    script.chmod(0o755)
    ours = cli("fmt", env={"PACKER_FORK_PACKER": str(script)})
    assert "SigIgn" in ours.out
    assert ours == bare(script, cli, "fmt")


def test_the_packer_is_that_of_the_settings(cli: Cli, packer: Path, templates: Project) -> None:
    other = templates.root / "other-packer"
    other.symlink_to(packer)
    shown = cli("version", env={"PACKER_FORK_PACKER": str(other)})
    assert shown.rc == 0
    assert shown.out == f"packer-fork {__version__}\nPacker v{version_text()} ({other})\n"
    templates.write("images/packer-fork.toml", 'packer = "/there/is/none"')
    shutil.copy(templates.root / "t.pkr.hcl", templates.root / "images")
    assert cli("validate", "t.pkr.hcl").rc == 0
    refused = cli("validate", "images/t.pkr.hcl")
    assert refused.rc == 14
    assert "there is no program /there/is/none" in refused.err


def test_version_for_machines_is_packers(cli: Cli, packer: Path) -> None:
    for args in (["version", "-machine-readable"], ["-machine-readable", "version"]):
        assert without_times(cli(*args)) == without_times(bare(packer, cli, *args))


@pytest.mark.parametrize(
    ("word", "meant"), [("biuld", "build"), ("validat", "validate"), ("stae", "state")]
)
def test_a_misspelt_command_is_not_packers(cli: Cli, word: str, meant: str) -> None:
    nowhere = {"PATH": "/nowhere"}  # Packer could not even be looked for
    result = cli(word, "t.pkr.hcl", env=nowhere)
    assert result.rc == 2
    assert result.err == (
        f"packer-fork: error: There is no command {word!r}, neither of packer-fork nor of Packer.\n"
        f"  hint: Did you mean {meant!r}?\n"
    )
    assert "packer-fork --help" in cli("qqqq", env=nowhere).err


def test_machine_readable_before_our_own_command(cli: Cli, templates: Project) -> None:
    assert templates.root == cli.cwd
    result = cli("-machine-readable", "build", "t.pkr.hcl")
    assert result.rc == 0
    assert ",file.f,artifact,0,string,Stored file: out.txt" in result.out.replace("\r", "")


def test_packer_fork_in_packers_place_does_not_run_itself(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    impostor = folder / "packer"
    impostor.write_text(f'#!/bin/sh\nexec {sys.executable} -m packer_fork "$@"\n')
    impostor.chmod(0o755)
    result = cli("validate", "t.pkr.hcl", env={"PATH": f"{folder}:/usr/bin:/bin"})
    assert result.rc == 14
    assert f"{impostor} is not HashiCorp's Packer" in result.err


def test_help_names_packers_commands(cli: Cli) -> None:
    shown = cli("--help").out
    assert "passed through to Packer" in shown
    assert {"init", "hcl2_upgrade", "verify-attestation"} <= set(shown.split())
