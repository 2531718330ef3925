"""A bucket by obstore on a server of S3: conditions, names, and errors told apart."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from packer_fork.errors import StoreError, UsageError
from packer_fork.stores.bucket import Bucket
from packer_fork.stores.retry import AnsweredError, UnavailableError
from packer_fork.stores.shared.keys import UnsureError
from tests.conftest import eventually
from tests.support.scripted_server import Say, answer, scripted
from tests.support.servers import BUCKET, CREDENTIALS, Cluster, Proxy
from tests.support.servers.places import free_ports

pytestmark = pytest.mark.processes


@pytest.fixture
def bucket(s3_server: Cluster, prefix: str) -> Iterator[Bucket]:
    with contextlib.closing(opened(s3_server.endpoints[0], prefix)) as bucket:
        yield bucket


def opened(endpoint: str, prefix: str = "a", *, name: str = BUCKET) -> Bucket:
    return Bucket(name, prefix, endpoint=f"http://{endpoint}", request_timeout=1.0)


def test_conditions_of_writes_are_kept(bucket: Bucket) -> None:
    assert bucket.get("root") is None
    assert bucket.put_if("root", b"0", '"none"') is None
    first = bucket.put_new("root", b"1")
    assert first
    assert bucket.put_new("root", b"2") is None
    second = bucket.put_if("root", b"2", first)
    assert second
    assert bucket.put_if("root", b"3", first) is None
    assert bucket.get("root") == (b"2", second)
    bucket.delete(["root", "never there"])
    assert bucket.get("root") is None


def test_names_begin_with_a_prefix_and_no_more(bucket: Bucket) -> None:
    names = ["blobs/a/b", "blobs/a%2Fb", "blobs/ab", "blobs/b", "blob", "leases/a"]
    for name in names:
        bucket.put(name, name.encode())
    listed = {prefix: {each.name for each in bucket.list(prefix)} for prefix in ("", "blobs/a")}
    assert listed == {"": set(names), "blobs/a": {"blobs/a/b", "blobs/a%2Fb", "blobs/ab"}}
    assert {each.name for each in bucket.list("blobs/a/")} == {"blobs/a/b"}
    assert [bucket.get(name) is not None for name in names] == [True] * len(names)


ASKING: list[Callable[[Bucket], object]] = [
    lambda bucket: bucket.get("a"),
    lambda bucket: bucket.put("a", b""),
    lambda bucket: bucket.put_new("a", b""),
    lambda bucket: bucket.put_if("a", b"", '"1"'),
    lambda bucket: bucket.list("a"),
]


@pytest.mark.parametrize("ask", ASKING)
def test_a_missing_bucket_is_named(s3_server: Cluster, ask: Callable[[Bucket], object]) -> None:
    bucket = opened(s3_server.endpoints[0], name="nowhere")
    with pytest.raises(AnsweredError, match="there is no bucket 'nowhere'"):
        ask(bucket)


def error(code: str, status: str = "403 Forbidden") -> bytes:
    return answer(f"<Error><Code>{code}</Code></Error>".encode(), status)


@pytest.mark.usefixtures("s3_credentials")
@pytest.mark.parametrize(
    ("says", "why"),
    [
        (error("AccessDenied"), "denies s3:{action} .AccessDenied"),
        (answer(b"", "403 Forbidden"), "denies s3:{action} "),
        (error("RequestTimeTooSkewed"), "the clock of this machine is wrong"),
        (error("ExpiredToken", "400 Bad Request"), "the credentials: they have expired"),
        (error("InvalidAccessKeyId"), "does not know the access key"),
        (error("SignatureDoesNotMatch"), "the secret key is wrong"),
        (error("PermanentRedirect", "301 Moved Permanently"), "is in another region"),
        (error("AuthorizationHeaderMalformed", "400 Bad Request"), "is in another region"),
        (error("NotImplemented", "501 Not Implemented"), "does not implement conditional writes"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_refusal_is_named(says: bytes, why: str) -> None:
    actions = ["GetObject", "PutObject", "PutObject", "PutObject", "ListBucket"]
    for ask, action in zip(ASKING, actions, strict=True):
        with scripted(says) as server:
            with pytest.raises(AnsweredError, match=why.format(action=action)) as refusal:
                ask(opened(server.endpoint))
            assert refusal.value.hint
            assert server.endpoint in refusal.value.message


@pytest.mark.usefixtures("s3_credentials")
@pytest.mark.parametrize(
    ("says", "why"),
    [
        (error("SlowDown", "503 Slow Down"), "throttles requests"),
        (answer(b"", "429 Too Many Requests"), "throttles requests"),
        (answer(b"", "500 Internal Server Error"), "does not answer"),
        (lambda _: None, "does not answer"),
    ],
    ids=["slow down", "too many", "fails", "hangs up"],
)
@pytest.mark.parametrize("ask", ASKING)
def test_no_answer_leaves_it_unknown_and_nothing_is_sent_again(
    ask: Callable[[Bucket], object], says: bytes | Say, why: str
) -> None:
    with scripted(says) as server, pytest.raises(UnsureError, match=why):
        ask(opened(server.endpoint))
    assert len(server.requests) == 1


@pytest.mark.usefixtures("s3_credentials")
@pytest.mark.parametrize("ask", ASKING)
def test_an_endpoint_that_cannot_be_reached_is_named(ask: Callable[[Bucket], object]) -> None:
    why = re.escape("cannot be reached (Connection refused)")
    with free_ports(1) as (port,), pytest.raises(UnavailableError, match=why):
        ask(opened(f"127.0.0.1:{port}"))


@pytest.mark.parametrize(
    "name", ["AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "AWS_CONDITIONAL_PUT", "AWS_CHECKSUM_ALGORITHM"]
)
def test_an_environment_that_makes_no_sense_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "wrong-word")
    with pytest.raises(UsageError, match="wrong-word") as refusal:
        opened("127.0.0.1:1")
    assert refusal.value.message.isprintable()


@pytest.mark.parametrize("ask", ASKING)
def test_missing_credentials_are_named(
    ask: Callable[[Bucket], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    with scripted(answer(b"", "404 Not Found")) as server:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://{server.endpoint}")
        with pytest.raises(UnavailableError, match="There are no credentials for s3://images/a"):
            ask(opened(server.endpoint))
        assert all(b"/latest/" in request for request in server.requests)


@pytest.mark.parametrize("ask", ASKING[1:4])
def test_a_lost_reply_is_no_conflict(
    s3_server: Cluster, prefix: str, ask: Callable[[Bucket], object]
) -> None:
    """As it is if a library sends the request again."""
    with Proxy(s3_server.endpoints[0]) as proxy:
        proxy.drop_reply()
        with pytest.raises(UnsureError):
            ask(opened(proxy.endpoint, prefix))
        assert len(proxy.requests) == 1


WAITING = """
import sys
from packer_fork.stores.bucket import Bucket
Bucket("images", "a", endpoint=sys.argv[1], request_timeout=60.0).get("a")
"""


@pytest.mark.usefixtures("s3_credentials")
def test_a_signal_waits_for_no_request() -> None:
    """Neither its handler nor the end of the process."""

    def stay_silent(opened: socket.socket) -> None:
        opened.recv(1)

    with scripted(stay_silent) as server:
        command = [sys.executable, "-c", WAITING, f"http://{server.endpoint}"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        eventually(lambda: server.requests)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in errors


def test_a_closed_bucket_is_asked_nothing(bucket: Bucket) -> None:
    bucket.close()
    with pytest.raises(StoreError, match="was let go of"):
        bucket.get("a")
