"""Buckets that cannot be used: refused in one sentence, before Packer starts."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from packer_fork.config import Settings
from packer_fork.manager import shared_store
from tests.conftest import Cli, eventually
from tests.support.queries import ONE, answer, done, is_up_to_date, refused
from tests.support.servers import CREDENTIALS, Cluster, Proxy
from tests.support.servers.places import LOOPBACK, free_ports
from tests.support.team import Machine, Team, bucket_team, on
from tests.support.templates import GATED

pytestmark = pytest.mark.usefixtures("packer")

BUILD = ("build", "t.pkr.hcl")


def with_env(machine: Machine, environ: Mapping[str, str]) -> Machine:
    """An empty variable counts as none."""
    environment = {**machine.cli.environment, **environ}
    return machine._replace(cli=machine.cli._replace(environment=environment))


def is_refused(machine: Machine, rc: int, text: str) -> None:
    for command in (BUILD, ("state", "show"), ("lock", "status", "t.pkr.hcl")):
        told = refused(machine.cli, *command, rc=rc, text=text)
        assert "  hint: " in told
    assert not machine.outbox()


def test_a_bucket_that_does_not_exist(cli: Cli, s3_server: Cluster, prefix: str) -> None:
    team = bucket_team(cli, prefix, s3_server.endpoints[0], bucket="nowhere")
    is_refused(team.machine("here", ONE), 15, "there is no bucket 'nowhere'")


def test_an_endpoint_that_cannot_be_reached(cli: Cli, prefix: str) -> None:
    with free_ports(1) as (port,):
        team = bucket_team(cli, prefix, f"{LOOPBACK}:{port}")
        here = team.machine("here", ONE, settings={"store_patience": "0s"})
        refused(here.cli, *BUILD, rc=15, text=f"at http://{LOOPBACK}:{port} cannot be reached")


def test_each_server_has_a_local_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers may have a bucket of the same name."""
    settings = Settings(state="s3://images/a", project="web")
    names = set()
    for endpoint in ("", "http://one:9000", "http://another:9000", "http://another:9000/"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        names.add(shared_store.local_name(settings))
    assert len(names) == 3


@on("s3")
def test_without_the_library_the_extra_is_named(team: Team, tmp_path: Path) -> None:
    here = team.machine("here", ONE)
    (tmp_path / "obstore.py").write_text("raise ModuleNotFoundError(name='obstore')\n")
    without = with_env(here, {"PYTHONPATH": str(tmp_path)})
    is_refused(without, 2, "needs the library obstore, which is not installed")
    assert "packer-fork[objects]" in without.cli(*BUILD).err


@on("s3")
def test_a_profile_has_the_credentials(team: Team, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        f"[ci]\naws_access_key_id = {CREDENTIALS['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {CREDENTIALS['AWS_SECRET_ACCESS_KEY']}\n"
    )
    without_keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    named = {**without_keys, "AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "ci"}
    here = with_env(team.machine("here", ONE), named)
    done(here.cli, *BUILD)
    assert is_up_to_date(here.cli)
    is_refused(with_env(here, {"AWS_PROFILE": "other"}), 2, "AWS_PROFILE=other gives no credential")


@on("s3")
def test_a_template_in_a_folder_with_a_strange_name(team: Team) -> None:
    """Names become parts of objects' names, and come back as they were."""
    name = "a b%2F+é/t.pkr.hcl"
    for machine in (team.machine(each, ONE) for each in ("here", "there")):
        machine.project.write(name, ONE)
        told = done(machine.cli, "build", name)
        (found,) = answer(machine.cli, "show")["states"]
        assert found["template"] == name
    assert "everything is up to date" in told


@pytest.mark.timeout(240)
def test_results_are_kept_while_the_bucket_is_away(
    cli: Cli, s3_server: Cluster, prefix: str
) -> None:
    with Proxy(s3_server.endpoints[0]) as proxy:
        team = bucket_team(cli, prefix, proxy.endpoint)
        settings = {"lock_ttl": "2s", "store_patience": "1s", "lock_timeout": "1m"}
        here = team.machine("here", GATED, settings=settings)
        running = here.begun()
        proxy.refuse()
        here.go_on()
        ended = running.wait()
        assert ended.rc == 13, ended
        assert "cannot be reached" in ended.err
        assert len(here.outbox()) == 1
        proxy.let_pass()
        patient = with_env(here, {"PACKER_FORK_STORE_PATIENCE": "30s"})
        told = done(patient.cli, *BUILD)
    assert "builds that it now stands for: null.n" in told
    assert "everything is up to date" in told
    assert not here.outbox()


def test_a_machine_that_waits_sends_few_requests(cli: Cli, s3_server: Cluster, prefix: str) -> None:
    here = bucket_team(cli, prefix, s3_server.endpoints[0]).machine("here", GATED)
    running = here.begun()
    with Proxy(s3_server.endpoints[0]) as proxy:
        there = bucket_team(cli, prefix, proxy.endpoint).machine("there", GATED)
        waiting = there.cli.start("build", "--lock-timeout", "1m", "t.pkr.hcl")
        eventually(lambda: "waiting up to" in waiting.err())
        since, sent = time.monotonic(), len(proxy.requests)
        eventually(lambda: len(proxy.requests) >= sent + 25)
        assert time.monotonic() - since > 4, "it looks at the whole lock each second"
        here.go_on()
        assert running.wait().rc == 0
        ended = waiting.wait()
    assert "everything is up to date" in ended.err
