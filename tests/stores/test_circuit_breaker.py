"""The circuit breaker: its rules as pure functions, and what many processes see of one file."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from packer_fork.errors import StoreError
from packer_fork.stores import circuit_breaker
from packer_fork.stores.circuit_breaker import (
    LONGEST,
    PROBE_TIMEOUT,
    THRESHOLD,
    Circuit,
    CircuitBreaker,
    Phase,
    admit,
    failed,
    period,
    phase,
    remaining,
    runtime_folder,
)
from tests.conftest import eventually

ROOT = Path(__file__).parent.parent.parent
WHERE = "etcd://127.0.0.1:2379/images"


def after(failures: int, now: float = 1000.0) -> Circuit:
    """A circuit after so many failures in a row, each of an attempt that was admitted."""
    circuit = Circuit()
    for number in range(failures):
        now += remaining(circuit, now)
        circuit, admitted = admit(circuit, now, f"{number}", PROBE_TIMEOUT)
        assert admitted
        circuit = failed(circuit, now, f"{number}", "no answer", 0.0)
    return circuit


def test_it_opens_after_failures_in_a_row() -> None:
    assert phase(after(THRESHOLD - 1), 1000) is Phase.CLOSED
    circuit = after(THRESHOLD)
    assert phase(circuit, 1000) is Phase.OPEN
    assert admit(circuit, 1000.5, "a", PROBE_TIMEOUT) == (circuit, False)
    assert (circuit.since, circuit.reason) == (1000, "no answer")


def test_one_probe_goes_when_the_period_is_over() -> None:
    circuit, admitted = admit(after(THRESHOLD), 1001, "probe", 10)
    assert admitted
    assert phase(circuit, 1001) is Phase.HALF_OPEN
    assert admit(circuit, 1010.9, "other", 10) == (circuit, False)
    assert remaining(circuit, 1010) == 1
    circuit, admitted = admit(circuit, 1011, "other", 10)
    assert admitted, "the first one told nothing in its time"
    assert failed(circuit, 1011, "probe", "late", 0) == circuit, "its word counts no more"
    assert phase(failed(circuit, 1011, "other", "again", 0), 1012.9) is Phase.OPEN


def test_the_failure_of_an_attempt_from_before_prolongs_nothing() -> None:
    circuit = after(THRESHOLD)
    assert failed(circuit, 1000.9, "from before", "late", 0) == circuit


def test_the_period_grows_to_a_quarter_of_a_minute() -> None:
    assert [period(THRESHOLD + more, 0) for more in range(-1, 9)] == [
        0, 1, 2, 4, 8, 15, 15, 15, 15, 15
    ]  # fmt: skip
    assert period(THRESHOLD + 1, 0.5) == 1.5
    assert period(10**18, 1) == 7.5


@pytest.mark.parametrize("back", [0, 1, 7, 14, 16, 3600, 10**9])
def test_a_clock_set_back_blocks_no_longer_than_the_longest_period(back: int) -> None:
    circuit = after(THRESHOLD + 20, now=10**9 + 10**6)
    now = circuit.again - LONGEST - back
    assert remaining(circuit, now) <= LONGEST
    assert admit(circuit, now + remaining(circuit, now), "a", PROBE_TIMEOUT)[1]


def test_a_probe_has_no_longer_than_that_either() -> None:
    circuit, _ = admit(after(THRESHOLD), 2000, "hangs", 3600)
    assert not admit(circuit, 2000 + LONGEST - 1, "other", 3600)[1]
    assert admit(circuit, 2000 + LONGEST, "other", 3600)[1]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "fail", "fail", "succeed", "leave"]),
        st.integers(0, 3),
        st.floats(0, 20),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(start=st.sampled_from([0, THRESHOLD - 1, THRESHOLD, THRESHOLD + 9]), steps=STEPS)
def test_never_two_probes_and_never_stuck(start: int, steps: list[tuple[str, int, float]]) -> None:
    """Four clients in any order; each attempt has its own name, as in CircuitBreaker."""
    circuit, now = after(start), 10_000.0
    names = [f"from before {client}" for client in range(4)]
    probe, ends = "", 0.0
    for number, (step, client, seconds) in enumerate(steps):
        now += seconds
        if step == "ask":
            was_closed = phase(circuit, now) is Phase.CLOSED
            circuit, admitted = admit(circuit, now, f"{number}", 15)
            assert admitted or not was_closed
            if admitted:
                names[client] = f"{number}"
            if admitted and not was_closed:
                assert not probe or now >= ends, "two probes at once"
                probe, ends = f"{number}", now + 15
        elif step == "fail":
            circuit = failed(circuit, now, names[client], "no", 0.5)
            probe = "" if names[client] == probe else probe
        elif step == "succeed":
            circuit, probe = Circuit(), ""
        assert remaining(circuit, now) <= LONGEST
        assert admit(circuit, now + remaining(circuit, now), "a", 15)[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.before()
        breaker.failed("no answer")


def stored(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def set_stage(folder: Path, circuit: Circuit) -> None:
    """As another process would have left it."""
    CircuitBreaker(WHERE, folder=folder).succeeded()
    stored(folder).write_bytes(msgspec.json.encode(circuit))


def due(failures: int = THRESHOLD) -> Circuit:
    """Half-open since a moment ago."""
    return Circuit(failures=failures, since=time.time() - 9, reason="no", again=time.time() - 0.1)


def is_open(breaker: CircuitBreaker) -> bool:
    """Or half-open, should this machine be slow."""
    return breaker.state().phase is not Phase.CLOSED


def test_what_one_learned_another_knows(folder: Path) -> None:
    one, another = CircuitBreaker(WHERE, folder=folder), CircuitBreaker(WHERE, folder=folder)
    fail(one, THRESHOLD)
    status = another.state()
    assert (status.failures, status.reason) == (THRESHOLD, "no answer")
    assert status.wait <= 1
    one.succeeded()
    another.before()
    assert another.state().phase is Phase.CLOSED


def test_it_says_since_when_and_until_when(folder: Path) -> None:
    set_stage(folder, replace(due(), since=0.5, again=time.time() + 14.9))
    breaker = CircuitBreaker(WHERE, folder=folder)
    with pytest.raises(StoreError) as refusal:
        breaker.before()
    said = f"{WHERE} is taken as away: 5 failures since 1970-01-01 00:00:00 UTC, next try in "
    assert re.fullmatch(re.escape(said) + r"1\d s\.", refusal.value.message)
    assert refusal.value.hint == "The last one: no"
    status = breaker.state()
    assert (status.phase, status.since) == (Phase.OPEN, 0.5)
    assert 0 < status.wait < 15


def test_another_place_has_a_breaker_of_its_own(folder: Path) -> None:
    fail(CircuitBreaker(WHERE, folder=folder), THRESHOLD)
    assert not is_open(CircuitBreaker(f"{WHERE}2", folder=folder))
    assert is_open(CircuitBreaker(WHERE, folder=folder))


def test_a_success_between_begins_the_count_anew(folder: Path) -> None:
    breaker = CircuitBreaker(WHERE, folder=folder)
    fail(breaker, THRESHOLD - 1)
    breaker.before()
    breaker.succeeded()
    fail(breaker, THRESHOLD - 1)
    assert breaker.state().phase is Phase.CLOSED


def test_looking_leaves_no_trace(folder: Path) -> None:
    assert CircuitBreaker(WHERE, folder=folder).state().phase is Phase.CLOSED
    assert not folder.exists()


def test_what_is_kept_is_ours_alone(folder: Path) -> None:
    fail(CircuitBreaker(WHERE, folder=folder), 1)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert stored(folder).stat().st_mode & 0o777 == 0o600


def test_what_a_terminal_would_act_on_is_not_kept(folder: Path) -> None:
    breaker = CircuitBreaker(WHERE, folder=folder)
    breaker.failed("\x1b[31mred\x1b[0m \udc80" + 5000 * "\x00\u20ac")
    assert breaker.state().reason.startswith("red \u20ac")
    assert len(breaker.state().reason) == 500
    assert CircuitBreaker(WHERE, folder=folder).state().failures == 1


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\0" * 4096,
        b'{"failures":9',
        b'{"failures":-9}',
        b'{"failures":9,"since":1e300}',
        b'{"failures":"9"}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_counts_as_closed_and_is_written_anew(folder: Path, damaged: bytes) -> None:
    breaker = CircuitBreaker(WHERE, folder=folder)
    fail(breaker, THRESHOLD)
    stored(folder).write_bytes(damaged)
    assert breaker.state().phase is Phase.CLOSED
    fail(breaker, THRESHOLD)
    assert is_open(CircuitBreaker(WHERE, folder=folder))


def symlinked(folder: Path) -> None:
    folder.with_name("elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


def opened_to_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o1777)


def no_folder(folder: Path) -> None:
    folder.touch()


def nowhere(folder: Path) -> None:
    folder.parent.rmdir()


def linked_file(folder: Path) -> None:
    set_stage(folder, Circuit())
    path = stored(folder)
    path.rename(folder.with_name("elsewhere"))
    path.symlink_to(folder.with_name("elsewhere"))


@pytest.mark.parametrize("trap", [symlinked, opened_to_all, no_folder, nowhere, linked_file])
def test_in_an_unsafe_folder_it_works_for_itself(
    tmp_path: Path, trap: Callable[[Path], None]
) -> None:
    folder = tmp_path / "parent" / "run"
    folder.parent.mkdir()
    trap(folder)
    before = sorted(tmp_path.rglob("*"))
    breaker = CircuitBreaker(WHERE, folder=folder)
    fail(breaker, THRESHOLD)
    assert is_open(breaker)
    assert not is_open(CircuitBreaker(WHERE, folder=folder)), "nothing was written there"
    assert sorted(tmp_path.rglob("*")) == before


def test_the_folder_of_another_user_is_not_trusted(folder: Path, root: None) -> None:
    del root
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    breaker = CircuitBreaker(WHERE, folder=folder)
    fail(breaker, THRESHOLD)
    assert is_open(breaker)
    assert list(folder.iterdir()) == []


def test_a_stopped_process_that_keeps_the_lock_stops_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_breaker, "_LOCK_SECONDS", 0.05)
    set_stage(folder, Circuit())
    with stored(folder).open("rb") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)
        alone = CircuitBreaker(WHERE, folder=folder)
        fail(alone, 1)
        assert alone.state().failures == 1
    assert alone.state().failures == 0, "what it learned alone is not put over the others'"


def test_where_it_keeps_its_state(tmp_path: Path) -> None:
    own = tmp_path / f"packer-fork-{os.geteuid()}"
    environ = {"TMPDIR": str(tmp_path)}
    assert runtime_folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "packer-fork"
    assert runtime_folder(environ) == own
    assert runtime_folder({**environ, "XDG_RUNTIME_DIR": "relative"}) == own
    assert runtime_folder({**environ, "XDG_RUNTIME_DIR": str(tmp_path / "missing")}) == own
    assert runtime_folder({}) == Path("/tmp") / own.name


def test_locations_have_files_of_their_own(folder: Path) -> None:
    long = f"/{'images/' * 100}"
    for location in ("/a/b", "/a%2Fb", f"{long}a", f"{long}b"):
        fail(CircuitBreaker(location, folder=folder), 1)
    assert len(list(folder.iterdir())) == 4
    assert {CircuitBreaker(f"{long}{end}", folder=folder).state().failures for end in "abc"} == {
        0,
        1,
    }


def test_who_became_another_user_does_not_write_into_the_folder_of_the_first(
    tmp_path: Path, root: None
) -> None:
    del root
    os.chown(tmp_path, 65534, 65534)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": "/t"}
    assert runtime_folder(environ) == Path("/t/packer-fork-0")


def test_threads_of_one_process_lose_no_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_breaker, "THRESHOLD", 1000)
    shared = CircuitBreaker(WHERE, folder=folder)
    threads = [threading.Thread(target=fail, args=(shared, 50)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert CircuitBreaker(WHERE, folder=folder).state().failures == 200


class Client:
    """A process that asks a breaker."""

    def __init__(self, folder: Path, timeout: float) -> None:
        script = ROOT / "tests" / "support" / "circuit_breaker_process.py"
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(folder), WHERE, str(timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def tell(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, word: str) -> str:
        self.tell(word)
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def crowd(folder: Path) -> Iterator[Callable[[int, float], list[Client]]]:
    clients: list[Client] = []

    def start(number: int, timeout: float) -> list[Client]:
        clients.extend(Client(folder, timeout) for _ in range(number))
        assert {client.answer() for client in clients} == {"ready"}
        return clients

    yield start
    for client in clients:
        client.end()


Crowd = Callable[[int, float], list[Client]]


def ask_all(clients: list[Client]) -> dict[Client, str]:
    for client in clients:
        client.tell("before")
    return {client: client.answer() for client in clients}


def test_of_eight_processes_exactly_one_probes(folder: Path, crowd: Crowd) -> None:
    clients = crowd(8, 30)
    for _ in range(25):
        set_stage(folder, due(THRESHOLD + 9))
        answers = ask_all(clients)
        assert sorted(answers.values()) == ["made"] + 7 * ["refused"]
        assert CircuitBreaker(WHERE, folder=folder).state().phase is Phase.HALF_OPEN
    (prober,) = [client for client, answer in answers.items() if answer == "made"]
    prober.ask("failed")
    assert set(ask_all(clients).values()) == {"refused"}, "its failure opened it anew"
    status = CircuitBreaker(WHERE, folder=folder).state()
    assert (status.phase, status.failures) == (Phase.OPEN, THRESHOLD + 10)
    set_stage(folder, due())
    (prober,) = [client for client, answer in ask_all(clients).items() if answer == "made"]
    prober.ask("succeeded")
    assert set(ask_all(clients).values()) == {"made"}, "its success closed it"


def test_eight_processes_fail_at_once_and_each_is_counted(folder: Path, crowd: Crowd) -> None:
    clients = crowd(8, 30)
    assert set(ask_all(clients).values()) == {"made"}
    for client in clients:
        client.tell("failed")
    assert {client.answer() for client in clients} == {"told"}
    failures = CircuitBreaker(WHERE, folder=folder).state().failures
    assert failures == THRESHOLD, "those of the others came after it was open"


def test_a_killed_prober_blocks_nobody_for_ever(folder: Path, crowd: Crowd) -> None:
    prober, *others = crowd(3, 0.5)
    set_stage(folder, due())
    assert prober.ask("before") == "made"
    prober.process.send_signal(signal.SIGKILL)
    prober.process.wait()
    assert [client.ask("before") for client in others] == ["refused", "refused"]
    second = eventually(lambda: next((c for c in others if c.ask("before") == "made"), None))
    assert second
    assert second.ask("succeeded") == "told"
    assert [client.ask("before") for client in others] == ["made", "made"]
