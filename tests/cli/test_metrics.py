"""What `packer-fork metrics` tells of what real builds did, and where it is written."""

import json
import os
import signal
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.queries import ONE, answers, built, done, flip, refused
from tests.support.templates import GATED, begun, go_on

pytestmark = pytest.mark.usefixtures("packer")

SLEPT = 0.9
"""Seconds that each build takes at least: times are as fine as packer-fork reads output."""

TWO = """
    variable "bad" { default = "none" }
    source "null" "a" { communicator = "none" }
    source "null" "b" { communicator = "none" }
    build {
      sources = ["null.a", "null.b"]
      provisioner "shell-local" {
        inline = ["test $PACKER_BUILD_NAME != ${var.bad}", "sleep 1"]
      }
    }
"""
"""Of two sources one fails, if so told; the other takes a second at least."""

PLACE = ("template", "workspace", "location")


class Found(NamedTuple):
    """Samples by name and labels, those of the place left out; so it is for one place at a time."""

    samples: dict[tuple[str, frozenset[str]], float]
    places: set[tuple[str, ...]]

    def __call__(self, name: str, *labels: str) -> float:
        return self.samples[f"packer_fork_{name}", frozenset(labels)]

    def which(self, name: str) -> list[str]:
        """The labels of those that are 1."""
        found = [(labels, n) for (each, labels), n in self.samples.items() if each.endswith(name)]
        assert len(found) > 1
        return ["".join(labels) for labels, value in found if value == 1]


def parsed(text: str) -> Found:
    found, seen = Found({}, set()), set()
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            whole = sample.name, frozenset(labels.items())
            assert whole not in seen, "Prometheus refuses that"
            seen.add(whole)
            found.places.add(tuple(labels.pop(name) for name in PLACE))
            found.samples[sample.name, frozenset(labels.values())] = sample.value
    return found


def metrics(cli: Cli, *args: str | Path, rc: int = 0) -> Found:
    result = cli("metrics", *args)
    assert result.rc == rc, result
    return parsed(result.out)


def seconds(build: dict[str, str]) -> float:
    started, ended = (datetime.fromisoformat(build[name]) for name in ("started", "ended"))
    return (ended - started).total_seconds()


def test_builds_that_end_well_fail_and_are_skipped(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", TWO)
    for bad, rc in (("b", 1), ("b", 1), ("none", 0)):
        assert cli.cached("build", "-var", f"bad={bad}", "t.pkr.hcl").rc == rc
    nothing = cli("build", "t.pkr.hcl")
    assert "nothing to build" in nothing.err, "and so no run, but two skips"
    found = metrics(cli, "t.pkr.hcl")
    assert found.places == {("t.pkr.hcl", "default", str(states.folder(project.root)))}
    ends = {
        (source, status): found("builds_total", source, status)
        for source in ("null.a", "null.b")
        for status in ("complete", "failed", "cancelled")
    }
    assert [n for n in ends.values() if n] == [2, 1, 2]
    assert ends["null.a", "complete"] == ends["null.b", "failed"] == 2
    assert [found("runs_total", each) for each in ("complete", "failed")] == [1, 2]
    assert found("run_duration_seconds_count") == 3
    last, _, first = answers(cli, "runs")
    saved, again, b = map(seconds, (first["builds"][0], *last["builds"]))
    assert min(saved, again, b) >= SLEPT
    assert [found("skips_total", each) for each in ("null.a", "null.b")] == [2, 1]
    assert found("skips_saved_seconds_total", "null.a") == pytest.approx(saved + again)
    assert found("skips_saved_seconds_total", "null.b") == pytest.approx(b)
    assert found("build_duration_seconds_count", "null.a", "complete") == 2
    assert found("build_duration_seconds_sum", "null.a", "complete") >= saved + SLEPT
    assert found("build_duration_seconds_count", "null.b", "failed") == 2
    the_lock_was_free(cli, found)
    the_state_is_measured(cli, project, found)


def the_lock_was_free(cli: Cli, found: Found) -> None:
    taken = [found("lock_acquisitions_total", e) for e in ("at_once", "waited", "taken_over")]
    assert taken == [4, 0, 0]
    assert (found("lock_wait_seconds_count"), found("lock_wait_seconds_sum")) == (4, 0)
    held = [each["run"]["held"] for each in answers(cli, "runs")]
    assert found("lock_hold_seconds_count") == 4
    assert found("lock_hold_seconds_sum") > sum(held)
    assert found.which("lock_status") == ["free"]
    assert found("lock_queue_length") == 0
    for name in ("lock_abandoned_total", "lock_force_unlocks_total", "commits_refused_total"):
        assert found(name) == 0


def the_state_is_measured(cli: Cli, project: Project, found: Found) -> None:
    state = states.state(cli)
    assert found("state_readable") == 1
    assert found("state_changes_total") == state["serial"]
    assert found("state_builds", "complete") == 2
    assert found("state_size_bytes") > len(json.dumps(state["builds"], separators=(",", ":")))
    folder = states.folder(project.root)
    logs = sum(path.stat().st_size for path in (folder / "logs").iterdir())
    assert found("files_size_bytes", "logs") == logs
    assert found("files_size_bytes", "state") > (folder / "state.json").stat().st_size
    assert found("history_segments") == state["sealed"]["segments"]
    assert found("state_load_seconds") > 0
    assert found("history_read_seconds") > 0
    assert found.which("breaker_phase") == ["closed"]
    assert found("breaker_failures") == found("outbox_length") == 0


FINISH = {"PACKER_FORK_ON_WRAPPER_DEATH": "finish"}


def test_a_killed_build_a_waiting_one_and_one_that_is_unlocked(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    killed = begun(cli, project, "t.pkr.hcl", env=FINISH)
    killed.signal(signal.SIGKILL)
    killed.wait()
    assert metrics(cli).which("lock_status") == ["orphaned"]
    go_on(project.root)
    eventually(lambda: states.status(cli) == "abandoned")
    before = metrics(cli)
    assert before.which("lock_status") == ["abandoned"]
    assert before("runs_total", "complete") == before("lock_abandoned_total") == 0
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    one_waits(cli, project)
    after = metrics(cli)
    taken = [after("lock_acquisitions_total", e) for e in ("at_once", "waited", "taken_over")]
    assert taken == [2, 1, 1]
    assert (after("lock_abandoned_total"), after("lock_force_unlocks_total")) == (1, 0)
    assert after("builds_total", "null.n", "complete") == 4, "the killed one was recovered"
    assert (after("lock_wait_seconds_count"), after("lock_hold_seconds_count")) == (4, 3)
    assert after("lock_wait_seconds_sum") > 0
    unlocked_while_it_lives(cli, project)


def one_waits(cli: Cli, project: Project) -> None:
    for gate in ("go", "begun"):
        (project.root / gate).unlink()
    running = begun(cli, project, "--rebuild", "t.pkr.hcl")
    waiting = cli.start("build", "--rebuild", "--lock-timeout", "1m", "t.pkr.hcl")
    eventually(lambda: metrics(cli)("lock_queue_length") == 1)
    during = metrics(cli)
    assert during.which("lock_status") == ["held"]
    assert during("state_builds", "provisioning") == 1
    assert during("lock_acquisitions_total", "at_once") == 2
    go_on(project.root)
    assert (running.wait().rc, waiting.wait().rc) == (0, 0)


def unlocked_while_it_lives(cli: Cli, project: Project) -> None:
    for gate in ("go", "begun"):
        (project.root / gate).unlink()
    running = begun(cli, project, "--rebuild", "t.pkr.hcl")
    done(cli, "force-unlock", states.lock(cli)["id"], "--allow-live", "--yes")
    go_on(project.root)
    assert running.wait().rc == 13
    found = metrics(cli)
    assert found("lock_force_unlocks_total") == found("commits_refused_total") == 1
    assert found("outbox_length") == 1
    assert found("builds_total", "null.n", "interrupted") == 1
    (late,) = (states.folder(project.root) / "logs").glob("*.late.json")
    done(cli, "state", "recover", late)
    found = metrics(cli)
    assert found("outbox_length") == 0
    assert found("builds_total", "null.n", "complete") == 5
    assert found("builds_total", "null.n", "interrupted") == 0


def test_retries_and_isolated_sources_are_one_run(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", TWO)
    assert cli.cached("build", "-var", "bad=b", "t.pkr.hcl").rc == 1
    args = ("--rebuild", "--isolate", "--retries", "1", "-var", "bad=b", "t.pkr.hcl")
    assert cli("build", *args, env={"PACKER_FORK_RETRY_PAUSE": "0s"}).rc == 1
    found = metrics(cli)
    assert [found("runs_total", each) for each in ("complete", "failed")] == [0, 2]
    assert found("lock_acquisitions_total", "at_once") == 2
    assert found("lock_wait_seconds_count") == found("lock_hold_seconds_count") == 2
    held = [each["run"]["held"] for each in answers(cli, "runs")]
    assert found("lock_hold_seconds_sum") == pytest.approx(sum(held))
    assert [found("skips_total", each) for each in ("null.a", "null.b")] == [0, 0]


def test_what_was_pruned_is_not_counted_but_what_it_saves_is(cli: Cli, project: Project) -> None:
    """The results that skips rest on outlive their runs."""
    project.write("packer-fork.toml", "backup_every = 1\nkeep_backups = 1\n")
    project.write("t.pkr.hcl", TWO)
    for _ in range(2):
        assert cli.cached("build", "-var", "bad=b", "t.pkr.hcl").rc == 1
    before = metrics(cli)
    done(cli, "state", "prune", "--keep-runs", "1")
    after = metrics(cli)
    assert (before("runs_total", "failed"), after("runs_total", "failed")) == (2, 1)
    saved = before("skips_saved_seconds_total", "null.a")
    assert after("skips_saved_seconds_total", "null.a") == saved >= SLEPT
    assert after("state_changes_total") == before("state_changes_total") + 1


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_textfile_is_replaced_and_all_may_read_it(cli: Cli, project: Project) -> None:
    built(cli, project, "1")
    file = project.root / "m.prom"
    file.write_text("old", encoding="utf-8")
    with file.open(encoding="utf-8") as reading:
        result = cli("metrics", "--textfile", file)
        assert reading.read() == "old", "whoever reads goes on reading what was"
    assert result == (0, "", "")
    assert mode(file) == 0o644
    assert parsed(file.read_text())("runs_total", "complete") == 1
    assert [path.name for path in project.root.glob(".*")] == [".packer-fork"]
    missing = project.root / "missing" / "m.prom"
    refused(cli, "metrics", "--textfile", missing, rc=15, text=f"cannot be written to {missing}")


def test_a_folder_gets_a_file_for_each_state(cli: Cli, project: Project) -> None:
    for template in ("a.pkr.hcl", "b/a.pkr.hcl"):
        project.write(template, ONE)
        done(cli, "build", template)
    done(cli, "build", "--workspace", "other", "a.pkr.hcl")
    (project.root / "out").mkdir()
    done(cli, "metrics", "--textfile", "out")
    done(cli, "metrics", "--textfile", "out", "a.pkr.hcl")
    files = list((project.root / "out").iterdir())
    assert {path.suffix for path in files} == {".prom"}
    one_each = [parsed(path.read_text()).places for path in files]
    assert [len(places) for places in one_each] == [1, 1, 1]
    together = metrics(cli).places
    assert set.union(*one_each) == together
    assert len(together) == 3
    twice = metrics(cli, "--state", ".packer-fork").places
    assert twice == together, "where each is found in two ways"


def test_a_textfile_is_written_after_each_run(cli: Cli, project: Project) -> None:
    project.write("packer-fork.toml", 'metrics_textfile = "m.prom"')
    built(cli, project, "1")
    found = parsed((project.root / "m.prom").read_text())
    assert found("runs_total", "complete") == 1
    assert found("builds_total", "null.n", "complete") == 1
    momentary = {"lock_status", "lock_queue_length", "breaker_phase", "state_load_seconds"}
    assert not momentary & {name.removeprefix("packer_fork_") for name, _ in found.samples}
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    assert parsed((project.root / "m.prom").read_text())("runs_total", "complete") == 2
    wrong = {"PACKER_FORK_METRICS_TEXTFILE": "missing/m.prom"}
    result = cli("build", "--rebuild", "t.pkr.hcl", env=wrong)
    assert result.rc == 0, result
    assert "warning: The metrics cannot be written to missing/m.prom" in result.err


def test_a_damaged_state_is_told_and_the_others_are_measured(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    project.write("b.pkr.hcl", ONE)
    done(cli, "build", "b.pkr.hcl")
    flip(folder / "state.json", 100)
    result = cli("metrics")
    assert result.rc == 10
    assert "The state is damaged" in result.err
    readable = {
        sample.labels["template"]: sample.value
        for family in text_string_to_metric_families(result.out)
        for sample in family.samples
        if sample.name == "packer_fork_state_readable"
    }
    assert readable == {"t.pkr.hcl": 0, "b.pkr.hcl": 1}
    damaged = metrics(cli, "t.pkr.hcl", rc=10)
    assert damaged.which("lock_status") == ["free"]
    assert not any(name == "packer_fork_runs_total" for name, _ in damaged.samples)


def test_a_state_that_may_not_be_read_is_not_taken_for_an_empty_one(
    cli: Cli, project: Project
) -> None:
    folder = built(cli, project, "1")
    folder.chmod(0)
    no_power = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    result = cli("metrics", "t.pkr.hcl", under=() if os.geteuid() else no_power)
    folder.chmod(0o700)
    assert result.rc == 15, result
    assert "ask its owner to set shared_with_group" in result.err
    told = {name.removeprefix("packer_fork_") for name, _ in parsed(result.out).samples}
    assert told == {"state_readable", "breaker_phase", "breaker_failures"}


def test_servers_that_are_away_are_told_by_the_breaker(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ONE)
    env = {"PACKER_FORK_PROJECT": "p", "PACKER_FORK_STORE_PATIENCE": "0s"}
    args = ("metrics", "--state", "etcd://127.0.0.1:1/x", "t.pkr.hcl")
    found = parsed(cli(*args, env=env).out)
    assert found("state_readable") == found("outbox_length") == 0
    assert found("breaker_failures") >= 1
    assert not any(name.startswith("packer_fork_lock") for name, _ in found.samples)
    eventually(lambda: parsed(cli(*args, env=env).out).which("breaker_phase") != ["closed"])


def test_where_there_is_no_state(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ONE)
    nothing = cli("metrics")
    assert nothing.rc == 0
    assert parsed(nothing.out) == ({}, set())
    assert "there is no state below this directory" in nothing.err
    found = metrics(cli, "t.pkr.hcl")
    assert found("state_readable") == 1
    assert found("runs_total", "complete") == found("lock_wait_seconds_count") == 0
    refused(cli, "metrics", "missing.pkr.hcl", rc=14, text="there is no template")
