"""What is said when etcd cannot be used: each cause by a real server that is so."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from packer_fork.errors import StoreError
from packer_fork.stores.access import Access, parse_address
from packer_fork.stores.etcd import EtcdKeys
from packer_fork.stores.shared.keys import Put, Unchanged, UnsureError
from tests.support.scripted_server import answer, scripted
from tests.support.servers import (
    ROOT,
    Certificates,
    Cluster,
    User,
    certificates,
    etcd_cluster,
    etcdctl,
)

pytestmark = pytest.mark.processes

JOE = User("joe", "password-of-joe", "images/")


@contextlib.contextmanager
def client(*endpoints: str, scheme: str = "etcd", **access: object) -> Iterator[EtcdKeys]:
    address = parse_address(f"{scheme}://{','.join(endpoints)}/images")
    keys = EtcdKeys(address, Access(**{"retry_timeout": 0.0, **access}))  # type: ignore[arg-type]
    yield keys
    keys.close()


def refused(keys: EtcdKeys) -> str:
    """What it says to a reader; a writer is told the same, and is sure that nothing was done."""
    with pytest.raises(StoreError) as reading:
        keys.get("a")
    with pytest.raises(StoreError) as writing:
        keys.transact([], [Put("a", b"1")])
    assert not isinstance(writing.value, UnsureError)
    assert reading.value.message == writing.value.message
    assert reading.value.hint
    assert JOE.password not in reading.value.message + reading.value.hint
    return f"{reading.value.message} {reading.value.hint}"


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certified: Certificates) -> Iterator[Cluster]:
    """Its clients need a certificate, a user and a password."""
    folder = tmp_path_factory.mktemp("secured")
    with etcd_cluster(folder, tls=certified, auth=[JOE]) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Its clients need a user and a password."""
    with etcd_cluster(tmp_path_factory.mktemp("guarded"), auth=[JOE]) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with etcd_cluster(tmp_path_factory.mktemp("trio"), nodes=3) as cluster:
        yield cluster


def certificate(certified: Certificates, who: str) -> dict[str, str]:
    signed = getattr(certified, who)
    return {
        "ca": str(certified.ca),
        "certificate": str(signed.certificate),
        "key": str(signed.key),
    }


LOGIN = {"username": JOE.name, "password": JOE.password}


def test_with_certificate_and_password_it_works(secured: Cluster, certified: Certificates) -> None:
    access = {**certificate(certified, "client"), **LOGIN}
    with client(*secured.endpoints, scheme="etcds", **access) as keys:
        assert keys.transact([Unchanged("a", 0)], [Put("a", b"1")])
        keys.wait("a", 0, 30)
        lease = keys.grant(30)
        assert keys.renew(lease)
        keys.revoke(lease)
        keys.remove(["a"])


def test_tls_is_spoken_plainly_to(secured: Cluster) -> None:
    with client(*secured.endpoints, retry_timeout=30) as keys:
        assert "speaks only TLS. Let the store's URL begin with etcds://." in refused(keys)


def test_tls_is_spoken_to_who_speaks_none(etcd_server: Cluster) -> None:
    with client(*etcd_server.endpoints, scheme="etcds", retry_timeout=30) as keys:
        assert "does not speak TLS. Let the store's URL begin with etcd://." in refused(keys)


def test_the_authority_is_unknown(secured: Cluster) -> None:
    with client(*secured.endpoints, scheme="etcds", retry_timeout=30) as keys:
        told = refused(keys)
    assert "certificate that is not trusted (unable to get local issuer certificate)" in told


def test_the_certificate_is_for_another_name(secured: Cluster, certified: Certificates) -> None:
    alias = secured.endpoints[0].replace("127.0.0.1", "127.1")
    with client(alias, scheme="etcds", **certificate(certified, "client")) as keys:
        assert "certificate that is not trusted (Hostname mismatch" in refused(keys)


def test_our_certificate_is_missing(secured: Cluster, certified: Certificates) -> None:
    with client(*secured.endpoints, scheme="etcds", ca=str(certified.ca), retry_timeout=30) as keys:
        assert "does not accept our certificate, or wants one" in refused(keys)


def test_our_certificate_has_a_name(secured: Cluster, certified: Certificates) -> None:
    access = {**certificate(certified, "named"), **LOGIN}
    with client(*secured.endpoints, scheme="etcds", retry_timeout=30, **access) as keys:
        told = refused(keys)
    assert "no client certificate with a common name (CN)" in told
    assert "whose subject has no CN" in told


def test_there_is_no_user(guarded: Cluster, secured: Cluster, certified: Certificates) -> None:
    with client(*guarded.endpoints, retry_timeout=30) as keys:
        assert "wants a user and a password" in refused(keys)
        with pytest.raises(StoreError, match="wants a user and a password"):
            keys.wait("a", 0, 30)
    with client(*secured.endpoints, scheme="etcds", **certificate(certified, "client")) as keys:
        assert "does not let anybody without a user read and write keys" in refused(keys)


@pytest.mark.parametrize("login", [{**LOGIN, "password": "wrong"}, {**LOGIN, "username": "jim"}])
def test_the_password_is_wrong(guarded: Cluster, login: dict[str, str]) -> None:
    with client(*guarded.endpoints, retry_timeout=30, **login) as keys:
        assert f"does not let user {login['username']!r} in." in refused(keys)


def test_the_prefix_is_somebody_elses(guarded: Cluster, prefix: str) -> None:
    address = parse_address(f"etcd://{guarded.endpoints[0]}/{prefix}")
    keys = EtcdKeys(address, Access(retry_timeout=30, **LOGIN))  # type: ignore[arg-type]
    told = refused(keys)
    assert f"does not let user 'joe' read and write keys below {prefix}/." in told
    assert f"readwrite --prefix {prefix}/" in told
    with pytest.raises(StoreError, match="does not let user 'joe' read and write"):
        keys.wait("a", 0, 30)
    keys.close()
    etcdctl(
        guarded,
        "role",
        "grant-permission",
        JOE.name,
        "readwrite",
        prefix,
        "--prefix=true",
        user=ROOT,
    )
    keys = EtcdKeys(address, Access(**LOGIN))  # type: ignore[arg-type]
    assert keys.names("") == []
    keys.close()


def test_a_login_that_is_over_is_made_again(guarded: Cluster) -> None:
    with client(*guarded.endpoints, **LOGIN) as keys:
        keys.put("a", b"1")
        found = keys.get("a")
        assert found is not None
        keys._token = over = "over.1"  # noqa: S105
        assert keys.transact([Unchanged("a", found.modified)], [Put("b", b"1")])
        assert keys._token != over
        keys._token = over
        assert keys.names("") == ["a", "b"]
        keys._token = over
        keys.wait("a", found.modified, 60)
        keys.wait("a", found.modified, 0.05)
        assert keys._token != over
        keys.remove(["a", "b"])


def test_a_user_is_none_where_nobody_logs_in(etcd_server: Cluster) -> None:
    with client(*etcd_server.endpoints, **LOGIN) as keys:
        assert keys.get("nothing") is None


def test_the_port_is_that_of_the_servers(etcd_server: Cluster) -> None:
    told = "--initial-advertise-peer-urls=http://"
    argv = etcd_server.servers[0].argv
    peer = next(word.removeprefix(told) for word in argv if word.startswith(told))
    with client(peer, retry_timeout=30) as keys:
        assert "is where etcd's servers talk to each other. Use the port for clients" in refused(
            keys
        )


def test_it_is_no_etcd(consul_server: Cluster) -> None:
    with client(*consul_server.endpoints, retry_timeout=30) as keys:
        assert "is no etcd server. Look at host and port." in refused(keys)


def test_its_gateway_is_disabled(tmp_path: Path) -> None:
    with (
        etcd_cluster(tmp_path, options=["--enable-grpc-gateway=false"]) as cluster,
        client(*cluster.endpoints, retry_timeout=30) as keys,
    ):
        assert "has its JSON gateway disabled" in refused(keys)


def test_it_is_too_old() -> None:
    old = answer(b'{"etcdserver":"3.3.27","etcdcluster":"3.3.0"}')
    unknown = answer(b"404 page not found\n", "404 Not Found")
    with (
        scripted(unknown, old, unknown, old) as server,
        client(server.endpoint, retry_timeout=30) as keys,
    ):
        assert "runs etcd 3.3.27, which is too old. At least 3.4 is needed." in refused(keys)


def test_what_does_not_fit_and_what_has_no_space(tmp_path: Path) -> None:
    options = ["--max-request-bytes=20000", "--quota-backend-bytes=60000"]
    with (
        etcd_cluster(tmp_path, options=options) as cluster,
        client(*cluster.endpoints, retry_timeout=30) as keys,
    ):
        for size in (30_000, 1 << 20):
            with pytest.raises(StoreError, match="does not take a request of this size"):
                keys.transact([], [Put("a", bytes(size))])
        with pytest.raises(StoreError, match="has no space left") as full:
            fill(keys)
        assert "--quota-backend-bytes" in full.value.hint
        with pytest.raises(StoreError, match="has no space left"):
            keys.transact([], [Put("a", b"1")])


def fill(keys: EtcdKeys) -> None:
    for number in range(100):
        keys.put(f"{number}", bytes(10_000))


def test_a_server_is_frozen(trio: Cluster) -> None:
    leader, (second, third) = trio.leader(), trio.followers()
    endpoints = (leader.endpoint, second.endpoint, third.endpoint)
    with client(*endpoints, request_timeout=0.5, retry_timeout=30) as keys:
        keys.put("a", b"1")
        leader.freeze()
        try:
            with pytest.raises(
                UnsureError, match=f"{leader.endpoint} does not answer within 0.5 s"
            ):
                keys.transact([], [Put("b", b"1")])
            assert trio.leader() is not leader
            assert keys.transact([], [Put("a", b"2")]), "by another one"
            assert keys.names("a") == ["a"]
        finally:
            leader.thaw()


def test_most_servers_are_away(trio: Cluster) -> None:
    last, *others = [*trio.followers(), trio.leader()]
    with client(last.endpoint) as keys:
        keys.put("a", b"1")
        found = keys.get("a")
        assert found is not None
        for server in others:
            server.kill()
        with pytest.raises(StoreError, match="has too few other servers to agree with"):
            keys.wait("a", found.modified, 60)
        assert "has too few other servers to agree with (no leader)" in refused(keys)
        asking: list[Callable[[], object]] = [
            lambda: keys.renew("1"),
            lambda: keys.left("1"),
            lambda: keys.grant(1),
            lambda: keys.revoke("1"),
        ]
        for ask in asking:
            with pytest.raises(StoreError, match="has too few other servers to agree with"):
                ask()
        for server in others:
            server.start()
        with client(last.endpoint, retry_timeout=30) as patient:
            assert patient.get("a") == found


def test_a_proxy_before_it_is_not_well() -> None:
    with (
        scripted(answer(b"<html>", "502 Bad Gateway")) as server,
        client(server.endpoint) as keys,
    ):
        with pytest.raises(StoreError, match="answers with status 502"):
            keys.get("a")
        with pytest.raises(UnsureError, match="answers with status 502"):
            keys.transact([], [Put("a", b"1")])


@pytest.mark.parametrize("says", [b"[]", b"{", b'{"kvs":[{"key":"!"}]}', b'{"kvs":"\x1b[2J"}'])
def test_what_is_not_in_the_protocol_is_no_data(says: bytes) -> None:
    with scripted(answer(says)) as server, client(server.endpoint) as keys:
        with pytest.raises(StoreError, match="answers what is not in its protocol") as refusal:
            keys.get("a")
        assert refusal.value.message.isprintable()


def test_what_servers_say_is_cleaned() -> None:
    said = msgspec.json.encode({"error": "\x1b[31mbad\r\nthing\u202e", "code": 3})
    with scripted(answer(said, "400 Bad Request")) as server, client(server.endpoint) as keys:
        assert "refuses (bad thing)" in refused(keys)
