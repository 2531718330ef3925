"""What is misspelt is refused in one sentence that says what may be meant."""

import os
from pathlib import Path

import pytest

from packer_fork.cli.app import run
from packer_fork.errors import EXIT_USAGE, UsageError
from packer_fork.model import Build, PendingChange
from packer_fork.stores.local.store import LocalStore
from tests.conftest import Cli, Project
from tests.support.local_states import lock_of
from tests.support.terminal import on_terminal

MEANT = {
    "biuld t.pkr.hcl": "'build'",
    "state shwo": "'show'",
    "lock statsu": "'status'",
    "build --workspce x t.pkr.hcl": "'--workspace'",
    "plan t.pkr.hcl -onyl=x": "'-only'",
    "build --parallel-build=2 t.pkr.hcl": "'-parallel-builds'",
    "logs --folow": "'--follow'",
    "--versoin": "'--version'",
    "state show --build null.wbe": "'null.web'",
    "state rm --yes --build null.wbe": "'null.web'",
    "artifacts --build nul.web": "'null.web'",
    "state show --workspace stagng": "'staging'",
    "logs --workspace stagng": "'staging'",
}

OTHERWISE = {
    "state qqqqqq": "`packer-fork state --help` tells all.",
    "state rm --qqqqqq": "`packer-fork state rm --help` tells all.",
    "build": "`packer-fork build --help` tells all.",
    "build --retries x t.pkr.hcl": "`packer-fork build --help` tells all.",
    "build --verbose --quiet t.pkr.hcl": "Give one of them.",
    "build --no-wait t.pkr.hcl": "Add --share, or leave them out.",
    "stats --last x": "`packer-fork stats --help` tells all.",
    "plan --json=yes t.pkr.hcl": "`packer-fork plan --help` tells all.",
    "build t.pkr.hcl --lock-timeout": "`packer-fork build --help` tells all.",
    "state show --json=yes": "`packer-fork state show --help` tells all.",
    "completion": "`packer-fork completion --help` tells all.",
    "completion tcsh": "`packer-fork completion --help` tells all.",
    "state show --build qqqqqq": "it has: null.web",
}


@pytest.fixture(autouse=True)
def _states(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the workspace "staging", which knows one build."""
    project.write("t.pkr.hcl", "")
    monkeypatch.chdir(project.root)
    root = Path(".packer-fork").resolve()
    store = LocalStore(
        root / "t.pkr.hcl" / "staging",
        root=root,
        template="t.pkr.hcl",
        workspace="staging",
        complain=lambda _: None,
    )
    with lock_of(store) as lock:
        lock.commit(PendingChange(operation="test", builds={"null.web": Build(name="null.web")}))


def refused(line: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        run(line.split())
    assert raised.value.message.count("\n") == 0
    assert raised.value.exit_code == EXIT_USAGE
    return raised.value


@pytest.mark.parametrize("line", MEANT)
def test_what_may_be_meant_is_named(line: str) -> None:
    assert refused(line).hint == f"Did you mean {MEANT[line]}?"


@pytest.mark.parametrize("line", OTHERWISE)
def test_what_helps_is_named_where_nothing_is_near(line: str) -> None:
    assert refused(line).hint == OTHERWISE[line]


def test_a_workspace_that_may_be_misspelt_is_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, warned in (("stagng", True), ("qqq", False), ("staging", False)):
        with pytest.raises(SystemExit):
            run(["state", "show", "t.pkr.hcl", "--workspace", name])
        assert ("Did you mean 'staging'?" in capsys.readouterr().err) == warned


def test_workspaces_that_are_numbered_are_not_misspelt(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".packer-fork/t.pkr.hcl/pr-11").mkdir()
    with pytest.raises(SystemExit):
        run(["state", "show", "t.pkr.hcl", "--workspace", "pr-12"])
    assert capsys.readouterr().err == ""


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["lock"])
    assert ended.value.code == EXIT_USAGE
    assert "Usage: packer-fork lock" in capsys.readouterr().err


def test_whoever_ends_a_question_has_done_nothing(cli: Cli) -> None:
    words = ("state", "rm", "--build", "null.web")
    result = on_terminal(cli, *words, steps=[("[y/N]", "\x04")]).wait()
    assert result.rc == EXIT_USAGE, result
    assert "packer-fork: error: Nothing was done." in result.out


def test_states_of_another_user_are_not_taken_for_none(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", "")
    folder = project.root / ".packer-fork"
    (folder / "t.pkr.hcl" / "default").mkdir(parents=True)
    no_power = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    folder.chmod(0)
    for command in (("lock", "status"), ("state", "show"), ("state", "show", "t.pkr.hcl")):
        result = cli(*command, under=() if os.geteuid() else no_power)
        assert result.rc == 15, result
        assert "cannot read the state" in result.err
        assert str(folder) in result.err
    folder.chmod(0o700)
