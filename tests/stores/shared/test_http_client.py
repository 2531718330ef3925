"""The HTTP client: which server it asks, how often, and its errors."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from packer_fork.errors import StoreError, UsageError
from packer_fork.stores import http_client
from packer_fork.stores.access import Access, parse_address
from packer_fork.stores.http_client import HttpClient, LargeError, Request, Response
from packer_fork.stores.retry import UnavailableError
from packer_fork.stores.shared.keys import UnsureError
from packer_fork.stores.transport_error import TransportError
from tests.conftest import eventually
from tests.support.scripted_server import Say, answer, scripted
from tests.support.servers import Proxy
from tests.support.servers.places import free_ports

READ = Request(method="GET", target="/read")
WRITE = Request(method="POST", target="/write")


def judge(response: Response) -> TransportError | None:
    """503: it may have been done; 429: it was not; 404: it never will be."""
    match response.status:
        case 503:
            return TransportError("is not well", outcome_unknown=True)
        case 429:
            return TransportError("is busy")
        case 404:
            return TransportError("is another one", permanent=True)
        case _:
            return None


@contextlib.contextmanager
def transport(*endpoints: str, retry_timeout: float = 0, **access: object) -> Iterator[HttpClient]:
    address = parse_address(f"etcd://{','.join(endpoints)}/images")
    made = HttpClient(address, Access(retry_timeout=retry_timeout, **access), judge)  # type: ignore[arg-type]
    yield made
    made.close()


def hang_up(_: socket.socket) -> None:
    """The connection is closed behind it."""


def break_off(opened: socket.socket) -> None:
    opened.sendall(answer(b"the whole of it")[:-5])


def stay_silent(opened: socket.socket) -> None:
    opened.recv(1)


def dribble(opened: socket.socket) -> None:
    """Never silent for long, and never done."""
    opened.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    with contextlib.suppress(OSError):
        opened.settimeout(0.02)
        while True:
            opened.sendall(b".")
            with contextlib.suppress(TimeoutError):
                if not opened.recv(1):
                    return


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """An endpoint where nobody listens."""
    with free_ports(1) as (port,):
        yield f"127.0.0.1:{port}"


class Watchman:
    """A circuit breaker as tests want it: it lets pass when `opens` are used up."""

    def __init__(self, opens: int = 0) -> None:
        self.opens = opens
        self.told: list[str] = []
        self.on_failure: Callable[[], object] = list

    def before(self) -> None:
        self.told.append("before")
        if self.opens:
            self.opens -= 1
            raise StoreError("It is taken as away.", hint="Wait.")

    def succeeded(self) -> None:
        self.told.append("succeeded")

    def failed(self, reason: str) -> None:
        self.told.append(f"failed: {reason}")
        self.on_failure()


def test_requests_share_a_connection_one_after_the_other() -> None:
    with scripted(answer(b"1"), answer(b"2")) as server, transport(server.endpoint) as client:
        assert client.repeat(READ).body == b"1"
        assert client.send_once(WRITE).body == b"2"
        assert server.connections == 1
        assert server.requests[0].startswith(b"GET /read HTTP/1.1\r\n")


def test_threads_ask_side_by_side() -> None:
    at_once = threading.Barrier(4)

    def when_all_are_there(opened: socket.socket) -> None:
        at_once.wait(30)
        opened.sendall(answer(b"4"))

    with scripted(when_all_are_there) as server, transport(server.endpoint) as client:
        with ThreadPoolExecutor(4) as threads:
            answers = [threads.submit(client.repeat, READ) for _ in range(4)]
            assert [each.result().body for each in answers] == [b"4"] * 4
        assert server.connections == 4


def test_a_connection_that_rested_for_long_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "IDLE_LIMIT", 0.0)
    with scripted(answer()) as server, transport(server.endpoint) as client:
        client.send_once(WRITE)
        client.send_once(WRITE)
        assert server.connections == 2


def test_a_connection_that_was_closed_meanwhile_is_not_written_to() -> None:
    with scripted(answer(b"", "200 OK", "X: y"), answer()) as server:
        with transport(server.endpoint) as client:
            client.send_once(WRITE)
            server._open[0].shutdown(socket.SHUT_RDWR)
            client.send_once(WRITE)
        assert server.connections == 2


def test_an_answer_that_ends_the_connection_is_the_last_on_it() -> None:
    with scripted(answer(b"1", "200 OK", "Connection: close"), answer(b"2")) as server:
        with transport(server.endpoint) as client:
            assert client.send_once(WRITE).body == b"1"
            assert client.send_once(WRITE).body == b"2"
        assert server.connections == 2


def test_an_ipv6_address_is_reached() -> None:
    with scripted(answer(b"6"), host="::1") as server:
        port = server.endpoint.rpartition(":")[2]
        with transport(f"[::1]:{port}") as client:
            assert client.repeat(READ).body == b"6"


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (hang_up, "hangs up without an answer"),
        (break_off, "hangs up in the middle of its answer"),
        (stay_silent, "does not answer within 0.3 s"),
        (dribble, "does not answer within 0.3 s"),
        (answer(b"", "503 Unavailable"), "is not well"),
    ],
)
def test_what_was_sent_once_is_not_sent_again(says: bytes | Say, why: str) -> None:
    with (
        scripted(answer(), says, answer()) as server,
        scripted(answer()) as other,
        transport(server.endpoint, other.endpoint, retry_timeout=30, request_timeout=0.3) as client,
    ):
        client.repeat(READ)
        with pytest.raises(UnsureError, match=f"may have made a change.*{why}") as unsure:
            client.send_once(WRITE)
        assert server.endpoint in unsure.value.message
        assert len([each for each in server.requests + other.requests if b"write" in each]) == 1


@pytest.mark.parametrize(
    "says", [hang_up, break_off, stay_silent, dribble, answer(b"", "503 Unavailable")]
)
def test_what_may_be_done_twice_goes_to_the_next_server(says: bytes | Say) -> None:
    with (
        scripted(says) as server,
        scripted(answer(b"there")) as other,
        transport(server.endpoint, other.endpoint, request_timeout=0.3) as client,
    ):
        assert client.repeat(READ).body == b"there"
        assert client.repeat(READ).body == b"there"
        assert len(server.requests) <= 1, "it stays with who answered"


@pytest.mark.parametrize("kind", ["repeat", "send_once"])
def test_what_cannot_have_been_done_goes_to_the_next_server(kind: str) -> None:
    with (
        nobody() as away,
        scripted(answer(b"", "429 Busy")) as busy,
        scripted(answer(b"there")) as other,
        transport(away, busy.endpoint, other.endpoint) as client,
    ):
        assert getattr(client, kind)(WRITE).body == b"there"


@pytest.mark.parametrize("kind", ["repeat", "send_once"])
def test_servers_that_come_back_are_waited_for(kind: str) -> None:
    watchman = Watchman()
    with scripted(answer(b"back")) as server, Proxy(server.endpoint) as proxy:
        proxy.refuse()
        watchman.on_failure = proxy.let_pass
        with transport(proxy.endpoint, retry_timeout=30, breaker=watchman) as client:
            assert getattr(client, kind)(WRITE).body == b"back"


def test_threads_wait_side_by_side_for_servers_that_come_back() -> None:
    warned, failing = threading.Event(), set[int]()
    watchman = Watchman()
    with scripted(answer(b"back")) as server, Proxy(server.endpoint) as proxy:
        proxy.refuse()

        def pass_both() -> None:
            failing.add(threading.get_ident())
            if len(failing) == 2:
                proxy.let_pass()

        watchman.on_failure = pass_both
        access = {"breaker": watchman, "warn": lambda _: warned.set()}
        with (
            transport(proxy.endpoint, retry_timeout=30, **access) as client,
            ThreadPoolExecutor(2) as threads,
        ):
            first = threads.submit(client.repeat, READ)
            assert warned.wait(30)
            second = threads.submit(client.send_once, WRITE)
            assert [each.result().body for each in (first, second)] == [b"back"] * 2


def test_retries_end_and_the_error_names_what_was_tried() -> None:
    with nobody() as one, nobody() as two, transport(one, two, retry_timeout=0.5) as client:
        with pytest.raises(UnavailableError) as away:
            client.send_once(WRITE)
        expected = f"{one} refuses the connection; {two} refuses the connection."
        assert away.value.message == (
            f"etcd at etcd://{one},{two}/images cannot be used: {expected}"
        )
        assert away.value.hint


def test_what_will_not_change_is_not_tried_again() -> None:
    with (
        scripted(answer(b"", "404 Not Found")) as server,
        transport(server.endpoint, retry_timeout=30) as client,
    ):
        with pytest.raises(StoreError, match="is another one") as refused:
            client.repeat(READ)
        assert not isinstance(refused.value, UnavailableError)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (answer(b"", "301 Moved", "Location: http://elsewhere/"), "sends us elsewhere"),
        (
            answer(b"Client sent an HTTP request to an HTTPS server.\n", "400 Bad Request"),
            "speaks only TLS",
        ),
    ],
)
def test_who_is_no_server_of_ours_is_not_asked_again(says: bytes, why: str) -> None:
    with scripted(says) as server, transport(server.endpoint, retry_timeout=30) as client:
        with pytest.raises(StoreError, match=why) as refused:
            client.send_once(WRITE)
        assert not isinstance(refused.value, UnavailableError | UnsureError)
        assert len([each for each in server.requests if b"write" in each]) == 1


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody() as away, scripted(answer(b"direct")) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{away}")
        monkeypatch.delenv("no_proxy", raising=False)
        with transport(server.endpoint) as client:
            assert client.repeat(READ).body == b"direct"


def test_a_large_answer_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_RESPONSE", 100_000)
    watchman = Watchman()
    with (
        scripted(answer(bytes(100_000)), answer(bytes(100_001))) as server,
        transport(server.endpoint, retry_timeout=30, breaker=watchman) as client,
    ):
        assert len(client.repeat(READ).body) == 100_000
        with pytest.raises(LargeError, match=server.endpoint):
            client.repeat(READ)
        assert watchman.told == ["before", "succeeded"] * 2, "the server is there"


def test_the_breaker_is_told_how_each_attempt_ends() -> None:
    watchman = Watchman()
    with (
        scripted(answer(b"", "429 Busy"), answer()) as server,
        transport(server.endpoint, retry_timeout=30, breaker=watchman) as client,
    ):
        client.send_once(WRITE)
        reason = (
            f"etcd at etcd://{server.endpoint}/images cannot be used: {server.endpoint} is busy."
        )
        assert watchman.told == ["before", f"failed: {reason}", "before", "succeeded"]


def test_a_closed_way_is_not_tried_and_waited_for() -> None:
    watchman = Watchman(opens=2)
    with (
        scripted(answer(b"open")) as server,
        transport(server.endpoint, retry_timeout=30, breaker=watchman) as client,
    ):
        assert client.send_once(WRITE).body == b"open"
        assert watchman.told == ["before"] * 3 + ["succeeded"]
    watchman = Watchman(opens=1)
    with scripted(answer()) as server, transport(server.endpoint, breaker=watchman) as client:
        with pytest.raises(StoreError, match="taken as away"):
            client.repeat(READ)
        assert server.connections == 0


def test_what_takes_long_has_a_time_of_its_own() -> None:
    asked = threading.Event()

    def later(opened: socket.socket) -> None:
        asked.wait(30)
        opened.sendall(answer(b"late"))

    with (
        scripted(later) as server,
        transport(server.endpoint, request_timeout=0.05) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        late = threads.submit(client.long_poll, READ, 30)
        with pytest.raises(StoreError, match=r"within 0\.05 s"):
            client.repeat(READ)
        asked.set()
        assert late.result().body == b"late"
    with (
        scripted(stay_silent) as server,
        transport(server.endpoint, retry_timeout=30) as client,
        pytest.raises(StoreError, match=r"within 0\.1 s"),
    ):
        client.long_poll(READ, 0.1)


def test_a_stream_is_read_line_by_line_until_its_end() -> None:
    def lines(opened: socket.socket) -> None:
        opened.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in (b"one\n", b"two\nth", b"ree\n"):
            opened.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        opened.sendall(b"0\r\n\r\n")

    with scripted(lines) as server, transport(server.endpoint) as client:
        with client.stream(READ, 30) as stream:
            assert list(stream) == [b"one\n", b"two\n", b"three\n"]
        with client.stream(READ, 30) as stream:
            assert next(stream) == b"one\n"
    with (
        scripted(answer(b"", "503 Unavailable")) as server,
        transport(server.endpoint, retry_timeout=30) as client,
        pytest.raises(StoreError, match="is not well"),
        client.stream(READ, 30),
    ):
        pass


@pytest.mark.parametrize("kind", ["repeat", "send_once", "long_poll", "stream"])
def test_closing_ends_what_waits_for_an_answer(kind: str) -> None:
    with (
        scripted(stay_silent) as server,
        transport(server.endpoint, retry_timeout=30) as client,
        ThreadPoolExecutor(1) as threads,
    ):

        def ask() -> None:
            match kind:
                case "stream":
                    with client.stream(READ, 30):
                        pass
                case "long_poll":
                    client.long_poll(READ, 30)
                case _:
                    getattr(client, kind)(READ)

        waiting = threads.submit(ask)
        eventually(lambda: server.requests)
        client.close()
        with pytest.raises(StoreError):
            waiting.result(30)
        for again in (client.repeat, client.send_once):
            with pytest.raises(StoreError, match="was let go of") as refused:
                again(READ)
            assert not isinstance(refused.value, UnsureError), "nothing was sent"


@pytest.mark.parametrize("token", ["secret\n", "secret\U0001f511"])
def test_a_token_that_is_no_header_is_refused_and_not_shown(token: str) -> None:
    request = Request(method="GET", target="/", headers={"Authorization": token})

    def stream() -> None:
        with client.stream(request, 30):
            pass

    with scripted(answer()) as server, transport(server.endpoint, retry_timeout=30) as client:
        for ask in (lambda: client.repeat(request), lambda: client.send_once(request), stream):
            with pytest.raises(StoreError, match="with these credentials") as refused:
                ask()
            assert not isinstance(refused.value, UnsureError)
            assert "secret" not in "".join(traceback.format_exception(refused.value))
        assert server.requests == []


def test_a_server_that_hangs_up_before_it_heard_all_is_heard() -> None:
    def refuse(opened: socket.socket) -> None:
        opened.sendall(answer(b"", "404 Not Found"))

    request = Request(method="POST", target="/", body=bytes(32 << 20))
    with (
        scripted(refuse) as server,
        transport(server.endpoint) as client,
        pytest.raises(StoreError, match="is another one"),
    ):
        client.send_once(request)


def test_files_that_are_no_certificates_are_told_apart(tmp_path: Path) -> None:
    address = parse_address("etcds://127.0.0.1:1/images")
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate", encoding="utf-8")
    for access in (
        Access(ca=str(wrong)),
        Access(ca=str(tmp_path / "missing.pem")),
        Access(certificate=str(wrong)),
        Access(certificate=str(tmp_path / "missing.pem"), key=str(wrong)),
    ):
        with pytest.raises(UsageError, match=str(tmp_path)) as refused:
            HttpClient(address, access, judge)
        assert refused.value.hint


INTERRUPTED = """
import sys
from packer_fork.stores.access import Access, parse_address
from packer_fork.stores.http_client import HttpClient, Request

address = parse_address(f"etcd://{sys.argv[1]}")
client = HttpClient(address, Access(request_timeout=60.0), lambda _: None)
client.repeat(Request(method="GET", target="/"))
"""


@pytest.mark.processes
def test_a_signal_waits_for_no_request() -> None:
    with scripted(stay_silent) as server:
        command = [sys.executable, "-c", INTERRUPTED, server.endpoint]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        eventually(lambda: server.requests)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in errors


WAITING = """
import sys
from packer_fork.errors import StoreError
from packer_fork.stores.access import Access, parse_address
from packer_fork.stores.http_client import HttpClient, Request

assert "stamina" not in sys.modules
address = parse_address(f"etcd://{sys.argv[1]}")
client = HttpClient(address, Access(retry_timeout=0.3), lambda _: None)
try:
    client.repeat(Request(method="GET", target="/"))
except StoreError as error:
    assert "refuses the connection" in error.message
    print("stamina" in sys.modules)
"""


@pytest.mark.processes
def test_waiting_writes_nothing_and_is_imported_when_there_is_something_to_wait_for() -> None:
    with nobody() as away:
        done = subprocess.run(
            [sys.executable, "-c", WAITING, away], capture_output=True, text=True, check=True
        )
    assert (done.stdout, done.stderr) == ("True\n", "")
