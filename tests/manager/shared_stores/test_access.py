"""Servers that want to know who asks: let in with the right settings, else told why not."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from packer_fork.stores.access import Access, parse_address
from packer_fork.stores.consul import ConsulKeys
from packer_fork.stores.etcd import EtcdKeys
from packer_fork.stores.shared.keys import Keys
from tests.conftest import Cli, descendants
from tests.support import states
from tests.support.queries import refused
from tests.support.servers import (
    ROOT,
    Certificates,
    Cluster,
    User,
    certificates,
    consul_cluster,
    etcd_cluster,
    token_for,
)
from tests.support.team import Machine, Team

pytestmark = pytest.mark.usefixtures("packer")

WORD = "pass-word-of-ci"
TELLS_ALL = """
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "shell-local" {
        inline = ["env; echo begun; touch begun; while [ ! -e $PWD/go ]; do sleep 0.1; done"]
      }
    }
"""
"""It prints its environment, then waits for its gate."""


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"), name="ci")


def tls(certified: Certificates) -> dict[str, str]:
    """Settings of who has a certificate, which names nobody."""
    return {
        "store_ca": str(certified.ca),
        "store_certificate": str(certified.client.certificate),
        "store_key": str(certified.client.key),
    }


def variables(**settings: str) -> dict[str, str]:
    return {f"PACKER_FORK_{name.upper()}": value for name, value in settings.items()}


def has_no_certificate_that_is_trusted(machine: Machine, certified: Certificates) -> None:
    command = ("build", "t.pkr.hcl")
    machine.set({**tls(certified), "store_ca": str(certified.client.certificate)})
    refused(machine.cli, *command, rc=15, text="has a certificate that is not trusted")
    machine.set({**tls(certified), "store_certificate": "", "store_key": ""})
    refused(machine.cli, *command, rc=15, text="does not accept our certificate, or wants one")
    machine.set({**tls(certified), "store_key": "missing.key"})
    refused(machine.cli, *command, rc=2, text="cannot be used as a client certificate")
    machine.set(tls(certified))


def keeps_to_itself(machine: Machine, secret: str, keys: Keys) -> None:
    """What opens the store is in the environment of packer-fork, and nowhere else."""
    build = machine.begun()
    below = descendants(build.pid)
    assert "packer build" in {process.command for process in below}
    for process in below:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended by now
            assert secret.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes()
    asked = [machine.cli("lock", "status", "t.pkr.hcl", "--json")]
    machine.go_on()
    asked.append(build.wait())
    assert asked[1].rc == 0, asked
    assert "PACKER_FORK_STATE" in asked[1].out, "all else is handed on"
    assert states.statuses(machine.cli) == {"null.n": "complete"}
    for command in (("config", "show"), ("config", "show", "--json"), ("logs",), ("state", "pull")):
        asked.append(machine.cli(*command))
        assert asked[-1].rc == 0, asked[-1]
    for result in asked:
        assert secret not in result.out
        assert secret not in result.err
    files = [path for path in machine.cli.files.rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    values = [item.value for item in keys.items("")]
    assert values
    assert not [value for value in values if secret.encode() in value]


@pytest.fixture
def etcd(tmp_path: Path, certified: Certificates, prefix: str) -> Iterator[Cluster]:
    users = (User("ci", WORD, f"{prefix}/web/"), User("stranger", WORD, "elsewhere/"))
    servers = tmp_path.parent / f"{tmp_path.name}-servers"
    with etcd_cluster(servers, tls=certified, auth=users) as cluster:
        yield cluster


def test_etcd(cli: Cli, etcd: Cluster, certified: Certificates, prefix: str) -> None:
    team = Team(cli, "etcds", prefix, tuple(etcd.endpoints))
    given = variables(store_password=WORD, state=team.url())
    here = team.machine("here", TELLS_ALL, env=given, settings={"store_username": "ci"})
    has_no_certificate_that_is_trusted(here, certified)
    is_refused(here, text="does not let user 'stranger' read", store_username="stranger")
    is_refused(here, text="does not let anybody without a user read", store_username="")
    wrong = here._replace(cli=with_env(here.cli, variables(store_password=f"not-{WORD}")))
    is_refused(wrong, text="does not let user 'ci' in", store_username="ci")
    named = certified.named
    files = {"store_certificate": str(named.certificate), "store_key": str(named.key)}
    is_refused(here, text="no client certificate with a common name (CN)", **files)
    here.set(tls(certified))
    root = access(certified, ROOT.name, ROOT.password)
    with contextlib.closing(EtcdKeys(parse_address(team.url()), root)) as keys:
        keeps_to_itself(here, WORD, keys)


@pytest.fixture
def consul(tmp_path: Path, certified: Certificates) -> Iterator[Cluster]:
    servers = tmp_path.parent / f"{tmp_path.name}-servers"
    with consul_cluster(servers, tls=certified, token=str(uuid4())) as cluster:
        yield cluster


def test_consul(cli: Cli, consul: Cluster, certified: Certificates, prefix: str) -> None:
    team = Team(cli, "consuls", prefix, tuple(consul.endpoints))
    token, strange = token_for(consul, f"{prefix}/"), token_for(consul, "elsewhere/")
    here = team.machine("here", TELLS_ALL, env=variables(store_token=token, state=team.url()))
    has_no_certificate_that_is_trusted(here, certified)
    for wrong, text in ((str(uuid4()), "token"), ("", "token"), (strange, "token")):
        other = here._replace(cli=with_env(here.cli, variables(store_token=wrong)))
        told = refused(other.cli, "build", "t.pkr.hcl", rc=15, text=text)
        assert not wrong or wrong not in told
    ours = access(certified, token=token)
    with contextlib.closing(ConsulKeys(parse_address(team.url()), ours)) as keys:
        keeps_to_itself(here, token, keys)


def access(
    certified: Certificates, username: str = "", password: str = "", token: str = ""
) -> Access:
    return Access(
        username=username,
        password=password,
        token=token,
        ca=str(certified.ca),
        certificate=str(certified.client.certificate),
        key=str(certified.client.key),
    )


def with_env(cli: Cli, env: Mapping[str, str]) -> Cli:
    return cli._replace(environment={**cli.environment, **env})


def is_refused(machine: Machine, *, text: str, **settings: str) -> None:
    machine.set(settings)
    told = refused(machine.cli, "build", "t.pkr.hcl", rc=15, text=text)
    assert WORD not in told
