"""The live view in a window that is dragged: what it shows once the window rests.

A terminal that moves its text while it is drawn upon tears lines by chance.
"""

from __future__ import annotations

import random
from functools import partial

import pytest

from stress.scale import Scale
from tests.conftest import Cli, Project, eventually
from tests.support.templates import GATED, go_on
from tests.support.tmux import Terminal, in_tmux

_SIZES = ([30, 45, 60, 100, 120], [6, 10, 16, 30])
_DRAGS = 40


@pytest.mark.usefixtures("packer")
def test_dragged_window_shows_no_torn_lines(
    cli: Cli, project: Project, rng: random.Random, scale: Scale
) -> None:
    if scale.name == "ci":
        pytest.skip("one drag in about thirty still tears a line: only for --scale stress")
    project.write("t.pkr.hcl", GATED)
    terminal = in_tmux(cli, "build", "t.pkr.hcl")
    terminal.sees("provisioning 1/1 shell-local")
    for _ in range(_DRAGS):
        terminal.resize(*(rng.choice(sizes) for sizes in _SIZES))
    terminal.resize(100, 30)
    eventually(partial(_is_whole, terminal))
    go_on(project.root)
    assert terminal.end()[0] == 0


def _is_whole(terminal: Terminal) -> bool:
    """Whether there is the region alone below the log, drawn for 100 cells."""
    lines = terminal.screen()
    log = [line for line in lines if line.startswith("packer-fork: ")]
    region = lines[len(log) :]
    return region[:1] != [] and region[0].startswith("t.pkr.hcl  run") and len(region) <= 3
