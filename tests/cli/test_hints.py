"""Commands in hints: they work as printed, from where they are printed."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import Cli, Project
from tests.support.templates import TWO

pytestmark = pytest.mark.usefixtures("packer")


def hinted(text: str, verb: str) -> list[str]:
    """The first command with `verb` in `text`, as words behind ``packer-fork``."""
    found = re.search(rf"packer-fork ({verb}[^`\n]*?)(`|\n|   \(| shows)", text)
    assert found is not None, text
    return shlex.split(found[1])


def test_repair_hint_works_beside_other_states(cli: Cli, project: Project) -> None:
    for name in ("a.pkr.hcl", "b.pkr.hcl"):
        project.write(name, TWO)
        assert cli("build", "--workspace", "w", name).rc == 0
    state = project.root / ".packer-fork/a.pkr.hcl/w/state.json"
    state.write_bytes(state.read_bytes()[:100])
    checked = cli("state", "check")
    assert "1 segment," in checked.out
    shown = cli("state", "show", "--workspace", "w", "a.pkr.hcl")
    commands = [hinted(text, "state check --repair") for text in (checked.out, shown.err)]
    assert commands[0] == commands[1]
    assert cli(*commands[0], "--yes").rc == 0
    assert cli("state", "check").rc == 0


@pytest.mark.parametrize("option", [True, False])
def test_unlock_hint_works_where_the_state_is_elsewhere(
    cli: Cli, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, option: bool
) -> None:
    project.write("t.pkr.hcl", TWO)
    given = ["--state", str(tmp_path / "all states")] if option else []
    assert cli("build", *given, "t.pkr.hcl").rc == 0
    (lock,) = (tmp_path if option else project.root).rglob("default/lock")
    lock.write_text("damaged")
    (elsewhere := tmp_path / "elsewhere").mkdir()
    if not option:
        monkeypatch.chdir(elsewhere)
    path = "t.pkr.hcl" if option else str(project.root / "t.pkr.hcl")
    status = cli("lock", "status", *given, path)
    assert status.rc == 11
    assert cli(*hinted(status.out, "force-unlock"), "--yes").rc == 0
