"""States of another user: unreadable is not absent, and a group shares what its owner wants."""

import grp
import os
from collections.abc import Sequence

import pytest

from tests.conftest import Cli, Project
from tests.support import states
from tests.support.queries import ONE, done, refused, runs

pytestmark = [
    pytest.mark.usefixtures("packer"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

NOBODY = 65534
GROUP = grp.getgrgid(1)
"""Any group but root's."""

COMMANDS: Sequence[tuple[str, ...]] = (
    ("build",),
    ("plan",),
    ("inputs",),
    ("artifacts",),
    ("logs",),
    ("stats",),
    ("lock", "status"),
    ("state", "show"),
    ("state", "list"),
    ("state", "runs"),
    ("state", "history"),
    ("state", "check"),
    ("state", "check", "--repair"),
    ("state", "backup"),
    ("state", "backup", "--list"),
    ("state", "pull"),
    ("state", "recover"),
    ("state", "prune"),
    ("state", "rm", "--build", "null.n", "--yes"),
)


def as_other_user(*groups: int) -> tuple[str, ...]:
    """Without root's power over files: what others own is as closed as to anybody."""
    powers = "-dac_override,-dac_read_search"
    member = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    return ("setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}", member)


def give_away(project: Project) -> None:
    folder = project.root / ".packer-fork"
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, -1)


def modes(project: Project) -> dict[bool, set[int]]:
    """Of folders (True) and of files."""
    folder = project.root / ".packer-fork"
    found: dict[bool, set[int]] = {True: set(), False: set()}
    for path in (folder, *folder.rglob("*")):
        found[path.is_dir()].add(path.stat().st_mode & 0o7777)
    return found


def test_private_state_of_another_user_is_not_absent(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ONE)
    done(cli, "build", "t.pkr.hcl")
    give_away(project)
    for command in COMMANDS:
        result = cli(*command, "t.pkr.hcl", under=as_other_user())
        assert result.rc == 15, (command, result)
        assert "cannot read the state in" in result.err, command
        assert "Permission denied" in result.err, command
        assert "shared_with_group" in result.err, command
    for command in (("state", "show"), ("lock", "status"), ("state", "check")):
        result = cli(*command, under=as_other_user())
        assert result.rc == 15, (command, result)
        assert "no state" not in result.err, command


def test_group_shares_the_states_that_its_setting_names(cli: Cli, project: Project) -> None:
    project.write("packer-fork.toml", f'shared_with_group = "{GROUP.gr_name}"\n')
    project.write("t.pkr.hcl", ONE)
    done(cli, "build", "t.pkr.hcl")
    assert modes(project) == {True: {0o2770}, False: {0o660}}
    folder = states.folder(project.root)
    assert {path.stat().st_gid for path in folder.rglob("*")} == {GROUP.gr_gid}
    give_away(project)
    member = as_other_user(GROUP.gr_gid)
    for command in (
        ("build", "--rebuild"),
        ("state", "backup"),
        ("state", "restore", "run:1", "--yes"),
        ("state", "check"),
        ("logs",),
    ):
        words = (*command[:2], "t.pkr.hcl", *command[2:])
        result = cli(*words, under=member)
        assert result.rc == 0, (command, result)
    assert modes(project) == {True: {0o2770}, False: {0o660}}
    assert runs(cli) == [2, 1]
    stranger = cli("state", "show", "t.pkr.hcl", under=as_other_user())
    assert stranger.rc == 15, stranger


def test_group_that_there_is_not_is_named(cli: Cli, project: Project) -> None:
    project.write("packer-fork.toml", 'shared_with_group = "no-such-group"\n')
    project.write("t.pkr.hcl", ONE)
    refused(cli, "build", "t.pkr.hcl", rc=2, text="there is no group 'no-such-group'")
    assert not (project.root / ".packer-fork").exists()
