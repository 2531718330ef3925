"""Tables: as wide as the terminal, wrapped by column and never inside a word, whole in a pipe."""

import json
import re
import shutil

import pytest

from packer_fork.views.console import StyledLine
from packer_fork.views.tables import Cell, header, row, status, table, width_of, wrapped
from tests.conftest import Cli, Project, unavailable
from tests.support.templates import GATED, go_on
from tests.support.tmux import in_tmux

WHY = "run 1, artifact Null is trusted to exist, expires in 29 d"
ROWS = [
    header("BUILD", "STATUS", "WHY"),
    row("null.web", status("complete"), WHY),
    row("null.机器", status("failed"), "-", below=[Cell("error: no such file or directory")]),
]


def test_nothing_is_wrapped_or_cut_in_a_pipe() -> None:
    long = "x" * 500
    assert table([*ROWS, row("b", "c", long)])[1:] == [
        f"null.web   complete  {WHY}",
        "null.机器  failed    -",
        "    error: no such file or directory",
        f"b          c         {long}",
    ]
    assert table([]) == []


@pytest.mark.parametrize("width", range(8, 90))
def test_lines_fit_and_no_word_is_broken(width: int) -> None:
    lines = table(ROWS, width, indent=2)
    words = " ".join(lines).split()
    assert {*words, "-"} == set(" ".join(table(ROWS)).split())
    longest = max(map(width_of, words))
    unbroken = max(width_of("null.机器"), width_of("complete"))
    assert all(width_of(line) <= max(width, longest + 6, unbroken + 6) for line in lines)


def test_wide_columns_are_narrowed_first() -> None:
    assert table(ROWS, 50)[:3] == [
        "BUILD      STATUS    WHY",
        "null.web   complete  run 1, artifact Null is",
        "                     trusted to exist, expires in",
    ]


def test_columns_without_room_stand_below() -> None:
    assert table(ROWS, 24) == [
        "BUILD      STATUS",
        "    WHY",
        "null.web   complete",
        "    run 1, artifact Null",
        "    is trusted to exist,",
        "    expires in 29 d",
        "null.机器  failed",
        "    error: no such file",
        "    or directory",
    ]


def test_a_word_that_is_too_long_has_a_line_of_its_own() -> None:
    assert wrapped("a bb cccccc d", 4) == ["a bb", "cccccc", "d"]


def test_styles_are_beside_the_text() -> None:
    _, web, *_ = table(ROWS)
    assert isinstance(web, StyledLine)
    assert ("complete", "good") in web.parts


def test_hostile_cells_stay_in_their_line() -> None:
    assert table([row("a\x1b[2J\nb", "c")]) == ["a b  c"]


SGR = re.compile(r"\x1b\[[\d;]*m")


@pytest.mark.usefixtures("packer")
def test_commands_show_tables(cli: Cli, project: Project) -> None:
    if shutil.which("tmux") is None:
        unavailable("tmux is not installed: run .ci/ensure-test-tools")
    project.write("t.pkr.hcl", GATED)
    go_on(project.root)
    assert cli("build", "t.pkr.hcl").rc == 0
    head, first = cli("artifacts", "t.pkr.hcl").out.splitlines()[:2]
    assert (head.split(), first.split()) == (["BUILD", "RUN", "ARTIFACT"], ["null.n", "1", "Null"])
    whole = cli("plan", "t.pkr.hcl").out
    assert "  null.n: up to date (run 1, artifact Null is trusted to exist, " in whole
    _, lines = in_tmux(cli, "plan", "t.pkr.hcl", size=(60, 24)).end()
    head, first, second = lines[1:4]
    assert head.split() == ["BUILD", "ACTION", "WHY", "ARTIFACTS"]
    assert first.startswith("  null.n  up to date  run 1, artifact Null is ")
    assert second.startswith("                      trusted to exist")
    assert first.endswith("Null")


@pytest.mark.usefixtures("packer")
@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"FORCE_COLOR": "1", "CI": "true"}, True),
        ({"FORCE_COLOR": "1", "GITHUB_ACTIONS": "true"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_force_color_colours_a_pipe(
    cli: Cli, project: Project, env: dict[str, str], *, coloured: bool
) -> None:
    project.write("t.pkr.hcl", GATED)
    go_on(project.root)
    assert cli("build", "t.pkr.hcl").rc == 0
    env = {"NO_COLOR": "", **env}
    shown = cli("state", "show", env=env).out
    assert bool(SGR.search(shown)) == coloured
    assert "complete" in SGR.sub("", shown)
    assert json.loads(cli("state", "show", "--json", env=env).out)


@pytest.mark.usefixtures("packer")
def test_every_command_takes_an_option_for_colour(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    go_on(project.root)
    built = cli("build", "--color=always", "t.pkr.hcl")
    assert built.rc == 0
    assert SGR.search(built.out)
    assert SGR.search(cli("--color=always", "state", "show").out)
    assert not SGR.search(
        cli("state", "show", "--color=never", env={"NO_COLOR": "", "FORCE_COLOR": "1"}).out
    )
    wrong = cli("state", "show", "--color=blue")
    assert (wrong.rc, "--color" in wrong.err) == (2, True)
