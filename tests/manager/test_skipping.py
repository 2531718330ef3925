"""A build that finds nothing to do: on record as a skip, in a run's place, and never in its way."""

from __future__ import annotations

import os

import pytest

from packer_fork.manager.state import history
from packer_fork.model import Skip
from packer_fork.stores.local.store import LocalStore
from tests.conftest import Cli, Project
from tests.support import states
from tests.support.local_states import open_store
from tests.support.queries import answers, done, done_cached
from tests.support.templates import TWO

pytestmark = pytest.mark.usefixtures("packer")

JOB = {"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_JOB": "images"}


@pytest.fixture
def store(cli: Cli, project: Project) -> LocalStore:
    project.write("t.pkr.hcl", TWO)
    done_cached(cli, "build", "t.pkr.hcl")
    return open_store(states.folder(project.root))


def last_skip(store: LocalStore) -> Skip:
    change = next(history.changes(store))
    assert (change.operation, change.run, change.builds) == ("skip", None, {})
    assert change.skip is not None
    return change.skip


@pytest.mark.parametrize("shared", [(), ("--share",)])
def test_it_is_on_record_and_no_run(cli: Cli, store: LocalStore, shared: tuple[str, ...]) -> None:
    before = store.read()
    assert "everything is up to date" in done(cli, "build", *shared, "t.pkr.hcl")
    after, skip = store.read(), last_skip(store)
    assert before is not None
    assert before.last_run is not None
    assert after is not None
    assert (after.serial, after.builds) == (before.serial + 1, before.builds)
    assert (after.last_run, after.items) == (before.last_run, before.items)
    assert (skip.after, skip.inputs, skip.builds) == (
        *(before.last_run.number, before.last_run.inputs),
        ("null.a", "null.b"),
    )
    assert skip.waited == 0
    assert 0 < skip.held < 60
    assert len(answers(cli, "runs")) == 1
    newest = answers(cli, "history")[0]
    assert (newest["operation"], newest["builds"]) == ("skip", ["null.a", "null.b"])
    assert states.status(cli) == "free"


def test_it_tells_its_job(cli: Cli, store: LocalStore) -> None:
    assert cli("build", "t.pkr.hcl", env=JOB).rc == 0
    job = last_skip(store).ci
    assert job is not None
    assert (job.service, job.job) == ("GitHub Actions", "images")


@pytest.mark.usefixtures("strace")
def test_all_is_up_to_date_also_where_that_cannot_be_put_on_record(
    cli: Cli, store: LocalStore
) -> None:
    """The lock is had by two syncs; no other one succeeds."""
    before = store.read()
    faults = ("inject=fdatasync:error=EIO", "inject=fsync:error=EIO:when=3+")
    trace = ("strace", "-qq", "-o", os.devnull, "-e", "trace=fsync,fdatasync")
    result = cli("build", "t.pkr.hcl", under=(*trace, "-e", faults[0], "-e", faults[1]))
    assert result.rc == 0, result
    assert "everything is up to date" in result.err
    assert "What was skipped could not be put on record: " in result.err
    after = store.read()
    assert before is not None
    assert after is not None
    assert after.builds == before.builds
    assert "on record" not in done(cli, "build", "t.pkr.hcl")
    assert last_skip(store).builds


def test_metrics_are_written_after_it(cli: Cli, store: LocalStore) -> None:
    file = store.logs.parent / "metrics.prom"
    assert cli("build", "t.pkr.hcl", env={"PACKER_FORK_METRICS_TEXTFILE": str(file)}).rc == 0
    (line,) = (
        line
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("packer_fork_skips_total{") and "null.b" in line
    )
    assert line.endswith(" 1.0")
