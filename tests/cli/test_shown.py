"""Whatever stands in names, IDs and output is stored exactly and shown harmlessly."""

import json

import pytest

from tests.conftest import Cli, Project
from tests.support import states
from tests.support.packer_versions import json_build

pytestmark = pytest.mark.usefixtures("packer")

NAMES = [
    "[bold]not bold[/bold]",
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "quo\"te and 'tick'",
    "日本語 é \u202e",
    "n" * 3000,
]
OUTPUT = "\x1b]0;title\x07 \x1b[2J [red]rich[/red] \x9b31m over \u202e"


def test_strange_names_and_output(cli: Cli, project: Project) -> None:
    (project.root / "noise").write_text(OUTPUT, encoding="utf-8")
    template = {
        "builders": [{"type": "null", "communicator": "none", "name": name} for name in NAMES],
        "provisioners": [{"type": "shell-local", "inline": ["cat noise"]}],
    }
    (project.root / "t.json").write_text(json.dumps(template), encoding="utf-8")
    built = cli("build", "t.json")
    assert built.rc == 0, built
    names = {json_build("null", name) for name in NAMES}
    assert {*states.state(cli, "t.json")["builds"]} == names
    shown = [
        built,
        cli("state", "show"),
        *(cli("state", "show", "--build", name) for name in names),
        cli("state", "show", "--json"),
        cli("plan", "t.json"),
        cli("logs"),
        cli("lock", "status"),
        cli("artifacts"),
    ]
    for result in shown:
        assert result.rc == 0, result
        for text in (result.out, result.err):
            assert not {c for c in text if c in "\x1b\x07\x9b\r\u202e" or c == "\x00"}
    assert built.out.count("[red]rich[/red]") >= len(NAMES)
