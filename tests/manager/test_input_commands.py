"""Commands of the user's whose output counts: ``input_commands``."""

import json
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from packer_fork import config, processes
from packer_fork.manager.build.user_commands import MAX_OUTPUT, run
from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.queries import done
from tests.support.templates import NULL_AND_FILE

pytestmark = pytest.mark.processes

SH = ("/bin/sh", "-c")
WAITING = 'echo $$ > "$1.part" && mv "$1.part" "$1" && exec sleep 1000'
"""Names its process in the file ``$1``, then goes on for ever."""


def pid_in(path: Path) -> int:
    return int(eventually(lambda: path.read_text() if path.exists() else ""))


def is_alive(pid: int) -> bool:
    return any(process.pid == pid for process in processes.all_processes())


@pytest.mark.parametrize(
    ("script", "output", "failure"),
    [
        ("printf 'a\\n\\0b'", b"a\n\0b", ""),
        ("echo told; echo warned >&2", b"told\n", ""),
        ("cat; pwd; echo $ONLY$HOME", b"HERE\nthis\n", ""),
        ("echo half; echo >&2; echo ' why ' >&2; exit 3", b"", "exit code 3: why"),
        ("exit 3", b"", "exit code 3"),
        ("kill -9 $$", b"", "killed by signal 9"),
        (f"head -c {MAX_OUTPUT} /dev/zero", b"\0" * MAX_OUTPUT, ""),
        (f"head -c {MAX_OUTPUT + 1} /dev/zero", b"", "it prints more than 1 MiB"),
        ("head -c 300000 /dev/zero >&2; echo done", b"done\n", ""),
        ("exec >&-; while [ ! -e gone-on ]; do touch gone-on; done", b"", ""),
    ],
)
def test_what_a_command_comes_to(tmp_path: Path, script: str, output: bytes, failure: str) -> None:
    (found,) = run([(*SH, script)], directory=tmp_path, environ={"ONLY": "this"})
    expected = output.replace(b"HERE", os.fsencode(tmp_path))
    assert (found.output, found.failure) == (expected, failure)


def test_commands_run_side_by_side_and_answer_in_their_order(tmp_path: Path) -> None:
    """The first ends only after the second, which needs the first to have begun."""
    os.mkfifo(tmp_path / "pipe")
    commands = [
        (*SH, "read word < pipe; echo 1 $word"),
        ("./no-such-program",),
        (*SH, "echo heard > pipe; echo 3"),
    ]
    found = run(commands, directory=tmp_path, environ=os.environ)
    assert [each.output for each in found] == [b"1 heard\n", b"", b"3\n"]
    assert found[1].failure == "it cannot be started (No such file or directory)"


def test_a_command_that_takes_too_long_is_killed_with_its_group(tmp_path: Path) -> None:
    script = f"sh -c '{WAITING}' sh child & wait"
    (found,) = run([(*SH, script)], directory=tmp_path, environ=os.environ, seconds=1)
    assert found.failure == "it takes longer than 1 s"
    pid = pid_in(tmp_path / "child")
    eventually(lambda: not is_alive(pid))


@pytest.mark.usefixtures("packer")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_ends_with_packer_fork(
    cli: Cli, project: Project, number: signal.Signals
) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    command = shlex.join((*SH, WAITING, "sh", "running"))
    planning = cli.start("plan", "--input-command", command, "t.pkr.hcl")
    pid = pid_in(project.root / "running")
    planning.signal(number)
    planning.wait()
    eventually(lambda: not is_alive(pid))


@pytest.mark.usefixtures("packer")
def test_a_build_rests_on_the_output_of_commands(cli: Cli, project: Project) -> None:
    template = project.write("images/t.pkr.hcl", NULL_AND_FILE)
    project.write("packer-fork.toml", 'input_commands = [["cat", "newest image"]]\n')
    project.write("newest image", "ami-1-that-is-secret")
    given = ("--input-command", "sh -c 'test -z $PACKER_FORK_STORE_TOKEN && cat more'")
    env = {"PACKER_FORK_STORE_TOKEN": "store-secret"}
    project.write("more", "")

    def reasons() -> set[str]:
        result = cli("plan", "--json", *given, template, env=env)
        assert result.rc == 0, result
        builds = json.loads(result.out)["builds"]
        return {"; ".join(each["reasons"]) for each in builds if each["action"] == "build"}

    done(cli, "build", *given, template)
    assert reasons() == set()
    kept = [path.read_bytes() for path in (project.root / "images").rglob("*") if path.is_file()]
    assert not any(b"ami-1-that-is-secret" in each for each in kept)
    project.write("newest image", "ami-2")
    assert reasons() == {"output of `cat 'newest image'` changed"}
    (project.root / "newest image").unlink()
    (text,) = reasons()
    assert text.startswith("cannot know the output of `cat 'newest image'`: exit code 1: cat: ")
    project.write("newest image", "ami-1-that-is-secret")
    assert reasons() == set()
    assert "is gone" in cli("plan", template).out


@pytest.mark.usefixtures("packer")
def test_a_command_runs_once_whether_packer_is_asked_or_not(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    command = shlex.join((*SH, "echo once >> runs; echo printed"))
    edited = project.root / "t.pkr.hcl"
    done(cli, "build", "--input-command", command, "t.pkr.hcl")
    for number, text in enumerate((NULL_AND_FILE, f"{NULL_AND_FILE}\n", NULL_AND_FILE)):
        edited.write_text(text)
        for each in ("plan", "build"):
            (project.root / "runs").unlink()
            done(cli, each, "--input-command", command, "t.pkr.hcl")
            assert (project.root / "runs").read_text() == "once\n", (number, each)


@pytest.mark.usefixtures("packer")
def test_no_secret_comes_out_of_a_command(cli: Cli, project: Project) -> None:
    project.write(
        "t.pkr.hcl",
        'variable "token" { sensitive = true }\n' + NULL_AND_FILE.replace("hello", "${var.token}"),
    )
    command = shlex.join((sys.executable, "-c", "import sys; sys.exit('bad token: s3cret-word')"))
    arguments = ("-var", "token=s3cret-word", "--input-command", command, "t.pkr.hcl")
    planned = cli("plan", *arguments)
    assert "exit code 1: bad token: <sensitive>" in planned.out
    assert "s3cret-word" not in planned.out + planned.err
    done(cli, "build", *arguments)
    state = states.folder(project.root) / "state.json"
    assert b"s3cret-word" not in state.read_bytes()


@pytest.mark.parametrize(
    ("setting", "environment", "flags", "expected"),
    [
        ('[["a", "b c"]]', "", [], [["a", "b c"]]),
        ('[["a"]]', "", ["b 'c d'"], [["a"], ["b", "c d"]]),
        ("[]", "a, b\n\n  c 'd e'\n", [], [["a,", "b"], ["c", "d e"]]),
    ],
)
def test_where_commands_are_set(
    project: Project,
    setting: str,
    environment: str,
    flags: list[str],
    expected: list[list[str]],
) -> None:
    project.write("packer-fork.toml", f"input_commands = {setting}\n")
    variable = {"PACKER_FORK_INPUT_COMMANDS": environment} if environment else {}
    found, _ = config.load(project.root, variable, {"input_commands": flags or None})
    assert [list(each) for each in found.input_commands] == expected
