"""What all tests share: real Packer, a project folder, the command line as a process.

Every process started through `cli` carries a mark of its test in its environment, and
so does all that it starts, in whatever session: teardown ends what still bears it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, NoReturn, TypeVar

import pytest

from packer_fork import processes
from packer_fork.processes import Process
from tests.support import packer_versions
from tests.support.forking import PACKER_FORK, Forked, Forking, command
from tests.support.snapshots import Snapshots

EXAMPLES = Path(__file__).parent / "examples"
MARK = "PROCESS_OF_TEST"
INTERPRETER = {"LANG": "C.UTF-8"}

REAL_PARTS = frozenset(
    (
        *("cli", "packer", "strace", "root", "forking", "stage"),
        *("etcd_server", "consul_server", "s3_server", "ground", "shared", "cluster", "controlled"),
        *("team", "site", "dead", "crowd", "limited", "secured", "lab"),
    )
)
"""Fixtures that stand for Packer, servers, or other processes."""

T = TypeVar("T")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--packer", metavar="PATH", help="Run the tests with this Packer.")


def pytest_configure(config: pytest.Config) -> None:
    """Put the Packer of `--packer` first on PATH, for tests and for what they start."""
    path = config.getoption("--packer")
    if not path:
        return
    if not os.access(path, os.X_OK) or Path(path).is_dir():
        raise pytest.UsageError(f"--packer {path}: no such program")
    folder = tempfile.mkdtemp(prefix="pf-packer-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    (Path(folder) / "packer").symlink_to(Path(path).absolute())
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def pytest_report_header() -> str:
    return f"packer: {packer_versions.version_text() or 'none on PATH'}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `quick` each test that starts no process."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if not fixtures & REAL_PARTS and item.get_closest_marker("processes") is None:
            item.add_marker("quick")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Keep `make quick` quick: a test that starts a process has to say so."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("quick"):
            patch.setattr(subprocess.Popen, "__init__", _refuse_process)
            patch.setattr(os, "fork", _refuse_process)
        return (yield)


def _refuse_process(*_: object, **__: object) -> NoReturn:
    pytest.fail("this test starts a process: mark it with pytest.mark.processes")


def eventually(predicate: Callable[[], T], timeout: float = 30) -> T:
    """The first true result of `predicate`; fails after `timeout` seconds without one.

    Asking takes at most a fifth of the time, so that what is awaited has the processor.
    """
    deadline = time.monotonic() + timeout
    asked = time.monotonic()
    while not (result := predicate()):
        now = time.monotonic()
        assert now < deadline, f"not within {timeout} s: {predicate}"
        time.sleep(min(0.1, max(0.005, 4 * (now - asked))))
        asked = time.monotonic()
    return result


def freeze(pid: int) -> None:
    """Stop a process; one of its threads may run on until all have stopped."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: _has_stopped(pid))


def _has_stopped(pid: int) -> bool:
    """Whether no thread of a process runs any more; field 3 of proc_pid_stat(5)."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(") ")[2].startswith("T") for stat in stats)


def _hear_signals_again() -> None:
    """Whoever was started by nohup, or behind a shell's &, ignores them, and so would a build."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


_hear_signals_again()


class Result(NamedTuple):
    """How a command ended, and all that it wrote."""

    rc: int
    out: str
    err: str


class Project(NamedTuple):
    """A folder with templates, outside of any git checkout."""

    root: Path

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def example(self, name: str) -> Path:
        """A copy of tests/examples/NAME in the project's root, which is returned."""
        return shutil.copytree(EXAMPLES / name, self.root, dirs_exist_ok=True)


class Running(NamedTuple):
    """A command under way, in a session of its own: its pid is its process group too."""

    process: Forked | subprocess.Popen[bytes]
    stdout: Path
    stderr: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def out(self) -> str:
        return _read(self.stdout)

    def err(self) -> str:
        return _read(self.stderr)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 60) -> Result:
        try:
            rc = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still runs after {timeout} s\n{self.out()}\n{self.err()}")
        return Result(rc, self.out(), self.err())


class Cli(NamedTuple):
    """packer-fork as its users run it, in `cwd`, with nothing of the caller's environment."""

    cwd: Path
    files: Path
    environment: Mapping[str, str]
    started: list[Forked | subprocess.Popen[bytes]]
    forking: Forking
    snapshots: Snapshots

    def cached(self, *args: str | Path, env: Mapping[str, str] | None = None) -> Result:
        """As a call, for what a test begins with: files and result are copied from the last
        call in this worker that began with the same files, arguments and environment.
        """
        environ = {**self.environment, **(env or {})}
        words = ["packer-fork", *map(str, args)]
        return self.snapshots.result(words, self.cwd, environ, lambda: self(*args, env=env))

    def prepared(self, name: str, make: Callable[[], T]) -> T:
        """As `cached`, for what `make` does, which goes by `name`."""
        return self.snapshots.result([name], self.cwd, self.environment, make)

    def __call__(
        self,
        *args: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        under: Sequence[str] = (),
        timeout: float = 60,
    ) -> Result:
        return self.start(*args, cwd=cwd, env=env, stdin=stdin, under=under).wait(timeout)

    def start(
        self,
        *args: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        under: Sequence[str] = (),
    ) -> Running:
        """Start it in the background; `under` is a command that it is run by (strace, unshare)."""
        words, folder = [*map(str, args)], self._streams(stdin)
        place, environ = cwd or self.cwd, {**self.environment, **(env or {})}
        process: Forked | subprocess.Popen[bytes]
        with _opened(folder) as (fed, told, warned):
            if under or not self.forking.can(environ):
                process = subprocess.Popen(
                    [*under, sys.executable, "-m", "packer_fork", *words],
                    cwd=place,
                    env=environ,
                    stdin=fed,
                    stdout=told,
                    stderr=warned,
                    start_new_session=True,
                )
            else:
                streams = [fed.fileno(), told.fileno(), warned.fileno()]
                process = self.forking.start(command(PACKER_FORK, words, place, environ), streams)
        self.started.append(process)
        return Running(process, folder / "out", folder / "err")

    def _streams(self, stdin: str) -> Path:
        """A folder for what a command reads and writes."""
        folder = Path(tempfile.mkdtemp(dir=self.files))
        (folder / "in").write_text(stdin, encoding="utf-8")
        return folder

    def end_all(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        _kill_all(f"{MARK}={self.environment[MARK]}".encode())


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[tuple[IO[bytes], IO[bytes], IO[bytes]]]:
    with (
        (folder / "in").open("rb") as fed,
        (folder / "out").open("wb") as told,
        (folder / "err").open("wb") as warned,
    ):
        yield fed, told, warned


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def descendants(pid: int) -> list[Process]:
    """Children of `pid`, their children, and so on; without `pid` itself."""
    return processes.below({pid}, processes.all_processes())


def unavailable(reason: str) -> NoReturn:
    """A part that cannot be had here: the test is skipped, but fails on CI, which must have it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def packer() -> Path:
    """The real Packer; without it a test is skipped, but fails on CI."""
    found = shutil.which("packer")
    if found:
        return Path(found)
    unavailable("packer is not on PATH: run .ci/ensure-packer")


@pytest.fixture(scope="session")
def strace() -> None:
    """For faults in system calls."""
    if shutil.which("strace") is None:
        unavailable("strace is not installed: run .ci/ensure-test-tools")


@pytest.fixture(scope="session")
def root() -> None:
    """For mounts, and for becoming somebody else."""
    if os.geteuid() != 0:
        unavailable("only root may do this")


@pytest.fixture(scope="session")
def worker_folder() -> Iterator[Path]:
    """A folder for each worker, with a short path."""
    with tempfile.TemporaryDirectory(prefix="pf-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def fixed_folder(worker_folder: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder that has the same path in each test of a worker, so that states can be copied.

    After the test it is found below `tmp_path`.
    """
    folder = worker_folder / "fixed"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.move(folder, tmp_path / "fixed")


@pytest.fixture
def project(fixed_folder: Path) -> Project:
    root = fixed_folder / "project"
    root.mkdir()
    return Project(root)


@pytest.fixture(scope="session")
def snapshots(worker_folder: Path) -> Snapshots:
    return Snapshots(worker_folder / "fixed", worker_folder)


@pytest.fixture(scope="session")
def forking() -> Iterator[Forking]:
    """One for each worker."""
    with tempfile.TemporaryDirectory(prefix="pf-") as folder:
        found = Forking(Path(folder), {"PATH": os.environ["PATH"], **INTERPRETER})
        yield found
        found.close()


@pytest.fixture
def cli(
    tmp_path: Path,
    fixed_folder: Path,
    project: Project,
    forking: Forking,
    snapshots: Snapshots,
) -> Iterator[Cli]:
    mark = f"{os.getpid()}:{tmp_path}"
    # Short, as Packer puts sockets there, whose paths may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="pf-", ignore_cleanup_errors=True) as scratch:
        environment = _environment(fixed_folder, scratch, mark, forking.folder)
        cli = Cli(project.root, tmp_path, environment, [], forking, snapshots)
        yield cli
        cli.end_all()


def _environment(folder: Path, scratch: str, mark: str, cache: Path) -> dict[str, str]:
    home = folder / "home"
    home.mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_CACHE_HOME": str(cache),
        "TMPDIR": scratch,
        **INTERPRETER,
        "NO_COLOR": "1",
        "CHECKPOINT_DISABLE": "1",
        "PACKER_CACHE_DIR": str(home / "cache"),
        "GOGC": "off",  # Packer's runs are short here: a fifth of them is collecting garbage
        MARK: mark,
    }


def _kill_all(entry: bytes) -> None:
    """Kill until none is left: a process may start another one while it is being looked for."""

    def none_left() -> bool:
        pids = _marked(entry)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    eventually(none_left)


def _marked(entry: bytes) -> list[int]:
    pids = (name for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 (of all tests)
    return [int(pid) for pid in pids if entry in _environ(pid).split(b"\0")]


def _environ(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123 (as above)
            return file.read()
    except OSError:
        return b""  # it has ended, or is another user's
