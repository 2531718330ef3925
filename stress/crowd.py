"""Many at once: threads of this process, or processes forked from it, which start together."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest

from stress import recorder
from stress.checker import AnyEvent
from stress.contender import Contender
from stress.recorder import Recorder
from stress.scale import SCALES, Size
from tests.support.forks import fork
from tests.support.local_store import open_store

KINDS = ("threads", "processes")
MIXED = "mixed"
"""Every other one is a thread of this process."""

USUAL = pytest.mark.timeout(600)

Answer = tuple[int, ...]
Work = Callable[[], Answer]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """For test modules: the ``kind`` of a crowd, and how many ``times`` its usual size it has.

    ``mix`` is the kind where each of them takes long: of the usual size both are in one
    crowd, of a larger one each is by itself.
    """
    scale = SCALES[Size(metafunc.config.getoption("--scale"))]
    names = [name for name in ("kind", "mix", "times") if name in metafunc.fixturenames]
    cases: list[dict[str, str | int]] = [{"kind": kind, "mix": MIXED, "times": 1} for kind in KINDS]
    if scale.times > 1 and "times" in names:
        cases += [{"kind": kind, "mix": kind, "times": scale.times} for kind in KINDS]
    distinct = dict.fromkeys(tuple(case[name] for name in names) for case in cases)
    if names:
        # The timeouts are such that a slow machine under load keeps to them.
        larger = pytest.mark.timeout(3600 + 3 * scale.seconds)
        marks = [larger if scale.times > 1 and scale.times in case else USUAL for case in distinct]
        params = zip(distinct, marks, strict=True)
        metafunc.parametrize(names, [pytest.param(*c, id=_id(c), marks=m) for c, m in params])


def _id(case: tuple[str | int, ...]) -> str:
    return "-".join(f"x{value}" if isinstance(value, int) else value for value in case)


def together(kind: str, works: Sequence[Work]) -> list[Answer]:
    """Do all of `works` at once; what each came to. Raises if one of them did."""
    # Once, not by each process anew.
    importlib.import_module("packer_fork.stores.local.kernel_locks")
    everything = dict(enumerate(works))
    apart = {place: work for place, work in everything.items() if _is_apart(kind, place)}
    here = {place: work for place, work in everything.items() if place not in apart}
    answers = _as_processes(apart, meanwhile=partial(_as_threads, here))
    return [answers[place] for place in everything]


def _is_apart(kind: str, place: int) -> bool:
    return kind == "processes" or (kind == MIXED and place % 2 == 0)


def contend(
    kind: str, folder: Path, number: int, work: Callable[[Contender], None]
) -> list[AnyEvent]:
    """Have `number` contend for the lock in `folder`; all that they noted."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / "events"
    record = Recorder(path)

    def one() -> Answer:
        work(Contender(open_store(folder), record))
        return ()

    together(kind, [one] * number)
    return recorder.events(path)


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (an iterator would be one of them)


def _as_threads(works: Mapping[int, Work]) -> dict[int, Answer]:
    answers: dict[int, Answer] = {}
    failures: list[BaseException] = []
    gate = threading.Event()

    def run(place: int, work: Work) -> None:
        gate.wait()
        try:
            answers[place] = work()
        except BaseException as error:  # noqa: BLE001 (raised where the others end)
            failures.append(error)

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in works.items()]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    if failures:
        raise BaseExceptionGroup(f"{len(failures)} of {len(works)} threads failed", failures)
    return answers


def _as_processes(
    works: Mapping[int, Work], meanwhile: Callable[[], dict[int, Answer]]
) -> dict[int, Answer]:
    """What they came to, and what was come to here meanwhile."""
    gate, opens = os.pipe()
    with tempfile.TemporaryFile() as told, _ended() as pids:
        for place, work in works.items():
            pids.append(fork(partial(_run, place, work, gate, opens, told.fileno())))
        os.close(gate)
        os.close(opens)
        answers = meanwhile()
        failed = 0
        while pids:
            failed += os.waitpid(pids[0], 0)[1] != 0
            del pids[0]
        if failed:
            raise ChildProcessError(f"{failed} of {len(works)} processes failed")
        told.seek(0)
        lines = msgspec.json.Decoder(tuple[int, Answer]).decode_lines(told.read())
    return answers | dict(lines)


def _run(place: int, work: Work, gate: int, opens: int, told: int) -> None:
    os.close(opens)
    os.read(gate, 1)  # ends once nobody can open it any more
    answer = work()
    os.write(told, msgspec.json.encode((place, answer)) + b"\n")


@contextlib.contextmanager
def _ended() -> Iterator[list[int]]:
    """Pids of processes that do not outlive this, however it ends."""
    pids: list[int] = []
    try:
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
