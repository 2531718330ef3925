"""What is said when Consul cannot be used, each cause by a Consul that has it."""

import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from packer_fork.errors import EXIT_STORE, StoreError
from packer_fork.stores.access import Access, Endpoint, parse_address
from packer_fork.stores.consul import ConsulKeys
from packer_fork.stores.consul_errors import judge, refusal
from packer_fork.stores.http_client import Response
from packer_fork.stores.retry import UnavailableError
from packer_fork.stores.shared.keys import Put, Unchanged
from tests.conftest import eventually
from tests.support.servers import Certificates, Cluster, certificates, consul_cluster, token_for
from tests.support.servers.process import ask

MASTER = "a7d5f6e0-5c1e-4e0e-9b0f-4a3c1f0e9d11"


def connect(
    endpoints: Sequence[str], prefix: str, *, scheme: str = "consul", access: Access | None = None
) -> ConsulKeys:
    address = parse_address(f"{scheme}://{','.join(endpoints)}/{prefix}")
    return ConsulKeys(address, access or Access(retry_timeout=0))


def refused(keys: ConsulKeys, asking: Callable[[ConsulKeys], object] | None = None) -> StoreError:
    """What is said when one asks, by default for a key."""
    with contextlib.closing(keys), pytest.raises(StoreError) as refusal:
        (asking or (lambda keys: keys.get("a")))(keys)
    error = refusal.value
    assert error.exit_code == EXIT_STORE
    assert error.message.startswith(f"Consul at {keys.location} ")
    assert error.message.endswith(".")
    assert "\n" not in error.message
    assert error.hint
    return error


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One that wants tokens."""
    with consul_cluster(tmp_path_factory.mktemp("controlled"), token=MASTER) as cluster:
        yield cluster


ASKING: list[Callable[[ConsulKeys], object]] = [
    lambda keys: keys.get("a"),
    lambda keys: keys.names(""),
    lambda keys: list(keys.items("")),
    lambda keys: keys.put("a", b""),
    lambda keys: keys.remove(["a"]),
    lambda keys: keys.transact([], [Put("a", b"")]),
    lambda keys: keys.transact([Unchanged("a", 1)], []),
    lambda keys: keys.wait("a", 1, 1),
]


@pytest.mark.parametrize("asking", [*ASKING, lambda keys: keys.grant(60)])
def test_without_a_token(
    controlled: Cluster, prefix: str, asking: Callable[[ConsulKeys], object]
) -> None:
    error = refused(connect(controlled.endpoints, prefix), asking)
    assert " does not let anybody without a token have sessions, or " in error.message
    assert not isinstance(error, UnavailableError)
    assert f'key_prefix "{prefix}/" {{ policy = "write" }}' in error.hint


def test_with_a_token_that_is_none(controlled: Cluster, prefix: str) -> None:
    token = MASTER[::-1]
    access = Access(token=token, retry_timeout=0)
    error = refused(connect(controlled.endpoints, prefix, access=access))
    assert error.message.endswith(" does not know this token.")
    assert token not in f"{error.message}{error.hint}{access!r}"


def test_with_a_token_for_another_prefix(controlled: Cluster, prefix: str) -> None:
    access = Access(token=token_for(controlled, f"{prefix}/mine/"), retry_timeout=0)
    with contextlib.closing(connect(controlled.endpoints, f"{prefix}/mine", access=access)) as keys:
        lease = keys.grant(10)
        assert keys.transact([Unchanged("a", 0)], [Put("a", b"1", lease)])
        assert [item.value for item in keys.items("")] == [b"1"]
        assert keys.renew(lease)
    for asking in ASKING:
        error = refused(connect(controlled.endpoints, f"{prefix}/other", access=access), asking)
        assert (
            f" does not let this token have sessions, or read and write keys below {prefix}/"
            in (error.message)
        )


def test_a_condition_that_fails_beside_a_write_that_is_forbidden(
    controlled: Cluster, prefix: str
) -> None:
    """It is told as what it is, as trying again would change nothing."""
    access = Access(token=token_for(controlled, f"{prefix}/mine"), retry_timeout=0)
    error = refused(
        connect(controlled.endpoints, prefix, access=access),
        lambda keys: keys.transact([Unchanged("mine", 7)], [Put("other", b"")]),
    )
    assert " does not let this token " in error.message


def test_keys_that_cannot_be_read_any_more_are_not_left_out(
    controlled: Cluster, prefix: str
) -> None:
    access = Access(token=MASTER, retry_timeout=0)
    with contextlib.closing(connect(controlled.endpoints, prefix, access=access)) as all_keys:
        for number in range(40):
            all_keys.put(f"{number:02d}", b"1")
    token = token_for(controlled, f"{prefix}/")
    access = Access(token=token, retry_timeout=0)
    with contextlib.closing(connect(controlled.endpoints, prefix, access=access)) as keys:
        reading = keys.items("")
        assert next(reading).key == "00"
        let_read_alone(controlled, token, f"{prefix}/00")
        with pytest.raises(StoreError, match="hides keys from this token"):
            list(reading)


def let_read_alone(cluster: Cluster, token: str, key: str) -> None:
    """Let the holders of the token read this key, and do nothing else."""
    (endpoint,) = cluster.endpoints
    (policy,) = json.loads(ask(endpoint, "GET", "/v1/acl/token/self", token=token))["Policies"]
    changed = {"Name": policy["Name"], "Rules": f'key "{key}" {{ policy = "read" }}'}
    path = f"/v1/acl/policy/{policy['ID']}"
    assert ask(endpoint, "PUT", path, json.dumps(changed), token=MASTER, timeout=10)


def test_where_servers_are_hidden_a_lease_belongs_to_the_agent(
    controlled: Cluster, prefix: str
) -> None:
    """The token may write sessions, and see no node of the catalog."""
    access = Access(token=token_for(controlled, f"{prefix}/"), retry_timeout=0)
    with contextlib.closing(connect(controlled.endpoints, prefix, access=access)) as keys:
        assert keys._lasting_node() == ""
        assert keys.renew(keys.grant(10))
    access = Access(token=MASTER, retry_timeout=0)
    with contextlib.closing(connect(controlled.endpoints, prefix, access=access)) as keys:
        assert keys._lasting_node() == "n0"


@pytest.mark.parametrize("ttl", [0.5, 100_000])
def test_a_lease_that_consul_does_not_grant(
    consul_server: Cluster, prefix: str, ttl: float
) -> None:
    error = refused(connect(consul_server.endpoints, prefix), lambda keys: keys.grant(ttl))
    assert " has no leases of this length (Invalid Session TTL" in error.message
    assert "lock_ttl" in error.hint


def test_the_ports_of_its_servers_among_themselves(consul_server: Cluster, prefix: str) -> None:
    (server,) = consul_server.servers
    configured = json.loads((server.folder / "consul.json").read_text(encoding="utf-8"))
    for kind in ("server", "serf_lan"):
        error = refused(connect([f"127.0.0.1:{configured['ports'][kind]}"], prefix))
        assert error.message.endswith(" hangs up without an answer.")
        assert "port" in error.hint


@pytest.mark.parametrize("asking", [*ASKING, lambda keys: keys.grant(60)])
def test_an_etcd(etcd_server: Cluster, prefix: str, asking: Callable[[ConsulKeys], object]) -> None:
    error = refused(connect(etcd_server.endpoints, prefix), asking)
    assert error.message.endswith(" is no Consul server.")
    assert "port" in error.hint


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """It lets each client have few connections."""
    settings = {"limits": {"http_max_conns_per_client": 5}}
    with consul_cluster(tmp_path_factory.mktemp("limited"), settings=settings) as cluster:
        yield cluster


def test_too_many_connections(limited: Cluster, prefix: str) -> None:
    with contextlib.ExitStack() as kept:
        eventually(lambda: is_taken_up(limited.endpoints[0], kept))
        error = refused(connect(limited.endpoints, prefix))
    assert error.message.endswith(" hangs up without an answer.")
    assert "how many connections" in error.hint
    assert isinstance(error, UnavailableError)


def is_taken_up(endpoint: str, kept: contextlib.ExitStack) -> bool:
    """Whether one could keep all five: no other one is about to end and make room."""
    host, _, port = endpoint.partition(":")
    for _ in range(5):
        connection = kept.enter_context(socket.create_connection((host, int(port))))
        try:
            connection.sendall(b"GET /v1/status/leader HTTP/1.1\r\nHost: consul\r\n\r\n")
            answer = connection.recv(1024)
        except ConnectionError:
            answer = b""
        if not answer:
            kept.close()
            return False
    return True


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, authority: Certificates) -> Iterator[Cluster]:
    with consul_cluster(tmp_path_factory.mktemp("secured"), tls=authority) as cluster:
        yield cluster


def trusted(authority: Certificates) -> Access:
    return Access(
        ca=str(authority.ca),
        certificate=str(authority.client.certificate),
        key=str(authority.client.key),
        retry_timeout=0,
    )


def test_with_the_right_certificates(
    secured: Cluster, authority: Certificates, prefix: str
) -> None:
    keys = connect(secured.endpoints, prefix, scheme="consuls", access=trusted(authority))
    with contextlib.closing(keys):
        assert keys.transact([Unchanged("a", 0)], [Put("a", b"1", keys.grant(10))])
        assert [item.value for item in keys.items("")] == [b"1"]


def test_certificates_that_are_not_trusted(
    secured: Cluster, authority: Certificates, prefix: str
) -> None:
    error = refused(connect(secured.endpoints, prefix, scheme="consuls"))
    assert " has a certificate that is not trusted" in error.message
    access = Access(ca=str(authority.ca), retry_timeout=0)
    error = refused(connect(secured.endpoints, prefix, scheme="consuls", access=access))
    assert " does not accept our certificate, or wants one" in error.message


def test_a_scheme_that_is_not_that_of_the_port(
    secured: Cluster, consul_server: Cluster, authority: Certificates, prefix: str
) -> None:
    error = refused(connect(secured.endpoints, prefix))
    assert "consuls://" in error.hint
    keys = connect(consul_server.endpoints, prefix, scheme="consuls", access=trusted(authority))
    error = refused(keys)
    assert "TLS" in f"{error.message}{error.hint}"


@pytest.mark.processes
def test_servers_of_which_half_are_gone(tmp_path: Path, prefix: str) -> None:
    performance = {"performance": {"raft_multiplier": 1, "rpc_hold_timeout": "100ms"}}
    with consul_cluster(tmp_path, nodes=2, settings=performance) as cluster:
        leader, (other,) = cluster.leader(), cluster.followers()
        leader.kill()
        error = None
        while error is None or "has no leader" not in error.message:
            error = refused(connect([other.endpoint], prefix))
        assert "More than half" in error.hint
        assert isinstance(error, UnavailableError)
        error = refused(
            connect([other.endpoint], prefix), lambda keys: keys.transact([], [Put("a", b"")])
        )
        assert isinstance(error, UnavailableError), "nothing was done, and that is known"


def test_a_server_that_hangs(limited: Cluster, prefix: str) -> None:
    (server,) = limited.servers
    access = Access(retry_timeout=0, request_timeout=0.2)
    server.freeze()
    try:
        error = refused(connect([server.endpoint], prefix, access=access))
    finally:
        server.thaw()
    assert error.message.endswith(" does not answer within 0.2 s.")


@pytest.mark.parametrize(
    ("status", "said", "why", "flags"),
    [
        (500, "rpc error making call: No cluster leader", "has no leader now", ""),
        (500, "rpc error making call: node is not the leader", "has no leader now", ""),
        (500, "leadership lost while committing log", "fails (leadership lost", "unsure"),
        (500, "rpc error making call: EOF", "fails (rpc error making call: EOF)", "unsure"),
        (502, "", "fails (502)", "unsure"),
        (500, "\x1b[31mno\x1b[0m\n  way", "fails (no way)", "unsure"),
        (429, "Your IP is issuing too many concurrent connections", "takes no more now", ""),
        (503, "rate limit reached, try again later", "takes no more now", ""),
        (404, "404 page not found", "is no Consul server", "lasting"),
    ],
)
def test_what_a_server_cannot_do_now(status: int, said: str, why: str, flags: str) -> None:
    """Texts from the sources of this version and later ones, and of what stands before it."""
    trouble = judge(Response(Endpoint("consul", 8500), status, {}, said.encode()))
    assert trouble
    assert trouble.why.startswith(why)
    assert (trouble.outcome_unknown, trouble.permanent) == (flags == "unsure", flags == "lasting")


def failed(*reasons: str) -> str:
    return json.dumps({"Errors": [{"OpIndex": 0, "What": reason} for reason in reasons]})


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (403, "Permission denied: token lacks 'key:write'", "does not let this token"),
        (403, "rbac", "refuses (rbac)"),
        (405, "", "refuses (status 405)"),
        (413, "Request body too large", "does not take a request of this size"),
        (400, "Invalid Session TTL '1'", "has no leases of this length"),
        (
            409,
            failed('key "a" exists', 'unknown KV verb "get"'),
            'is too old (unknown KV verb "get")',
        ),
        (409, failed('key "a" exists', "a \x1b[31mred one"), "refuses (a red one)"),
        (409, "conflict", "refuses (conflict)"),
    ],
)
def test_what_a_cluster_will_not_do(status: int, said: str, expected: str) -> None:
    response = Response(Endpoint("consul", 8500), status, {}, said.encode())
    assert judge(response) is None, "another server would say the same"
    error = refusal(response, parse_address("consul://h/images"), "token")
    assert error
    assert error.message.startswith(f"Consul at consul://h:8500/images {expected}")


@pytest.mark.parametrize(
    "what",
    [
        'key "a" exists',
        'key "a\nb" doesn\'t exist',
        'failed index check for key "a", current modify index 1 != 2',
        'failed session check for key "a", current session "" != "1"',
        'failed to check index, key "a" doesn\'t exist',
        'failed to check session, key "a" doesn\'t exist',
        'failed to lock key "a", lock is already held',
        'invalid session "1"',
    ],
)
def test_conditions_that_do_not_hold_are_no_error(what: str) -> None:
    response = Response(Endpoint("consul", 8500), 409, {}, failed(what, what).encode())
    assert judge(response) is None
    assert refusal(response, parse_address("consul://h/images"), "token") is None
