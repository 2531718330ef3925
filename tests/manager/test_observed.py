"""Builds that are made anew because of what their Packer was seen to read."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.templates import begun, go_on

pytestmark = [
    pytest.mark.usefixtures("packer"),
    pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's"),
]

TEMPLATE = """
    source "null" "web" { communicator = "none" }
    source "null" "db" { communicator = "none" }
    build {
      sources = ["null.web"]
      provisioner "shell-local" { script = "scripts/web.sh" }
    }
    build {
      sources = ["null.db"]
      provisioner "shell-local" { script = "scripts/db.sh" }
    }
"""


@pytest.fixture
def template(project: Project) -> Path:
    for name in ("web", "db"):
        script = f"#!/bin/sh\n. scripts/common.sh\necho {name} >> log-of-builds\n"
        project.write(f"scripts/{name}.sh", script).chmod(0o755)
    project.write("scripts/common.sh", "true\n")
    return project.write("t.pkr.hcl", TEMPLATE)


def plan(cli: Cli, *arguments: str, env: dict[str, str] | None = None) -> dict[str, list[str]]:
    """Of each build that is to be built, why."""
    result = cli("plan", "--json", *arguments, "t.pkr.hcl", env=env)
    assert result.rc == 0, result
    builds = json.loads(result.out)["builds"]
    return {each["name"]: each["reasons"] for each in builds if each["action"] == "build"}


def built(project: Project) -> list[str]:
    """What was built since this was asked last."""
    log = project.root / "log-of-builds"
    names = sorted(log.read_text().split()) if log.exists() else []
    log.unlink(missing_ok=True)
    return names


@pytest.mark.usefixtures("template")
def test_script_that_both_sources_read_rebuilds_both(cli: Cli, project: Project) -> None:
    assert cli.cached("build", "t.pkr.hcl").rc == 0
    assert built(project) == ["db", "web"]
    assert plan(cli) == {}
    project.write("scripts/common.sh", "true # changed\n")
    reason = ["scripts/common.sh, read in run 1, changed"]
    assert plan(cli) == {"null.web": reason, "null.db": reason}
    assert cli("build", "t.pkr.hcl").rc == 0
    assert built(project) == ["db", "web"]
    assert plan(cli) == {}


@pytest.mark.usefixtures("template")
def test_what_one_source_read_alone_rebuilds_that_source_alone(cli: Cli, project: Project) -> None:
    script = project.root / "scripts/web.sh"
    script.write_text(script.read_text() + ". scripts/web-only.sh\n")
    project.write("scripts/web-only.sh", "true\n")
    assert cli("build", "-only=null.web", "t.pkr.hcl").rc == 0
    assert cli("build", "-only=null.db", "t.pkr.hcl").rc == 0
    assert built(project) == ["db", "web"]
    project.write("scripts/web-only.sh", "true # changed\n")
    assert plan(cli) == {"null.web": ["scripts/web-only.sh, read in run 1, changed"]}
    assert cli("build", "t.pkr.hcl").rc == 0
    assert built(project) == ["web"]


@pytest.mark.usefixtures("template")
@pytest.mark.parametrize("way", [["--isolate"], ["--share", "--max-sources", "2"]])
def test_packers_side_by_side_are_observed_each(cli: Cli, project: Project, way: list[str]) -> None:
    assert cli("build", *way, "t.pkr.hcl").rc == 0
    assert plan(cli) == {}
    project.write("scripts/common.sh", "true # changed\n")
    assert plan(cli).keys() == {"null.web", "null.db"}
    assert cli("build", *way, "t.pkr.hcl").rc == 0
    assert built(project) == ["db", "db", "web", "web"]
    assert plan(cli) == {}


@pytest.mark.usefixtures("template")
def test_back_to_what_was_read_before_is_up_to_date(cli: Cli, project: Project) -> None:
    assert cli.cached("build", "t.pkr.hcl").rc == 0
    project.write("scripts/common.sh", "true # changed\n")
    assert cli("build", "t.pkr.hcl").rc == 0
    project.write("scripts/common.sh", "true\n")
    assert plan(cli) == {}
    (project.root / "scripts/common.sh").unlink()
    assert plan(cli)["null.db"] == ["scripts/common.sh, read in run 2, is gone"]


@pytest.mark.usefixtures("template")
def test_other_checkout_agrees_on_what_was_read(cli: Cli, project: Project, tmp_path: Path) -> None:
    assert cli.cached("build", "t.pkr.hcl").rc == 0
    other = shutil.copytree(project.root, tmp_path / "other")
    for path in other.rglob("*"):
        path.touch()
    result = cli("plan", "--detailed-exitcode", "t.pkr.hcl", cwd=other)
    assert result.rc == 0, result
    (other / "scripts/common.sh").write_text("true # changed\n")
    assert cli("plan", "--detailed-exitcode", "t.pkr.hcl", cwd=other).rc == 20


@pytest.mark.usefixtures("template")
def test_setting_off_lets_reads_not_count(cli: Cli, project: Project) -> None:
    off = {"PACKER_FORK_OBSERVE": "off"}
    assert cli.cached("build", "t.pkr.hcl").rc == 0
    project.write("scripts/common.sh", "true # changed\n")
    assert plan(cli, env=off) == {}
    assert cli("build", "--rebuild", "t.pkr.hcl", env=off).rc == 0
    state = states.state(cli)
    assert state["inputs"][state["builds"]["null.web"]["observed"]]["status"] == "off"
    project.write("scripts/common.sh", "true # once more\n")
    assert plan(cli) == {}


@pytest.mark.parametrize("observe", ["auto", "off"])
def test_input_that_changed_during_the_run_is_built_again(
    cli: Cli, project: Project, observe: str, tmp_path: Path
) -> None:
    env = {"PACKER_FORK_OBSERVE": observe}
    gate = "#!/bin/sh\ntouch begun; while [ ! -e $PWD/go ]; do sleep 0.1; done\n"
    project.write("scripts/web.sh", gate).chmod(0o755)
    second = project.write("scripts/second.sh", "#!/bin/sh\ntrue\n")
    second.chmod(0o755)
    project.write(
        "t.pkr.hcl",
        """
        source "null" "web" { communicator = "none" }
        build {
          sources = ["null.web"]
          provisioner "shell-local" { script = "scripts/web.sh" }
          provisioner "shell-local" { scripts = ["scripts/second.sh"] }
        }
        """,
    )
    saved = tmp_path / "saved"
    shutil.copy2(second, saved)
    running = begun(cli, project, "t.pkr.hcl", env=env)
    second.write_text("#!/bin/sh\ntrue # for this run only\n")
    go_on(project.root)
    assert running.wait().rc == 0
    shutil.copy2(saved, second)
    assert plan(cli, env=env).keys() == {"null.web"}
    assert cli("build", "t.pkr.hcl", env=env).rc == 0
    assert plan(cli, env=env) == {}


def test_run_whose_packer_fork_was_killed_is_built_once_more(cli: Cli, project: Project) -> None:
    project.write("lib.sh", "true\n")
    project.write("main.sh", ". ./lib.sh\n")
    project.write(
        "t.pkr.hcl",
        """
        source "null" "n" { communicator = "none" }
        build {
          sources = ["null.n"]
          provisioner "shell-local" {
            inline = ["touch begun; while [ ! -e $PWD/go ]; do sleep 0.1; done; . ./main.sh"]
          }
        }
        """,
    )
    running = begun(cli, project, "t.pkr.hcl")
    running.signal(signal.SIGKILL)
    running.wait()
    go_on(project.root)
    eventually(lambda: cli("state", "recover", "t.pkr.hcl").rc == 0)
    assert states.state(cli)["builds"]["null.n"]["status"] == "complete"
    (reasons,) = plan(cli).values()
    assert reasons == ["run 1 was not observed to its end (packer-fork ended before Packer did)"]
    assert cli("build", "t.pkr.hcl").rc == 0
    assert plan(cli) == {}
    project.write("lib.sh", "true # changed\n")
    assert plan(cli) == {"null.n": ["lib.sh, read in run 2, changed"]}


@pytest.mark.usefixtures("template", "root")
def test_too_few_watches_make_the_tree_count_and_build_no_loop(cli: Cli, project: Project) -> None:
    """A user namespace has a limit of its own, below which nothing else is."""
    limited = (
        *("unshare", "--user", "--map-root-user", "sh", "-c"),
        'echo 1 > /proc/sys/user/max_inotify_watches; exec "$@"',
        "sh",
    )
    result = cli("build", "t.pkr.hcl", under=limited)
    assert result.rc == 0, result
    assert result.err.count("too few inotify watches") == 1
    assert built(project) == ["db", "web"]
    assert plan(cli) == {}
    assert cli("build", "t.pkr.hcl", under=limited).rc == 0
    assert built(project) == []
    project.write("unrelated", "text")
    reason = ["files below the project changed since run 1 read them"]
    assert plan(cli) == {"null.web": reason, "null.db": reason}
    assert cli("build", "t.pkr.hcl", under=limited).rc == 0
    assert built(project) == ["db", "web"]
    assert plan(cli) == {}


def test_script_beside_one_that_is_named_outside_of_the_project(cli: Cli, project: Project) -> None:
    project.write("../shared/main.sh", "#!/bin/sh\n. ../shared/lib.sh\n").chmod(0o755)
    lib = project.write("../shared/lib.sh", "true\n")
    template = """
        source "null" "n" { communicator = "none" }
        build {
          sources = ["null.n"]
          provisioner "shell-local" { script = "../shared/main.sh" }
        }
    """
    project.write("t.pkr.hcl", template)
    assert cli("build", "t.pkr.hcl").rc == 0
    assert plan(cli) == {}
    lib.write_text("true # changed\n")
    path = os.path.realpath(lib)
    assert plan(cli) == {"null.n": [f"{path}, read in run 1, changed"]}


@pytest.mark.usefixtures("template")
def test_state_in_the_project_is_no_input(cli: Cli, project: Project) -> None:
    for _ in range(2):
        assert cli("build", "--state", "states", "t.pkr.hcl").rc == 0
    assert built(project) == ["db", "web"]
    assert os.listdir(project.root / "states") != []  # noqa: PTH208


NEIGHBOURS = """
    source "file" "conf" {
      content = file("conf.txt")
      target  = "out.txt"
    }
    source "null" "reader" { communicator = "none" }
    source "null" "other" { communicator = "none" }
    build { sources = ["file.conf"] }
    build {
      sources = ["null.reader"]
      provisioner "shell-local" { script = "scripts/reader.sh" }
    }
    build {
      sources = ["null.other"]
      provisioner "shell-local" { inline = ["true"] }
    }
"""


@pytest.mark.parametrize("chosen", [[], ["-only=null.reader,null.other"], ["-only=null.reader"]])
def test_script_that_reads_what_a_neighbour_opens_by_function_counts(
    cli: Cli, project: Project, chosen: list[str]
) -> None:
    project.write("conf.txt", "1\n")
    project.write("scripts/reader.sh", "#!/bin/sh\ncat conf.txt\n").chmod(0o755)
    project.write("t.pkr.hcl", NEIGHBOURS)
    assert cli("build", *chosen, "t.pkr.hcl").rc == 0
    assert plan(cli, *chosen) == {}
    project.write("conf.txt", "2\n")
    changed = {"null.reader"} if chosen else {"null.reader", "file.conf"}
    assert plan(cli, *chosen).keys() == changed


def test_what_packer_opens_for_a_neighbour_alone_does_not_count(cli: Cli, project: Project) -> None:
    project.write("conf.txt", "1\n")
    project.write("scripts/reader.sh", "#!/bin/sh\ntrue\n").chmod(0o755)
    project.write("t.pkr.hcl", NEIGHBOURS)
    assert cli("build", "-only=null.other", "t.pkr.hcl").rc == 0
    project.write("conf.txt", "2\n")
    assert plan(cli, "-only=null.other") == {}


def test_file_that_a_user_saved_during_a_run_counts_once_edited(project: Project, cli: Cli) -> None:
    """It was born in a run, as a product is; no run writes it afterwards."""
    project.write("conf/1", "1")
    inline = "cat conf/*; test -e conf/saved || echo saved > conf/saved"
    project.write(
        "t.pkr.hcl",
        f"""
        source "null" "web" {{ communicator = "none" }}
        build {{
          sources = ["null.web"]
          provisioner "shell-local" {{ inline = ["{inline}"] }}
        }}
        """,
    )
    saved = project.root / "conf" / "saved"
    assert cli("build", "t.pkr.hcl").rc == 0
    assert plan(cli) == {}
    later = saved.stat().st_mtime + 60
    for text in ("edited", "edited again"):
        saved.write_text(text, "utf-8")
        os.utime(saved, (later, later))
        assert list(plan(cli)) == ["null.web"]
        now = saved.stat().st_mtime - 120
        assert cli("build", "t.pkr.hcl").rc == 0
        os.utime(saved, (now, now))
        assert plan(cli) == {}
