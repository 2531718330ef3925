"""Colour is for who wants it: NO_COLOR (https://no-color.org), and terminals that know none."""

import re
import shutil

import pytest

from tests.conftest import Cli, Project, unavailable
from tests.support.tmux import in_tmux

FAILS = """
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "shell-local" { inline = ["exit 9"] }
    }
"""

SGR = re.compile(r"\x1b\[[\d;]*m")


@pytest.mark.usefixtures("packer")
@pytest.mark.parametrize(
    ("env", "flag", "coloured"),
    [
        ({"NO_COLOR": ""}, "-color=true", True),
        ({"NO_COLOR": ""}, "-color=false", False),
        ({"NO_COLOR": "1"}, "-color=true", False),
        ({"NO_COLOR": "", "CI": "1"}, "-color=true", False),
        ({"NO_COLOR": "", "TERM": "dumb"}, "-color=true", False),
    ],
)
def test_colour_is_for_who_wants_it(
    cli: Cli, project: Project, env: dict[str, str], flag: str, *, coloured: bool
) -> None:
    if shutil.which("tmux") is None:
        unavailable("tmux is not installed: run .ci/ensure-test-tools")
    project.write("t.pkr.hcl", FAILS)
    terminal = in_tmux(cli, "build", flag, "t.pkr.hcl", env=env)
    rc, _ = terminal.end()
    assert rc == 1
    shown = terminal.tmux("capture-pane", "-p", "-e", "-S", "-")
    assert bool(SGR.search(shown)) == coloured, shown
