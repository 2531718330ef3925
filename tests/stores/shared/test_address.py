"""What the URL of a store may say, and what nobody gets to see of it."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packer_fork.errors import UsageError
from packer_fork.stores.access import (
    Access,
    Address,
    BucketAddress,
    Endpoint,
    parse_address,
    parse_bucket_address,
)


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        (
            "etcd://h1:2379,h2,h3:99/images",
            Address(
                "etcd",
                tls=False,
                endpoints=(Endpoint("h1", 2379), Endpoint("h2", 2379), Endpoint("h3", 99)),
                prefix="images",
            ),
            "etcd://h1:2379,h2:2379,h3:99/images",
        ),
        (
            "consuls://Consul.example.org/team/images/",
            Address(
                "consul",
                tls=True,
                endpoints=(Endpoint("consul.example.org", 8500),),
                prefix="team/images",
            ),
            "consuls://consul.example.org:8500/team/images",
        ),
        (
            "etcds://[fe80::1]:1,[::1],127.0.0.1,127.0.0.1:2379",
            Address(
                "etcd",
                tls=True,
                endpoints=(
                    Endpoint("fe80::1", 1),
                    Endpoint("::1", 2379),
                    Endpoint("127.0.0.1", 2379),
                ),
                prefix="packer-fork",
            ),
            "etcds://[fe80::1]:1,[::1]:2379,127.0.0.1:2379/packer-fork",
        ),
    ],
)
def test_a_url_says_where_the_servers_are(url: str, address: Address, shown: str) -> None:
    assert parse_address(url) == address
    assert str(address) == shown
    assert parse_address(shown) == address, "what is shown can be given again"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("etcd://user:secret@h1/images", "credentials"),
        ("etcd://h1/im@ges", "credentials"),
        ("user:secret@h1", "credentials"),
        ("consul://h1/images?token=secret", "query"),
        ("consul://h1/images#secret", "fragment"),
        ("http://h1/images", "its beginning is not one of"),
        ("h1:2379", "its beginning is not one of"),
        ("", "its beginning is not one of"),
        ("ETCD://h1", "its beginning is not one of"),
        ("etcd:///images", "no host"),
        ("etcd://h1,,h2/images", "no host"),
        ("etcd://h1:0", "no host"),
        ("etcd://h1:65536", "no host"),
        ("etcd://h1:" + "9" * 5000, "no host"),
        ("etcd://h1:x", "no host"),
        ("etcd://::1", "no host"),
        ("etcd://[::1", "no host"),
        ("etcd://[1:2]", "no host"),
        ("etcd://h1 h2", "no host"),
        ("etcd://h1\n", "no host"),
        ("etcd://-h1", "no host"),
        ("etcd://h1//a", None),
        ("etcd://h1/a//b", "no prefix"),
        ("etcd://h1/a/../b", "no prefix"),
        ("etcd://h1/a b", "no prefix"),
        ("etcd://h1/a%2fb", "no prefix"),
        ("etcd://h1/ä", "no prefix"),
    ],
)
def test_what_makes_no_sense_is_refused_and_no_secret_shown(url: str, why: str | None) -> None:
    if why is None:
        assert parse_address(url).prefix == "a"
        return
    with pytest.raises(UsageError, match=why) as refusal:
        parse_address(url)
    assert refusal.value.hint
    assert "secret" not in f"{refusal.value.message}{refusal.value.hint}"


@settings(deadline=None)
@given(st.text() | st.text().map("etcd://{}".format) | st.text().map("etcd://h1/{}".format))
def test_any_text_is_an_address_or_refused_in_one_line(text: str) -> None:
    with contextlib.suppress(UsageError):
        address = parse_address(text)
        assert parse_address(str(address)) == address
        return
    with pytest.raises(UsageError) as refusal:
        parse_address(text)
    assert refusal.value.message.isprintable()


AT_HOME = {"AWS_ENDPOINT_URL": "http://minio:9000/"}


@pytest.mark.parametrize(
    ("url", "environ", "address"),
    [
        ("s3://images", {}, BucketAddress("images", "packer-fork")),
        ("s3://my.images/a/b/", {}, BucketAddress("my.images", "a/b")),
        ("s3://images/a", AT_HOME, BucketAddress("images", "a", "http://minio:9000")),
        (
            "s3://images/a",
            {**AT_HOME, "AWS_ENDPOINT_URL_S3": "https://s3.example.org"},
            BucketAddress("images", "a", "https://s3.example.org"),
        ),
    ],
)
def test_a_url_names_a_bucket(url: str, environ: dict[str, str], address: BucketAddress) -> None:
    assert parse_bucket_address(url, environ) == address
    assert parse_bucket_address(str(address), environ) == address


@pytest.mark.parametrize(
    ("url", "endpoint", "why"),
    [
        ("s3://", "", "names no bucket"),
        ("s3:///a", "", "names no bucket"),
        ("s3://a,b/c", "", "names no bucket"),
        ("s3://images:9000/a", "", "names no bucket"),
        ("s3://images/a/../b", "", "no prefix"),
        ("s3://key:secret@images/a", "", "credentials"),
        ("s3://images/a?region=secret", "", "query"),
        ("s3://images/a", "minio:9000", "is not the URL of a server"),
        ("s3://images/a", "http://", "is not the URL of a server"),
        ("s3://images/a", "http://[bad", "is not the URL of a server"),
        ("s3://images/a", "http://minio:x", "is not the URL of a server"),
        ("s3://images/a", "http://key:secret@minio:9000", "credentials"),
    ],
)
def test_a_url_without_a_usable_bucket_is_refused(url: str, endpoint: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refusal:
        parse_bucket_address(url, {"AWS_ENDPOINT_URL": endpoint})
    assert refusal.value.hint
    assert "secret" not in f"{refusal.value.message}{refusal.value.hint}"


def test_secrets_are_in_no_repr() -> None:
    secrets = {"password": "pass-secret", "token": "token-secret"}
    access = Access(username="joe", ca="ca.pem", **secrets)  # type: ignore[arg-type]
    assert "secret" not in f"{access} {access!r} {[access]}"
    assert "joe" in repr(access)
    assert "***" in repr(access)
    assert "***" not in repr(Access())
