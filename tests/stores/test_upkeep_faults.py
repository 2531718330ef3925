"""A disk that fails, or a kill, anywhere in compaction, backup, prune, repair and restore."""

import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from packer_fork.errors import StateError
from packer_fork.model import Change, State
from tests.support import local_states
from tests.support.forking import MAINTENANCE, Forking
from tests.support.local_states import States, lock_of, open_store
from tests.support.strace import run_traced

CALLS = ("write", "pwrite64", "fdatasync", "fsync", "rename", "unlink")
FAULTS = {"kill": "signal=SIGKILL", "error": "error=EIO"}
UPKEEP_PLACES = 6
"""Calls of each kind that are hit while the state is kept up."""
PLACES = 2
"""The same for the others."""

EACH = [
    pytest.mark.parametrize("call", CALLS),
    pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS),
]
pytestmark = pytest.mark.usefixtures("strace")

Told = list[tuple[str, int]]
Run = Callable[..., tuple[Told, str]]

_COUNTED: dict[str, Counter[str]] = {}
"""How often each call is made when nothing fails, by what is done; counted once in a process."""


@pytest.fixture
def run(forking: Forking) -> Run:
    """Runs the script in a mode; what it told, and what strace saw."""

    def run(folder: Path, mode: str, injection: str = "") -> tuple[Told, str]:
        fault = ("-e", f"inject={injection}") if injection else ()
        options = ("-e", f"trace={','.join(CALLS)}", *fault)
        done = run_traced(forking, folder.parent, MAINTENANCE, [mode, str(folder)], *options)
        assert done.returncode in (0, -signal.SIGKILL), done.err
        assert "Traceback" not in done.err
        lines = (line.split() for line in done.out.splitlines())
        return [(what, int(number)) for what, number in lines], done.calls

    return run


def counted(run: Run, made: Path, mode: str, start: str) -> Counter[str]:
    if f"{mode} {start}" not in _COUNTED:
        told, trace = run(copy(made, "whole"), mode)
        assert told
        _COUNTED[f"{mode} {start}"] = Counter(re.findall(r"^(\w+)\(", trace, re.MULTILINE))
    return _COUNTED[f"{mode} {start}"]


def each_fault(
    run: Run, made: Path, mode: str, call: str, fault: str, places: int, start: str = ""
) -> Iterator[tuple[Path, Told]]:
    """A copy of the state `made` for each place that is hit, spread over all calls of a kind.

    `start` tells states apart from which the calls of a mode differ.
    """
    count = counted(run, made, mode, start)[call]
    assert count or call == "unlink" or (mode, call) == ("put", "fdatasync")
    for number in sorted({1 + count * place // places for place in range(places)}):
        if number <= count:
            folder = copy(made, f"{number}")
            told, trace = run(folder, mode, f"{call}:{fault}:when={number}")
            assert "INJECTED" in trace or "killed by SIGKILL" in trace
            yield folder, told


def copy(made: Path, name: str) -> Path:
    """`made` and all that lies beside it."""
    place = made.parent.with_name(f"{made.parent.name}.{name}")
    shutil.copytree(made.parent, place)
    return place / made.name


def state_of(folder: Path) -> State:
    state = open_store(folder).read()
    assert state is not None
    return state


def assert_sound_and_goes_on(folder: Path) -> None:
    assert open_store(folder).verify().problems == ()
    last = state_of(folder).serial
    assert min(local_states.grow(folder, range(90, 91))) == last + 1
    with lock_of(open_store(folder)) as lock:
        lock.discard_unused()
    verified = open_store(folder).verify()
    assert (verified.problems, verified.unused) == ((), ())


def assert_kept(folder: Path, made: States, told: Told, *, lost: frozenset[int]) -> None:
    """Every change that was acknowledged is in the history, as it was, unless it is `lost`."""
    found = {change.serial: (change.why, digest) for change, digest in changes(folder)}
    assert len(found) == len(list(changes(folder))), "none comes twice"
    for serial, state in made.items():
        assert serial in lost or found[serial][1] == state.prev, serial
    for what, serial in told:
        if what not in {"pruning", "repaired", "put"}:
            assert found[serial][0] == what


def changes(folder: Path) -> Iterator[tuple[Change, str]]:
    return local_states.changes(open_store(folder))


@EACH[0]
@EACH[1]
def test_no_fault_in_upkeep_loses_or_damages_anything(
    tmp_path: Path, run: Run, call: str, fault: str
) -> None:
    folder = tmp_path / "root" / "default"
    made = local_states.small(folder)
    for each, told in each_fault(run, folder, "keep_up", call, fault, UPKEEP_PLACES):
        pruned = max((number for what, number in told if what == "pruning"), default=0)
        state = state_of(each)
        assert state.serial >= max(made)
        assert_kept(each, made, told, lost=frozenset(range(1, pruned + 1)))
        kept = [Path(backup.path) for backup in open_store(each).backups()]
        assert [path for path in kept if "-manual-" in path.name], "it was asked for"
        assert_sound_and_goes_on(each)


@EACH[0]
@EACH[1]
def test_a_repair_that_is_cut_short_can_be_done_again(
    tmp_path: Path, run: Run, call: str, fault: str
) -> None:
    folder = tmp_path / "root" / "default"
    made = local_states.small(folder, backup=False)
    state = folder / "state.json"
    lines = state.read_bytes().splitlines(keepends=True)
    local_states.flip(state, len(b"".join(lines[:2])) + 100)
    middle = local_states.segments_by_serial(folder)[4]
    local_states.flip(middle, 500)
    for each, told in each_fault(run, folder, "repair", call, fault, PLACES):
        repair_if_damaged(each)
        assert_kept(each, made, told, lost=frozenset({3, 4, 8, 9}))
        assert state_of(each).serial > max(made)
        aside = {path.read_bytes() for path in each.glob("backups/damaged-*/*")}
        assert {state.read_bytes(), middle.read_bytes()} <= aside
        assert_sound_and_goes_on(each)


def repair_if_damaged(folder: Path) -> None:
    if open_store(folder).verify().problems:
        with lock_of(open_store(folder), even_damaged=True) as lock:
            lock.repair()


@pytest.mark.parametrize("before", ["nothing", "damaged"])
@EACH[0]
@EACH[1]
def test_a_restore_that_is_cut_short_can_be_done_again(
    tmp_path: Path, run: Run, call: str, fault: str, before: str
) -> None:
    folder, source = tmp_path / "root" / "default", tmp_path / "root" / "source"
    local_states.small(source)
    with lock_of(open_store(source)) as lock:
        lock.compact()
    if before == "damaged":
        local_states.grow(folder, range(1, 9))
        local_states.flip(folder / "state.json", 30)
    else:
        folder.mkdir()
    for each, told in each_fault(run, folder, "put", call, fault, PLACES - 1, before):
        if "put" not in dict(told):
            put_again(each, source)
        then, now = state_of(source), state_of(each)
        assert (now.lineage, now.key) == (then.lineage, then.key)
        assert set(then.builds) <= set(now.builds)
        old = list(changes(source))
        assert list(changes(each))[-len(old) :] == old
        for what, serial in told:
            assert now.serial >= serial, what
        if before == "damaged":
            aside = {path.read_bytes() for path in each.glob("backups/damaged-*/*")}
            assert (folder / "state.json").read_bytes() in aside
        assert_sound_and_goes_on(each)


def put_again(folder: Path, source: Path) -> None:
    """As `state restore` does where there is no sound state yet."""
    try:
        if open_store(folder).read() is not None:
            return
    except StateError:
        pass
    with lock_of(open_store(folder), even_damaged=True) as lock:
        for _, data in open_store(source).segments(state_of(source)):
            lock.put_segment(data)
        lock.put(state_of(source))
