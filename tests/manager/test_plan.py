"""Builds that run once, and say why: plan, skip, resume, retry, isolate."""

import json
import os
import shutil
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import packer_fork
from packer_fork import events
from packer_fork.codec.builds import decode_build
from packer_fork.manager.build import planning
from packer_fork.manager.build.prepare import BuildRequest
from packer_fork.model import PendingChange
from packer_fork.packer.flags import PackerFlags
from tests.conftest import Cli, Project, eventually
from tests.support import local_states, states
from tests.support.packer_versions import needs_built_in
from tests.support.templates import FAST_AND_GATED, begun, go_on

pytestmark = pytest.mark.usefixtures("packer")

TEMPLATE = """
    variable "region" { default = "eu" }
    variable "token" {
      default   = "secret-token"
      sensitive = true
    }
    source "file" "a" {
      content = "region ${var.region}"
      target  = "a.txt"
    }
    source "null" "n" { communicator = "none" }
    build {
      sources = ["file.a", "null.n"]
      provisioner "shell-local" { script = "scripts/setup.sh" }
      provisioner "shell-local" {
        environment_vars = ["TOKEN=${var.token}"]
        inline           = ["echo >> log-of-builds; cat ${path.root}/data.txt"]
      }
    }
"""


@pytest.fixture
def template(project: Project) -> Path:
    project.write("scripts/setup.sh", "#!/bin/sh\ntrue\n").chmod(0o755)
    project.write("data.txt", "data\n")
    return project.write("t.pkr.hcl", TEMPLATE)


def plan(cli: Cli, *arguments: str, **more: Any) -> dict[str, tuple[str, list[str]]]:
    result = cli("plan", "--json", *arguments, "t.pkr.hcl", **more)
    assert result.rc == 0, result
    event = json.loads(result.out)
    return {build["name"]: (build["action"], build["reasons"]) for build in event["builds"]}


def times_built(project: Project) -> int:
    log = project.root / "log-of-builds"
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.usefixtures("template")
def test_twice_in_a_row_builds_once(cli: Cli, project: Project) -> None:
    assert plan(cli) == {name: ("build", ["never built"]) for name in ("file.a", "null.n")}
    assert cli.cached("build", "t.pkr.hcl").rc == 0
    assert times_built(project) == 2
    again = cli("build", "t.pkr.hcl")
    assert again.rc == 0
    assert "everything is up to date" in again.err
    assert again.out == ""
    assert times_built(project) == 2
    assert states.state(cli)["last_run"]["number"] == 1
    assert cli("build", "--rebuild", "t.pkr.hcl").rc == 0
    assert times_built(project) == 4
    assert {reasons[0] for _, reasons in plan(cli).values()} == {"run 2"}


def contents(folder: Path) -> dict[Path, bytes]:
    """Of all files, but for what Packer was asked, which the next command need not ask again."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.name != "evaluations"}


@pytest.mark.usefixtures("template")
def test_the_plan_changes_nothing_and_has_exit_codes(cli: Cli, project: Project) -> None:
    assert cli("plan", "--detailed-exitcode", "t.pkr.hcl").rc == 20
    assert not (project.root / ".packer-fork").exists()
    assert cli("build", "t.pkr.hcl").rc == 0
    folder = states.folder(project.root)
    before = contents(folder)
    done = cli("plan", "--detailed-exitcode", "t.pkr.hcl")
    assert done.rc == 0
    assert "everything is up to date" in done.out
    assert "expires in 29 d" in done.out or "expires in 30 d" in done.out
    assert contents(folder) == before


@pytest.mark.usefixtures("template")
def test_each_kind_of_change_is_seen_and_named(cli: Cli, project: Project) -> None:
    """More are in test_evaluation.py."""
    assert cli.cached("build", "t.pkr.hcl").rc == 0
    script, data = project.root / "scripts/setup.sh", project.root / "data.txt"

    def reasons(*arguments: str, **more: Any) -> list[str]:
        (first, _) = plan(cli, *arguments, **more).values()
        return first[1] if first[0] == "build" else []

    assert reasons() == []
    script.touch()
    assert reasons() == [], "touching a file is no change"
    secret = reasons("-var", "token=another-secret")
    assert secret == ["variable token changed"]
    script.chmod(0o644)
    assert reasons() == ["scripts/setup.sh is no longer executable"]
    script.chmod(0o711)
    assert reasons() == [], "other mode bits are no change"
    data.write_text("other")
    assert reasons() == ["data.txt changed"]
    data.unlink()
    assert reasons() == ["data.txt is gone"]
    data.write_text("data\n")
    more = project.write("extra/file", "x")
    assert reasons("--input", "extra/**") == ["extra/file is new"]
    assert cli("build", "--input", "extra/**", "t.pkr.hcl").rc == 0
    us = ("-var", "region=us")
    assert reasons(*us) == ["extra/file counts no more", "variable region changed"]
    more.unlink()
    assert reasons(*us) == ["extra/file is gone", "variable region changed"]
    assert reasons("--max-age", "0s") == ["run 1 is older than max_age"]
    (project.root / "a.txt").write_text("overwritten")
    assert reasons() == ["artifact a.txt differs from its recorded SHA-256"]
    (project.root / "a.txt").unlink()
    assert reasons() == ["artifact a.txt is missing"]


def test_artifacts_that_the_build_itself_removed_are_not_missed(cli: Cli, project: Project) -> None:
    """As `checksum` before `compress`, or `artifice` after a rename; what is left counts."""
    project.write(
        "t.pkr.hcl",
        """
        source "file" "disk" {
          content = "image"
          target  = "out/disk.raw"
        }
        build {
          sources = ["file.disk"]
          post-processors {
            post-processor "shell-local" { inline = ["gzip -f out/disk.raw"] }
            post-processor "artifice" { files = ["out/disk.raw.gz"] }
          }
        }
        """,
    )
    assert cli("build", "t.pkr.hcl").rc == 0
    assert not (project.root / "out/disk.raw").exists()
    assert plan(cli)["file.disk"] == ("up_to_date", ["run 1"])
    (project.root / "out/disk.raw.gz").unlink()
    assert plan(cli)["file.disk"] == ("build", ["artifact out/disk.raw.gz is missing"])


def test_each_checkout_has_artifacts_of_its_own(cli: Cli, project: Project) -> None:
    """Two checkouts share a state: each builds once, and neither is sent to the other's files."""
    state = project.root / "state"
    for name in ("ana", "eli"):
        project.write(f"{name}/packer-fork.toml", f'state = "{state}"\nproject = "images"\n')
        project.write(
            f"{name}/images/t.pkr.hcl",
            """
            source "file" "f" {
              content = "image"
              target  = "../out/a.txt"
            }
            build { sources = ["file.f"] }
            """,
        )
    ana, eli = (cli._replace(cwd=project.root / name / "images") for name in ("ana", "eli"))
    assert ana("build", "t.pkr.hcl").rc == 0
    text = f"artifact out/a.txt is in another checkout, {project.root}/ana"
    assert plan(eli)["file.f"] == ("build", [text])
    assert eli("build", "t.pkr.hcl").rc == 0
    assert plan(eli)["file.f"] == ("up_to_date", ["run 2"])
    assert plan(ana)["file.f"] == ("up_to_date", ["run 1"])


@pytest.mark.usefixtures("template")
def test_back_to_what_was_built_before_is_up_to_date(cli: Cli, project: Project) -> None:
    assert cli.cached("build", "-only=null.n", "t.pkr.hcl").rc == 0
    script = project.root / "scripts/setup.sh"
    before = script.read_text()
    script.write_text("#!/bin/sh\ntrue # changed\n")
    assert cli("build", "-only=null.n", "t.pkr.hcl").rc == 0
    script.write_text(before)
    action, reasons = plan(cli, "-only=null.n")["null.n"]
    assert (action, reasons[0]) == ("up_to_date", "run 1")


@pytest.mark.usefixtures("template")
def test_another_checkout_agrees(cli: Cli, project: Project) -> None:
    project.write("packer-fork.toml", 'state = "states"\nproject = "images"\n')
    assert cli("build", "-only=null.n", "t.pkr.hcl").rc == 0
    other = project.root.parent / "elsewhere"
    shutil.copytree(project.root, other)
    result = cli("plan", "--detailed-exitcode", "-only=null.n", "t.pkr.hcl", cwd=other)
    assert result.rc == 0, result


def recorded_ahead(root: Path, ahead: timedelta) -> None:
    """As if the clock had been ahead when null.n was built, and was set back since."""
    store = local_states.open_store(states.folder(root))
    state = store.read()
    assert state is not None
    build = decode_build(state.builds["null.n"])
    later = structs.replace(build, ended=datetime.now(UTC) + ahead)
    with local_states.lock_of(store) as lock:
        lock.commit(PendingChange(operation="test", builds={"null.n": later}))


@pytest.mark.usefixtures("template")
def test_a_run_in_the_future_is_not_up_to_date_for_longer(cli: Cli, project: Project) -> None:
    assert cli.cached("build", "-only=null.n", "t.pkr.hcl").rc == 0
    recorded_ahead(project.root, timedelta(minutes=30))
    result = cli("plan", "--json", "--max-age=20m", "-only=null.n", "t.pkr.hcl")
    (build,) = json.loads(result.out)["builds"]
    assert build["action"] == "up_to_date"
    assert datetime.fromisoformat(build["expires"]) <= datetime.now(UTC) + timedelta(minutes=20)
    recorded_ahead(project.root, timedelta(days=400))
    action, (reason,) = plan(cli, "-only=null.n")["null.n"]
    assert (action, reason[:24]) == ("build", "run 1 ends in the future")
    assert cli("build", "-only=null.n", "t.pkr.hcl").rc == 0
    assert plan(cli, "-only=null.n")["null.n"][0] == "up_to_date"


ONE_OF_FIVE = """
    source "null" "s1" { communicator = "none" }
    source "null" "s2" { communicator = "none" }
    source "null" "s3" { communicator = "none" }
    source "null" "s4" { communicator = "none" }
    source "null" "s5" { communicator = "none" }
    build {
      sources = ["null.s1", "null.s2", "null.s3", "null.s4", "null.s5"]
      provisioner "shell-local" {
        inline = [
          "echo $PACKER_BUILD_NAME >> log-of-builds",
          "sh -c \\"test $PACKER_BUILD_NAME != s3 -o $(date +%s%N) -gt $(cat limit)\\"",
        ]
      }
    }
"""


def fail_until(project: Project, when: int) -> None:
    """What decides is no input: a neighbour's outage, as it were."""
    project.write("limit", str(when))


def test_only_what_failed_is_built_again(cli: Cli, project: Project) -> None:
    project.write("packer-fork.toml", 'ignore = ["limit"]\n')
    project.write("t.pkr.hcl", ONE_OF_FIVE)
    fail_until(project, 1 << 62)
    assert cli("build", "t.pkr.hcl").rc == 1
    assert times_built(project) == 5
    fail_until(project, 0)
    again = cli("build", "t.pkr.hcl")
    assert again.rc == 0, again
    assert "1 to build, 4 up to date" in again.err
    assert "last run failed at provisioner 1 (shell-local)" in again.err
    assert times_built(project) == 6
    assert set(states.statuses(cli).values()) == {"complete"}
    assert sorted(states.state(cli)["last_run"]["up_to_date"]) == [
        f"null.s{n}" for n in (1, 2, 4, 5)
    ]


def test_retries_build_again_what_failed(cli: Cli, project: Project) -> None:
    project.write("packer-fork.toml", 'ignore = ["limit"]\nretry_pause = "0.1s"\n')
    project.write("t.pkr.hcl", ONE_OF_FIVE)
    fail_until(project, 1 << 62)
    running = cli.start("build", "--retries", "50", "t.pkr.hcl")
    eventually(lambda: "Attempt 1 of 50" in running.err())
    fail_until(project, 0)
    result = running.wait()
    assert result.rc == 0, result
    retries = result.err.count("to build again: null.s3")
    assert retries > 0
    assert times_built(project) == 5 + retries


FAST_FAILURE = """
    source "null" "bad" { communicator = "none" }
    source "null" "slow" { communicator = "none" }
    build {
      sources = ["null.bad"]
      provisioner "shell-local" {
        inline = ["while [ ! -e $PWD/begun ]; do sleep 0.1; done; exit 3"]
      }
    }
    build {
      sources = ["null.slow"]
      provisioner "shell-local" {
        inline = ["touch begun; while [ ! -e $PWD/go ]; do sleep 0.1; done"]
      }
    }
"""


@pytest.mark.parametrize("isolate", [[], ["--isolate"]], ids=["one", "isolated"])
def test_fail_fast_cancels_the_others(cli: Cli, project: Project, isolate: list[str]) -> None:
    project.write("t.pkr.hcl", FAST_FAILURE)
    result = cli("build", "--fail-fast", *isolate, "t.pkr.hcl")
    assert result.rc == 1, result
    assert "null.bad failed: other builds are cancelled" in result.err
    assert states.statuses(cli) == {"null.bad": "failed", "null.slow": "cancelled"}


FAILS_ONCE = """
    source "null" "bad" { communicator = "none" }
    source "null" "slow" { communicator = "none" }
    build {
      sources = ["null.bad"]
      provisioner "shell-local" { inline = ["test -e tried || { touch tried; exit 1; }"] }
    }
    build {
      sources = ["null.slow"]
      provisioner "shell-local" { inline = ["while [ ! -e $PWD/go ]; do sleep 0.02; done"] }
    }
"""


def test_fail_fast_waits_for_the_last_attempt(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", FAILS_ONCE)
    command = ("build", "--fail-fast", "--isolate", "--retries", "1", "t.pkr.hcl")
    running = cli.start(*command, env={"PACKER_FORK_RETRY_PAUSE": "0s"})
    eventually(lambda: "item 1-3 complete" in running.err())
    go_on(project.root)
    result = running.wait()
    assert result.rc == 0, result
    assert states.statuses(cli) == {"null.bad": "complete", "null.slow": "complete"}
    items = states.state(cli)["items"]
    assert {name: each["sources"] for name, each in items.items()} == {
        "1-1": ["null.bad"],
        "1-2": ["null.slow"],
        "1-3": ["null.bad"],
    }
    assert items["1-3"]["attempt"] == 2


ALL_ENDED = """
    source "null" "good" { communicator = "none" }
    source "null" "bad" { communicator = "none" }
    build { sources = ["null.good", "null.bad"] }
"""
FINISHED = """\
1795466854,,ui,say,Build 'null.good' finished after 1 second.
1795466854,,ui,error,Build 'null.bad' errored after 1 second: no
"""
LISTED = """\
1795466854,,ui,error,\\n==> Some builds didn't complete successfully and had errors:
1795466854,null.bad,error,no
1795466854,,ui,say,\\n==> Builds finished. The artifacts of successful builds are:
1795466854,null.good,artifact-count,1
1795466854,null.good,artifact,0,builder-id,fnoeding.null
1795466854,null.good,artifact,0,id,Null
1795466854,null.good,artifact,0,end
"""
SLOW_TO_LIST = """\
#!/bin/sh
[ "$1" = build ] || exec {packer} "$@"
trap 'touch cancelled; echo "1,,ui,error,Cancelling build after receiving terminated"' TERM
cat finished
while [ ! -e go ] && [ ! -e cancelled ]; do sleep 0.1; done
[ -e cancelled ] || cat listed
exit 1
"""
"""A Packer that takes its time between the last build's end and the list of artifacts."""


def test_fail_fast_keeps_what_has_finished(cli: Cli, project: Project, packer: Path) -> None:
    project.write("t.pkr.hcl", ALL_ENDED)
    project.write("finished", FINISHED)
    project.write("listed", LISTED)
    slow = project.write("slow-packer", SLOW_TO_LIST.format(packer=packer))
    slow.chmod(0o755)
    running = cli.start("build", "--fail-fast", "t.pkr.hcl", env={"PACKER_FORK_PACKER": str(slow)})
    eventually(lambda: "Build 'null.bad' errored" in running.out())
    eventually(lambda: states.statuses(cli).get("null.bad") == "failed")
    go_on(project.root)
    result = running.wait()
    assert result.rc == 1, result
    assert states.statuses(cli) == {"null.good": "complete", "null.bad": "failed"}
    assert not (project.root / "cancelled").exists()


def test_isolated_sources_survive_a_cancel_of_the_others(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", FAST_AND_GATED)
    running = begun(cli, project, "--isolate", "t.pkr.hcl")
    eventually(lambda: states.statuses(cli).get("file.fast") == "complete")
    running.signal(signal.SIGTERM)
    assert running.wait().rc == 143
    assert states.statuses(cli) == {"file.fast": "complete", "null.slow": "cancelled"}
    go_on(project.root)
    again = cli("build", "t.pkr.hcl")
    assert again.rc == 0
    assert "1 to build, 1 up to date" in again.err


def test_every_item_of_an_isolated_run_is_recovered(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", FAST_AND_GATED)
    running = begun(cli, project, "--isolate", "t.pkr.hcl")
    eventually(lambda: states.statuses(cli).get("file.fast") == "complete")
    running.signal(signal.SIGKILL)
    running.process.wait()
    go_on(project.root)
    eventually(lambda: states.status(cli) == "abandoned")
    assert cli("state", "recover", "t.pkr.hcl").rc == 0
    assert states.statuses(cli) == {"file.fast": "complete", "null.slow": "complete"}
    assert states.unfinished(cli) == []
    assert states.state(cli)["last_run"]["status"] == "complete"


def test_isolated_sources_run_one_after_the_other_if_told_so(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ONE_OF_FIVE)
    fail_until(project, 0)
    assert cli("build", "--isolate", "-parallel-builds=1", "t.pkr.hcl").rc == 0
    assert times_built(project) == 5
    document = states.state(cli)
    assert document["last_run"]["number"] == 1
    assert list(document["items"]) == [f"1-{number}" for number in range(1, 6)]
    assert cli("build", "t.pkr.hcl").rc == 0
    assert times_built(project) == 5


def test_names_that_look_like_globs_are_selected_exactly(cli: Cli, project: Project) -> None:
    """Each would select another one, too, if it was a pattern."""
    names = ["a*b", "axb", "with [brackets]", "with b", "q?", "qq", "back\\\\slash", "other"]
    builders = [{"type": "null", "communicator": "none", "name": each} for each in names]
    noted = [{"type": "shell-local", "inline": ["echo x >> log-of-builds"], "override": {}}]
    project.write("t.json", json.dumps({"builders": builders, "provisioners": noted}))
    for number, name in enumerate(names[::2], 1):
        assert cli("build", f"-only={name}", "t.json").rc == 0
        assert times_built(project) == number
    rest = cli("build", "t.json")
    assert rest.rc == 0, rest
    assert "4 to build, 4 up to date" in rest.err
    assert times_built(project) == 8


def test_a_comma_in_a_name_means_that_all_are_built(cli: Cli, project: Project) -> None:
    builders = [{"type": "null", "communicator": "none", "name": n} for n in ("a,b", "c")]
    project.write("t.json", json.dumps({"builders": builders}))
    assert cli("build", "-only=c", "t.json").rc == 0
    result = cli("build", "t.json")
    assert result.rc == 0
    assert "all are built: Packer cannot be told" in result.err


def test_what_cannot_be_known_is_built_and_its_neighbour_is_not(cli: Cli, project: Project) -> None:
    needs_built_in("qemu")
    project.write(
        "t.pkr.hcl",
        """
        source "qemu" "q" {
          iso_url      = "https://example.invalid/latest.iso"
          iso_checksum = "none"
          communicator = "none"
        }
        source "null" "n" { communicator = "none" }
        build { sources = ["null.n", "qemu.q"] }
        """,
    )
    assert cli("build", "-only=null.n", "t.pkr.hcl").rc == 0
    actions = plan(cli)
    assert actions["null.n"][0] == "up_to_date"
    reason = "cannot know iso_url https://example.invalid/latest.iso"
    assert actions["qemu.q"] == ("build", [reason])


SOURCES = """
    source "null" "a" { communicator = "none" }
    source "null" "b" { communicator = "none" }
    build {
      sources = ["null.a", "null.b"]
      provisioner "shell-local" {
        script = "scripts/a.sh"
        only   = ["null.a"]
      }
      provisioner "shell-local" {
        script = "scripts/b.sh"
        only   = ["null.b"]
      }
      provisioner "shell-local" { script = "scripts/both.sh" }
    }
"""


def test_an_edit_of_one_sources_script_rebuilds_that_source_alone(
    cli: Cli, project: Project
) -> None:
    for name in ("a", "b", "both"):
        project.write(f"scripts/{name}.sh", "#!/bin/sh\ntrue\n").chmod(0o755)
    project.write("t.pkr.hcl", SOURCES)
    assert cli("build", "t.pkr.hcl").rc == 0
    assert {action for action, _ in plan(cli).values()} == {"up_to_date"}
    project.write("scripts/a.sh", "#!/bin/sh\ntrue # again\n").chmod(0o755)
    first = plan(cli)
    assert first["null.a"] == ("build", ["scripts/a.sh changed"])
    assert first["null.b"][0] == "up_to_date"
    assert cli("build", "t.pkr.hcl").rc == 0
    project.write("scripts/both.sh", "#!/bin/sh\ntrue # again\n").chmod(0o755)
    assert plan(cli) == {
        name: ("build", ["scripts/both.sh changed"]) for name in ("null.a", "null.b")
    }


@pytest.mark.usefixtures("template")
def test_machine_readable_repeats_what_is_up_to_date(cli: Cli) -> None:
    first = cli("build", "-machine-readable", "-only=file.a", "t.pkr.hcl")
    again = cli("build", "-machine-readable", "-only=file.a", "t.pkr.hcl")

    def told(out: str) -> list[str]:
        return [line.partition(",")[2] for line in out.splitlines() if ",artifact" in line]

    assert [line.split(",")[:4] for line in told(again.out)] == [
        line.split(",")[:4] for line in told(first.out)
    ]


def test_the_manifest_can_be_written_from_the_state(cli: Cli, project: Project) -> None:
    project.write(
        "t.pkr.hcl",
        """
        source "file" "a" {
          content = "x"
          target  = "a.txt"
        }
        build {
          sources = ["file.a"]
          post-processor "manifest" {}
        }
        """,
    )
    assert cli("build", "t.pkr.hcl").rc == 0
    theirs = json.loads((project.root / "packer-manifest.json").read_text())
    assert cli("artifacts", "--manifest", "ours.json").rc == 0
    ours = json.loads((project.root / "ours.json").read_text())
    for document in (theirs, ours):
        for build in document["builds"]:
            build["packer_run_uuid"] = build["build_time"] = None
    assert ours["builds"] == theirs["builds"]
    listed = json.loads(cli("artifacts", "--json").out)
    assert listed[0]["artifacts"][0]["builder_id"] == "packer.file"


def test_artifacts_are_checked_by_the_users_command(cli: Cli, project: Project) -> None:
    check = project.write("check", '#!/bin/sh\ntest ! -e gone && echo "$1" >> asked\n')
    check.chmod(0o755)
    project.write("packer-fork.toml", '[artifact_check]\n"fnoeding.null" = ["./check"]\n')
    project.write(
        "t.pkr.hcl",
        'source "null" "n" { communicator = "none" }\nbuild { sources = ["null.n"] }\n',
    )
    assert cli("build", "t.pkr.hcl").rc == 0
    assert plan(cli)["null.n"] == ("up_to_date", ["run 1"])
    assert (project.root / "asked").read_text() == "Null\n"
    (project.root / "gone").touch()
    assert plan(cli)["null.n"] == ("build", ["artifact Null is not confirmed by ./check"])


def test_instances_that_may_be_left_stay_on_record_until_struck(cli: Cli, project: Project) -> None:
    """No builder of Debian's Packer makes instances here: the state says that one did."""
    source = 'source "null" "n" { communicator = "none" }\nbuild { sources = ["null.n"] }\n'
    project.write("t.pkr.hcl", source)
    failed = {
        "name": "null.n",
        "type": "null",
        "status": "failed",
        "run": 3,
        "instance": {"id": "i-0123", "provider": "amazon", "region": "eu-west-1"},
    }
    document = {
        "version": 1,
        "serial": 9,
        "lineage": "by-hand",
        "template": {"path": "t.pkr.hcl"},
        "builds": {"null.n": failed},
    }
    folder = states.folder(project.root)
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps(document))
    for _ in range(2):
        warned = cli("build", "t.pkr.hcl")
        assert warned.rc == 0, warned
        assert "may have left amazon eu-west-1 i-0123 behind" in warned.err
    assert "i-0123" in cli("state", "show", "t.pkr.hcl", "--build", "null.n").out
    assert cli("state", "rm", "--instance", "i-0123").rc == 0
    assert "may have left" not in cli("build", "t.pkr.hcl").err
    assert cli("state", "rm", "--instance", "i-0123").rc == 2


@pytest.mark.usefixtures("template")
def test_from_python(cli: Cli, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    for name in ("HOME", "TMPDIR", "PACKER_CACHE_DIR"):
        monkeypatch.setenv(name, cli.environment[name])
    events: list[object] = []
    assert packer_fork.plan("t.pkr.hcl").builds[0].action == "build"
    code = packer_fork.build("t.pkr.hcl", "-var", "region=us", notify=events.append)
    assert code == 0
    assert events
    assert {build.status for build in packer_fork.builds("t.pkr.hcl")} == {"complete"}
    assert packer_fork.artifacts("t.pkr.hcl")[0].artifacts
    assert packer_fork.lock_status("t.pkr.hcl").status == "free"
    assert packer_fork.plan("t.pkr.hcl", "-var", "region=us").builds[0].action == "up_to_date"


def test_plan_reports_hashing_and_leaves_its_digests_to_the_next(
    cli: Cli, project: Project, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.cached("build", "t.pkr.hcl").rc == 0
    data = project.root / "data.txt"
    data.write_bytes(bytes(3 << 20))
    os.utime(data, (1, 1))
    monkeypatch.setattr("packer_fork.inputs.cache._EVERY", 0.0)
    monkeypatch.setattr("packer_fork.inputs.cache._SETTLED_NS", 0)
    monkeypatch.chdir(project.root)

    def show() -> list[events.Hashing]:
        told: list[events.Event] = []
        environ = {**os.environ, "HOME": str(project.root)}
        request = BuildRequest(
            template=template.name, flags=PackerFlags(), settings={}, environ=environ
        )
        planning.show(request, told.append)
        return [event for event in told if isinstance(event, events.Hashing)]

    assert show()[-1].total >= 3 << 20
    assert show() == []
