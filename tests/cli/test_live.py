"""The live view, looked at on the screen of a real terminal while real Packer builds."""

import json
import os
import re
import shutil
import signal
import sys
from functools import partial

import pytest
from rich.cells import cell_len

from tests.conftest import Cli, Project, eventually, unavailable
from tests.support import states
from tests.support.packer_versions import script_line
from tests.support.templates import GATED, begun, go_on
from tests.support.tmux import Terminal, in_tmux, shell_in_tmux

LONG = "很长的一行 " * 20

WIDE = f"""
    source "null" "机器" {{ communicator = "none" }}
    build {{
      sources = ["null.机器"]
      provisioner "shell-local" {{
        name   = "安装"
        inline = ["echo '{LONG}'; while [ ! -e $PWD/go ]; do sleep 0.1; done"]
      }}
    }}
"""

ONE_FAILS = """
    source "null" "good" { communicator = "none" }
    source "null" "bad" { communicator = "none" }
    build {
      sources = ["null.good", "null.bad"]
      provisioner "shell-local" {
        inline = [
          "if [ $PACKER_BUILD_NAME = bad ]; then",
          "for i in 1 2 3; do echo reason $i; done; exit 1; fi",
          "while [ ! -e $PWD/go ]; do sleep 0.1; done",
        ]
      }
    }
"""

MANY = (
    "".join(f'source "null" "n{number:02}" {{ communicator = "none" }}\n' for number in range(39))
    + GATED.replace('["null.n"]', '["null.gated"]').replace('"null" "n"', '"null" "gated"')
    + f"build {{ sources = {json.dumps([f'null.n{number:02}' for number in range(39)])} }}\n"
)


pytestmark = pytest.mark.usefixtures("packer")


@pytest.fixture(scope="module", autouse=True)
def _tmux() -> None:
    if shutil.which("tmux") is None:
        unavailable("tmux is not installed: run .ci/ensure-test-tools")


def below(lines: list[str], beginning: str) -> list[str]:
    """The lines from the only one that begins so."""
    (at,) = (number for number, line in enumerate(lines) if line.startswith(beginning))
    return lines[at:]


def summary(lines: list[str]) -> str:
    return "\n".join(below(lines, "packer-fork: t.pkr.hcl: run "))


def row(lines: list[str], name: str) -> str:
    (found,) = (line for line in lines if line[:1] in "●✓✗·■" and name in line)
    return found


def test_a_source_has_a_row_and_a_summary_stays(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    terminal = in_tmux(cli, "build", "t.pkr.hcl")
    lines = terminal.sees("● null.n  provisioning 1/1 shell-local  ", "  begun")
    assert lines[:2] == [
        "packer-fork: t.pkr.hcl: 1 to build, 0 up to date",
        "packer-fork:   null.n: build (never built)",
    ]
    (only,) = below(lines, "t.pkr.hcl  run 1  1 provisioning  0:")[1:]
    assert re.fullmatch(r"● null.n  provisioning 1/1 shell-local  \d:\d\d  begun", only)
    go_on(project.root)
    code, lines = terminal.end()
    assert code == 0
    assert not any(line.startswith(("●", "t.pkr.hcl  run")) for line in lines)
    assert any(line.startswith("Build 'null.n' finished after") for line in lines)
    shown = summary(lines)
    assert "run 1 complete after" in shown
    assert "  built       null.n" in shown
    assert "/.packer-fork/t.pkr.hcl/default/logs/1-1.log" in shown.replace("\n", "")
    assert "  next        packer-fork artifacts t.pkr.hcl:" in shown
    assert terminal.shows_a_cursor()


def test_waiting_for_the_lock_counts_down(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    running = begun(cli, project, "t.pkr.hcl")
    terminal = in_tmux(cli, "build", "--lock-timeout", "1m", "t.pkr.hcl")
    first = below(terminal.sees("waiting for the lock: gives up in 0:5"), "waiting for the lock")
    assert first[1].startswith("held by ")
    eventually(lambda: below(terminal.screen(), "waiting for the lock")[0] != first[0])
    go_on(project.root)
    assert running.wait().rc == 0
    code, lines = terminal.end()
    assert code == 0
    assert not any("waiting for the lock" in line for line in lines)


def test_what_is_up_to_date_is_said_once(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    go_on(project.root)
    assert cli.cached("build", "t.pkr.hcl").rc == 0
    code, lines = in_tmux(cli, "build", "t.pkr.hcl").end()
    assert code == 0
    assert "\n".join(lines).count("everything is up to date") == 1


def test_the_time_left_is_told_from_runs_before(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    go_on(project.root)
    assert cli.cached("build", "t.pkr.hcl").rc == 0
    again = cli("build", "--rebuild", "--json", "t.pkr.hcl")
    events = [json.loads(line) for line in again.out.splitlines()]
    (started,) = (event for event in events if event["event"] == "run_started")
    assert started["usual"].keys() == {"null.n"}
    (project.root / "go").unlink()
    terminal = in_tmux(cli, "build", "--rebuild", "t.pkr.hcl")
    lines = terminal.sees("1 provisioning", " over", "    begun")
    assert re.search(r"0:\d\d  ━━━━━━━━━━  0:\d\d over$", row(lines, "null.n"))
    go_on(project.root)
    assert terminal.end()[0] == 0


@pytest.mark.parametrize("width", [80, 33])
def test_wide_characters_are_cut_and_leave_columns_straight(
    cli: Cli, project: Project, width: int
) -> None:
    project.write("t.pkr.hcl", WIDE)
    terminal = in_tmux(cli, "build", "t.pkr.hcl", size=(width, 24))
    terminal.sees("● null.机器  provision", "很长的一行")
    eventually(lambda: cell_len(terminal.screen()[-1]) in (width - 1, width - 2))
    shown = below(terminal.sees("● null.机器  provision", "很长的一行"), "t.pkr.hcl  run 1")
    assert len(shown) == (2 if width == 80 else 3)
    assert shown[-1].endswith("…")
    go_on(project.root)
    code, lines = terminal.end()
    assert code == 0
    assert "null.机器" in summary(lines)


def test_forty_sources_fit_on_a_small_screen(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", MANY)
    terminal = in_tmux(cli, "build", "t.pkr.hcl")
    head = "t.pkr.hcl  run 1  1 provisioning, 39 finished"
    region = below(terminal.sees(head, "● null.gated", "  and 26 more: 26 finished"), head)
    assert len(region) == 16
    assert sum(line.startswith("✓ null.n") for line in region) == 13
    for width, height, rows in [(80, 10, 6), (80, 24, 16)]:
        terminal.resize(width, height)
        eventually(partial(_has_rows, terminal, rows))
    heads = [line for line in terminal.everything() if line.startswith("t.pkr.hcl  run")]
    assert len(heads) == 1
    go_on(project.root)
    code, _ = terminal.end()
    assert code == 0
    assert summary(terminal.everything()).count("  built ") == 40


def _has_rows(terminal: Terminal, count: int) -> bool:
    """Whether the region takes so many of the screen."""
    lines = terminal.screen()
    heads = [number for number, line in enumerate(lines) if line.startswith("t.pkr.hcl  run")]
    return len(lines) - heads[-1] == count if heads else False


def test_a_resize_leaves_nothing_behind(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", WIDE)
    terminal = in_tmux(cli, "build", "t.pkr.hcl")
    terminal.sees("provisioning 1/1 安装")
    for width, height in [(40, 24), (100, 30), (30, 8), (80, 24), (60, 12)]:
        terminal.resize(width, height)
        eventually(partial(_is_drawn_once, terminal, is_wide=width >= 60))
    assert "packer-fork:   null.机器: build (never built)" in terminal.screen()
    go_on(project.root)
    assert terminal.end()[0] == 0


def _is_drawn_once(terminal: Terminal, *, is_wide: bool) -> bool:
    """Whether the region is drawn for this width, and nothing is left of the one before."""
    lines = terminal.screen()
    heads = [line for line in lines if line.startswith("t.pkr.hcl  run")]
    rows = [line for line in lines if line.startswith("● ")]
    return len(heads) == len(rows) == 1 and is_wide == ("provisioning 1/1 安装" in rows[0])


def test_a_failure_unfolds_its_last_lines(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ONE_FAILS)
    terminal = in_tmux(cli, "build", "t.pkr.hcl")
    lines = terminal.sees("1 provisioning, 1 failed", "● null.good", "Provisioning step had errors")
    region = below(lines, "t.pkr.hcl  run 1  1 provisioning, 1 failed")
    bad = below(region, "✗ null.bad")
    assert {"    reason 1", "    reason 2", "    reason 3"} <= set(bad)
    go_on(project.root)
    code, lines = terminal.end()
    assert code == 1
    shown = below(lines, "packer-fork: t.pkr.hcl: run 1 failed")
    assert shown[1].startswith("  built       null.good")
    assert any(line.startswith("  failed      null.bad") for line in shown)
    assert "      reason 3" in shown
    assert "  next        the same command again: it builds only what is not complete" in shown


def test_verbose_shows_each_line_and_quiet_none(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    go_on(project.root)
    code, lines = in_tmux(cli, "build", "--verbose", "t.pkr.hcl", size=(80, 40)).end()
    assert code == 0
    assert script_line("null.n", "gone on") in lines
    terminal = in_tmux(cli, "build", "--quiet", "--rebuild", "t.pkr.hcl")
    code, lines = terminal.end()
    assert code == 0
    assert terminal.everything()[0].startswith("packer-fork: t.pkr.hcl: run 2 complete")
    assert "  built       null.n" in summary(lines)


def test_the_region_stays_below_a_flood(cli: Cli, project: Project) -> None:
    flood = "n=0; while [ ! -e $PWD/go ]; do n=$((n+1)); echo line $n; sleep 0.005; done"
    project.write("t.pkr.hcl", GATED.replace("while [ ! -e $PWD/go ]; do sleep 0.1; done", flood))
    terminal = in_tmux(cli, "build", "--verbose", "t.pkr.hcl")
    lines = terminal.sees(
        "● null.n  provisioning 1/1 shell-local  ", script_line("null.n", "line ")
    )
    assert lines[-3].startswith(script_line("null.n", "line "))
    assert lines[-2].startswith("t.pkr.hcl  run 1  1 provisioning")
    assert lines[-1].startswith("● null.n  provisioning")
    go_on(project.root)
    assert terminal.end()[0] == 0


def test_quiet_without_a_terminal_tells_what_came_of_it(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ONE_FAILS)
    go_on(project.root)
    whole = cli.cached("build", "t.pkr.hcl")
    quiet = cli("build", "--rebuild", "--quiet", "t.pkr.hcl")
    assert whole.rc == quiet.rc == 1
    assert script_line("null.bad", "reason 3") in whole.out
    assert "reason" not in quiet.out
    assert "Build 'null.bad' errored" in quiet.out
    first, *rest = quiet.err.splitlines()
    assert first.startswith("packer-fork: run 2 failed")
    assert [" ".join(line.split()[1:3]) for line in rest[:-1]] == [
        *("null.good: complete", "null.bad: failed"),
        *("reason 1", "reason 2", "reason 3"),
    ]
    assert rest[-1].split()[1] == "log:"
    assert "provisioner 1 (shell-local), t.pkr.hcl:6, exit status 1" in rest[1]
    loud = cli("build", "--rebuild", "--verbose", "t.pkr.hcl")
    assert script_line("null.bad", "reason 3") in loud.out
    assert cli("build", "--quiet", "--verbose", "t.pkr.hcl").rc == 2


def test_ctrl_c_is_explained_while_packer_cleans_up(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED.replace("echo begun;", "trap '' TERM INT; echo begun;"))
    terminal = in_tmux(cli, "build", "t.pkr.hcl")
    terminal.sees("provisioning 1/1 shell-local", "begun")
    terminal.type("C-c")
    lines = terminal.sees("Ctrl-C twice more kills it.")
    assert lines[-1].startswith("Packer cleans up, for 14:5")
    assert "packer-fork: SIGINT: Packer is told to stop" in "\n".join(lines)
    terminal.type("C-c")
    terminal.sees("Ctrl-C once more kills it.")
    go_on(project.root)
    code, lines = terminal.end()
    assert code == 128 + signal.SIGINT
    assert "  cancelled   null.n" in summary(lines)
    assert terminal.shows_a_cursor()


def test_a_terminal_is_usable_whatever_ends_the_build(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    for number in (signal.SIGTERM, signal.SIGKILL):
        terminal = in_tmux(cli, "build", "t.pkr.hcl")
        terminal.sees("provisioning 1/1 shell-local", "begun")
        os.kill(states.lock(cli)["pid"], number)
        terminal.sees(f"ended with {128 + number}")
        assert terminal.shows_a_cursor()
        terminal.tmux("kill-server")


def test_stopped_and_continued_it_goes_on_below(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    terminal = shell_in_tmux(cli)
    terminal.sees("$")
    terminal.type(f"{sys.executable} -m packer_fork build t.pkr.hcl", "Enter")
    terminal.sees("provisioning 1/1 shell-local", "begun")
    terminal.type("C-z")
    terminal.sees("Stopped")
    assert terminal.shows_a_cursor()
    terminal.type("echo in between; fg", "Enter")
    lines = terminal.sees("in between", "Stopped")
    eventually(lambda: terminal.screen()[-1].startswith("● null.n"))
    lines = terminal.screen()
    assert "in between" in lines
    assert lines.index("in between") < len(lines) - 2
    go_on(project.root)
    shown = terminal.sees("run 1 complete after")
    assert "in between" in shown


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"CI": "true"}, {"GITLAB_CI": "true"}])
def test_where_nobody_looks_there_are_plain_lines(
    cli: Cli, project: Project, env: dict[str, str]
) -> None:
    project.write("t.pkr.hcl", GATED)
    go_on(project.root)
    terminal = in_tmux(cli, "build", "t.pkr.hcl", size=(120, 50), env=env)
    code, lines = terminal.end()
    assert code == 0
    assert "packer-fork: run 1 of t.pkr.hcl: null.n" in lines
    assert script_line("null.n", "gone on") in lines
