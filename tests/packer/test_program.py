import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from packer_fork import processes
from packer_fork.errors import PackerError
from packer_fork.packer import program, question
from packer_fork.packer.flags import take
from packer_fork.packer.program import Program
from tests.conftest import Project, eventually

pytestmark = pytest.mark.processes


def script(project: Project, body: str) -> str:
    path = project.write("packer", f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return str(path)


def test_real_packer_is_found(packer: Path) -> None:
    found = program.find(None)
    assert Path(found.path).samefile(packer)
    assert found.version >= program.OLDEST
    assert ".".join(map(str, found.version)) in found.version_text
    assert program.find(str(packer)) == found


@pytest.mark.parametrize(
    ("said", "version", "text"),
    [
        ("1.6.6", (1, 6, 6), "1.6.6"),
        ("Packer v1.11.0", (1, 11, 0), "1.11.0"),
        ("Packer v1.15.0-dev (abc)", None, ""),
        ("1.16.2-beta1\n\nYour version is out of date!", (1, 16, 2), "1.16.2-beta1"),
    ],
)
def test_versions(
    project: Project, said: str, version: tuple[int, int, int] | None, text: str
) -> None:
    path = script(project, f"cat <<'END'\n{said}\nEND")
    if version is None:
        with pytest.raises(PackerError, match="not HashiCorp's"):
            program.find(path)
    else:
        assert program.find(path) == Program(path, version, text)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo 1.5.6", "is Packer 1.5.6; 1.6.0 or later"),
        ("cat; echo '0 0'", "is not HashiCorp's Packer"),  # cracklib's reads words from stdin
        ("exit 1", "does not tell its version: exit code 1"),
        ("printf '\\377\\n'", "is not HashiCorp's Packer"),
    ],
)
def test_unusable(project: Project, body: str, message: str) -> None:
    with pytest.raises(PackerError, match=message) as raised:
        program.find(script(project, body))
    assert "PACKER_FORK_PACKER" in raised.value.hint


def test_version_is_asked_once_of_a_binary(
    project: Project, packer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another one in its place anew, of a script each time, with a spoilt memory as well."""
    memory = project.root / "cache/packer-fork/packer-versions.json"
    monkeypatch.setenv("XDG_CACHE_HOME", str(memory.parents[1]))
    version = program.find(str(packer)).version_text
    assert f'{version}"' in memory.read_text()
    memory.write_text(memory.read_text().replace(f'{version}"', '9.9.9"'))
    assert program.find(str(packer)).version_text == "9.9.9", "it was not asked"
    copy = project.root / "copy"
    copy.write_bytes(packer.read_bytes())
    copy.chmod(0o700)
    assert program.find(str(copy)).version_text == version
    os.utime(copy, (1, 1))
    assert program.find(str(copy)).version_text == version
    assert len(json.loads(memory.read_text())) == 3
    for spoilt in ("{", "[]", '{"a": 1}'):
        memory.write_text(spoilt)
        assert program.find(str(packer)).version_text == version
    for each in ("1.7.0", "1.8.0"):
        assert program.find(script(project, f"echo {each}")).version_text == each


@pytest.mark.parametrize("name", ["no-such-packer", "/no/such/packer", "/etc/passwd", "/"])
def test_missing(name: str) -> None:
    with pytest.raises(PackerError, match=f"there is no program {name}"):
        program.find(name)


def test_not_a_program(project: Project) -> None:
    path = project.write("packer", "no program")
    path.chmod(0o700)
    with pytest.raises(PackerError, match="Exec format error"):
        program.find(str(path))


def test_asking_ends_in_time_with_all_that_was_started(project: Project) -> None:
    """The child keeps the pipe open, as a plugin does."""
    path = script(project, "sleep 600 & wait")
    environ = {**os.environ, "MARK": str(project.root)}
    with pytest.raises(subprocess.TimeoutExpired):
        question.ask([path], environ, seconds=0.3)
    eventually(lambda: not processes.marked("MARK", str(project.root)))


def test_asking_leaves_the_users_log_alone(project: Project, packer: Path) -> None:
    log = project.write("log", "mine")
    environ = {**os.environ, "PACKER_LOG": "1", "PACKER_LOG_PATH": str(log)}
    answer = question.ask([str(packer), "console"], environ, line="1 + 1")
    assert answer.code == 0
    assert log.read_text() == "mine"


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("asked", ["--version", "inspect"])
def test_asking_takes_one_process(project: Project, packer: Path, asked: str) -> None:
    """The second one would only report crashes."""
    project.write("t.pkr.hcl", 'source "null" "web" { communicator = "none" }')
    trace = project.root / "trace"
    command = [str(packer), asked, *([str(project.root)] if asked == "inspect" else [])]
    under = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=execve"]
    answer = question.ask([*under, *command], os.environ)
    assert answer.code == 0
    assert answer.output
    started = re.findall(r'execve\("[^"]*packer", .* = 0$', trace.read_text(), re.MULTILINE)
    assert len(started) == 1, started


def test_inspect(project: Project, packer: Path) -> None:
    template = project.write(
        "t.pkr.hcl",
        """
        variable "who" { type = string }
        source "null" "web" { communicator = "none" }
        build { sources = ["null.web"] }
        """,
    )
    found = program.find(str(packer))
    flags, _ = take(["-force", "-var", "who=somebody"])

    def inspected(packer: Program, path: Path) -> str | None:
        command = program.inspect_command(packer, flags, str(path))
        return question.Question(command, os.environ).output()

    text = inspected(found, template)
    assert text is not None
    assert "null.web" in text
    assert "somebody" in text
    broken = project.write("broken.pkr.hcl", "source {")
    assert inspected(found, broken) is None
    assert inspected(Program("/no", (1, 6, 6), ""), template) is None


def test_build_command() -> None:
    flags, _ = take(["-force", "-var", "a=b", "-machine-readable", "--", "-new"])
    assert program.build_command(Program("/p", (1, 6, 6), ""), flags, "t.json") == (
        *("/p", "build", "-machine-readable", "-force", "-var", "a=b", "-new", "t.json"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "Error: Missing plugins\n\nThe following plugins are required, but not installed:",
        "no plugin installed for github.com/a/b >= 1\n\nDid you run packer init for this project ?",
        "The builder x is unknown by Packer, and is likely part of a plugin that is not installed.",
    ],
)
def test_missing_plugin(text: str) -> None:
    assert program.missing_plugin_hint(text, "t.pkr.hcl") == "Run `packer-fork init t.pkr.hcl`."


def test_other_errors_tell_of_no_plugin() -> None:
    assert program.missing_plugin_hint("Error: Unset variable", "t.pkr.hcl") == ""
