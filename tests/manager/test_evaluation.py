"""What Packer was asked before: the same plan as if it was asked now, or it is asked."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from packer_fork.errors import EXIT_DONE, EXIT_TEMPLATE
from packer_fork.manager.build import evaluation
from tests.conftest import Cli, Project, Result, eventually
from tests.support import states
from tests.support.strace import read_calls, under_strace

pytestmark = pytest.mark.usefixtures("packer")

SECRET = "hunter2-the-secret"  # noqa: S105
TEMPLATE = """
    variable "region" { default = "eu" }
    variable "flavour" { default = env("FLAVOUR") }
    variable "token" {
      default   = "none"
      sensitive = true
    }
    locals {
      data = file("data.txt")
      text = trimspace(file("${path.root}/text.txt"))
      here = path.cwd
    }
    source "file" "a" {
      content = "${var.region} ${var.flavour} ${local.data} ${local.text} ${local.here}"
      target  = "a.out"
    }
    source "null" "n" { communicator = "none" }
    build {
      sources = ["file.a", "null.n"]
      provisioner "shell-local" { script = "scripts/setup.sh" }
      provisioner "shell-local" {
        environment_vars = ["TOKEN=${var.token}"]
        inline           = ["ls ./lib/ late-file"]
        valid_exit_codes = [0, 1, 2]
      }
    }
"""


@pytest.fixture
def kept(cli: Cli, project: Project) -> Path:
    """The file that holds what Packer answered, of a template that was built."""
    return cli.prepared("kept evaluation", lambda: build_until_kept(cli, project))


@pytest.fixture
def program(cli: Cli, tmp_path: Path) -> Path:
    """A Packer of this test alone."""
    path = Path(shutil.copy(str(shutil.which("packer")), tmp_path / "packer"))
    path.chmod(0o755)
    cli.environment["PACKER_FORK_PACKER"] = str(path)  # type: ignore[index]
    return path


def build_until_kept(cli: Cli, project: Project) -> Path:
    project.write("scripts/setup.sh", "#!/bin/sh\ntrue\n").chmod(0o755)
    project.write("lib/a", "a")
    project.write("data.txt", "data")
    project.write("text.txt", "a-text")
    project.write("t.pkr.hcl", TEMPLATE)
    return filled(cli, project, "t.pkr.hcl")


def filled(cli: Cli, project: Project, template: str, *flags: str) -> Path:
    """Built until its answers are kept: files that are new are not trusted at once."""
    path = states.folder(project.root, template) / "evaluations"

    def is_kept() -> bool:
        done = cli("build", *flags, template)
        assert done.rc == 0, done
        again = cli("build", *flags, template)
        return "everything is up to date" in again.err and path.exists()

    eventually(is_kept)
    return path


def planned(cli: Cli, *words: str, **more: Any) -> object:
    """What a user sees, without times."""
    done: Result = cli("plan", "--json", *words, **more)
    if done.rc:
        return done.rc, done.err
    builds = json.loads(done.out)["builds"]
    return [(build["name"], build["action"], build["reasons"]) for build in builds]


def put_back(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(data)
        path.chmod(0o755 if path.suffix == ".sh" else 0o644)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Of files of the project (None: gone), words of the command line, environment, folder.

    ``rebuilt`` has the reason of each build that is to be built, unless the plan is ``refused``.
    """

    files: dict[str, str | None] = {}
    words: tuple[str, ...] = ()
    env: dict[str, str] = {}
    template: str = "t.pkr.hcl"
    cwd: str = ""
    rebuilt: dict[str, str] = {}
    refused: str = ""
    builds: tuple[str, ...] = ("file.a", "null.n")


def one(reason: str) -> dict[str, str]:
    return {"file.a": reason}


def both(reason: str) -> dict[str, str]:
    return {"file.a": reason, "null.n": reason}


REGION = one("variable region changed")
CHANGES = {
    "nothing": Change(),
    "variable": Change(words=("-var", "region=us"), rebuilt=REGION),
    "variables file": Change(
        files={"x.hcl": 'region = "us"'}, words=("-var-file=x.hcl",), rebuilt=REGION
    ),
    "PKR_VAR": Change(env={"PKR_VAR_region": "us"}, rebuilt=REGION),
    "PKR_VAR that is not asked for": Change(env={"PKR_VAR_other": "us"}),
    "env()": Change(env={"FLAVOUR": "sour"}, rebuilt=one("variable flavour changed")),
    "file()": Change(files={"data.txt": "other"}, rebuilt=one("data.txt changed")),
    "file() is gone": Change(files={"data.txt": None}, refused="no file exists at data.txt"),
    "file() by path.root": Change(files={"text.txt": "other"}, rebuilt=one("text.txt changed")),
    "template": Change(files={"t.pkr.hcl": TEMPLATE.replace('"eu"', '"us"')}, rebuilt=REGION),
    "script": Change(
        files={"scripts/setup.sh": "#!/bin/sh\nfalse\n"}, rebuilt=both("scripts/setup.sh changed")
    ),
    "script is gone": Change(files={"scripts/setup.sh": None}, refused="'scripts/setup.sh'"),
    "file in a folder": Change(files={"lib/b": "b"}, rebuilt=both("lib/b is new")),
    "word that is a file": Change(files={"late-file": "late"}, rebuilt=both("late-file is new")),
    "selection": Change(words=("-only=null.n",), builds=("null.n",)),
    "other spelling": Change(template="./t.pkr.hcl"),
    "other folder": Change(template="../t.pkr.hcl", cwd="lib", refused="../../text.txt"),
    "configuration": Change(env={"PACKER_CONFIG": "lib/a"}, refused="Packer refuses"),
    "plugin": Change(
        files={"packer-builder-null": "plugin"},
        rebuilt={"null.n": "plugin packer-builder-null is new"},
    ),
    "home": Change(env={"HOME": "/nowhere"}),
    "setting": Change(words=("--ignore-var", "region"), rebuilt=one("variable region is gone")),
    "environment that counts": Change(
        words=("--input-env", "CI_X"), env={"CI_X": "1"}, rebuilt=both("env CI_X is new")
    ),
}


def test_every_change_is_seen(cli: Cli, project: Project, kept: Path) -> None:
    answers = kept.read_bytes()
    for name, change in CHANGES.items():
        before = {
            project.root / file: (project.root / file).read_bytes()
            if (project.root / file).exists()
            else None
            for file in change.files
        }
        for file, text in change.files.items():
            put_back(project.root / file, None if text is None else text.encode())
        assert_seen(cli, project, change, name)
        for path, data in before.items():
            put_back(path, data)
        kept.write_bytes(answers)
    assert_seen(cli, project, Change(), "put back")


def assert_seen(cli: Cli, project: Project, change: Change, name: str) -> None:
    done = cli(
        *("plan", "--json", *change.words, change.template),
        cwd=project.root / change.cwd,
        env=change.env,
    )
    if change.refused:
        assert done.rc == EXIT_TEMPLATE, name
        assert change.refused in done.err, name
        return
    assert done.rc == EXIT_DONE, name
    builds = json.loads(done.out)["builds"]
    assert tuple(build["name"] for build in builds) == change.builds, name
    reasons = {each["name"]: each["reasons"] for each in builds if each["action"] == "build"}
    assert reasons == {build: [reason] for build, reason in change.rebuilt.items()}, name


def packers(cli: Cli, *words: str, log: Path, **more: Any) -> list[str]:
    """What Packer was started for, in the order of its starts."""
    done = cli(*words, under=under_strace(log, "-s", "999", "-e", "trace=execve"), **more)
    assert done.rc == 0, done
    calls = [line for line in read_calls(log).splitlines() if " = -1 " not in line]
    words_of = [re.findall(r'"([^"]*)"', line.partition("[")[2]) for line in calls]
    return [each[1] for each in words_of if each[1:] and each[0].endswith("/packer")]


@pytest.mark.usefixtures("strace")
def test_what_is_up_to_date_starts_no_packer(
    cli: Cli, project: Project, kept: Path, tmp_path: Path
) -> None:
    log = tmp_path / "calls"
    assert packers(cli, "plan", "t.pkr.hcl", log=log) == []
    assert packers(cli, "build", "t.pkr.hcl", log=log) == []
    (project.root / "scripts/setup.sh").write_text("#!/bin/sh\ntrue # other\n")
    first = packers(cli, "build", "t.pkr.hcl", log=log)
    assert first.count("validate") == 1
    assert not {"inspect", "plugins"} & set(first)
    (project.root / "scripts/setup.sh").write_text("#!/bin/sh\ntrue # third\n")
    assert "validate" not in packers(cli, "build", "t.pkr.hcl", log=log)
    kept.unlink()
    asked = packers(cli, "plan", "t.pkr.hcl", log=log)
    assert asked.count("inspect") == 1
    assert asked.count("validate") == 1, "it starts before it is known that nothing is to be built"


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("before", ["no state", "a state"])
def test_values_of_secrets_are_asked_once(
    cli: Cli, project: Project, kept: Path, tmp_path: Path, before: str
) -> None:
    """They are evaluated with all other values, for the plan."""
    source = TEMPLATE.replace('"none"', f'"{SECRET}"', 1).replace("ls ./", "echo $TOKEN ./")
    project.write("t.pkr.hcl", source)
    if before == "no state":
        shutil.rmtree(project.root / ".packer-fork")
    else:
        kept.unlink()
    built = packers(cli, "build", "t.pkr.hcl", log=tmp_path / "built")
    kept.unlink(missing_ok=True)
    planned = packers(cli, "plan", "t.pkr.hcl", log=tmp_path / "planned")
    assert built.count("console") == planned.count("console") > 0
    logs = states.folder(project.root).glob("logs/*.log")
    shown = b"".join(log.read_bytes() for log in logs)
    assert SECRET.encode() not in shown
    assert b"<sensitive>" in shown


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("which", ["another Packer", "a script"])
def test_another_packer_is_asked(
    cli: Cli, project: Project, program: Path, tmp_path: Path, which: str
) -> None:
    log, kept = tmp_path / "calls", build_until_kept(cli, project)
    if which == "a script":
        real = program.rename(tmp_path / "real")
        program.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
        program.chmod(0o755)
    else:
        os.utime(program, ns=(1, 1))
    assert kept.exists()
    assert "inspect" in packers(cli, "plan", "t.pkr.hcl", log=log)


def test_another_release_decides_anew() -> None:
    """All packages count that read templates, collect inputs or ask Packer, and their managers."""
    names = {name for name, _, _ in evaluation._code()}
    assert {"hcl.py", "reader.py", "collect.py", "outline.py", "input_report.py"} <= names


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "garbage": lambda _: b"\xff\x00garbage",
    "list": lambda _: msgspec.msgpack.encode([]),
    **{f"byte {n}": lambda data, n=n: flipped(data, len(data) * n // 40) for n in range(40)},  # type: ignore[misc]
}


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_damage_is_no_answer(cli: Cli, kept: Path) -> None:
    unchanged, answers = planned(cli, "t.pkr.hcl"), kept.read_bytes()
    key = bytes.fromhex(json.loads(cli("state", "pull", "t.pkr.hcl").out)["key"])
    names = [*msgspec.msgpack.decode(answers)["entries"]]
    whole = {name: evaluation.entry_in(kept, key, name) for name in names}
    assert None not in whole.values()
    for name, damage in DAMAGES.items():
        kept.write_bytes(damage(answers))
        for each, entry in whole.items():
            assert evaluation.entry_in(kept, key, each) in (None, entry), name
    for damaged in (b"", b"garbage", flipped(answers, len(answers) // 2)):
        kept.write_bytes(damaged)
        assert planned(cli, "t.pkr.hcl") == unchanged

    def is_kept() -> bool:
        assert cli("build", "t.pkr.hcl").rc == 0
        return evaluation.entry_in(kept, key, names[-1]) is not None

    eventually(is_kept)


def test_a_pipe_in_its_place_holds_nothing_up(cli: Cli, kept: Path) -> None:
    unchanged = planned(cli, "t.pkr.hcl")
    kept.unlink()
    os.mkfifo(kept)
    assert planned(cli, "t.pkr.hcl") == unchanged


def test_no_secret_and_no_value_is_kept(cli: Cli, project: Project, kept: Path) -> None:
    flags = ("-var", f"token={SECRET}", "-var", "region=a-value-of-a-variable")
    filled(cli, project, "t.pkr.hcl", *flags)
    assert kept.stat().st_mode & 0o777 == 0o600
    for secret in (SECRET, "a-value-of-a-variable", "a-text"):
        assert secret.encode() not in kept.read_bytes()


def test_few_answers_are_kept(cli: Cli, kept: Path) -> None:
    size = len(kept.read_bytes())
    for number in range(9):
        assert cli("build", "-var", f"region={number}", "-only=null.n", "t.pkr.hcl").rc == 0
    assert len(kept.read_bytes()) < 9 * size
    assert [*kept.parent.glob(".evaluations*")] == []


def test_a_template_that_names_a_secret_file_is_not_kept(cli: Cli, project: Project) -> None:
    project.write(f"{SECRET}.sh", "#!/bin/sh\n").chmod(0o755)
    project.write("data.txt", "data")
    project.write("text.txt", "text")
    source = TEMPLATE.replace("scripts/setup.sh", "${var.token}.sh")
    project.write("t.pkr.hcl", source.replace('"none"', f'"{SECRET}"', 1))
    for _ in range(2):
        assert cli("build", "t.pkr.hcl").rc == 0
    assert not (states.folder(project.root) / "evaluations").exists()
