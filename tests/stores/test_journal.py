"""state.json under everything that may happen to it."""

import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from packer_fork.codec.builds import decode_build
from packer_fork.codec.compression import ZSTD_MAGIC
from packer_fork.codec.statefile import StateFile
from packer_fork.errors import DamagedError, NewerFormatError, StateError, UsageError
from packer_fork.model import (
    MAX_METADATA_DEPTH,
    Build,
    Instance,
    Late,
    PendingChange,
    Run,
    WorkItem,
)
from packer_fork.stores.local import journal, mutex
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.reader import judge
from tests.support.hammer import BY, acknowledged, commit, committed, empty, ignore, open_journal


def write(folder: Path, *builds: Build) -> int:
    with mutex.held(Layout(folder).mutex, ignore):
        draft = PendingChange(operation="test", builds={build.name: build for build in builds})
        return open_journal(folder).commit(draft, token=1, by=BY).serial


def read_build(folder: Path, name: str) -> Build:
    file = open_journal(folder).read()
    assert file is not None
    return decode_build(file.state.builds[name])


def test_nothing_is_there_before_the_first_change(tmp_path: Path) -> None:
    assert open_journal(tmp_path).read() is None


def test_changes_are_read_back_in_order(tmp_path: Path) -> None:
    assert [commit(tmp_path, open_journal(tmp_path), f"m{n}") for n in range(5)] == [1, 2, 3, 4, 5]
    assert committed(tmp_path) == {n + 1: f"m{n}" for n in range(5)}


def test_older_token_commits_nothing_after_a_newer_one(tmp_path: Path) -> None:
    """The journal refuses it by itself, whatever else holds a closed lock back."""
    here = open_journal(tmp_path)
    with mutex.held(Layout(tmp_path).mutex, ignore):
        here.commit(PendingChange(operation="test", why="new"), token=2, by=BY)
        for one in (here, open_journal(tmp_path)):
            with pytest.raises(StateError, match="HeldLock 1 is older than 2"):
                one.commit(PendingChange(operation="test", why="old"), token=1, by=BY)
    assert committed(tmp_path) == {1: "new"}


@pytest.mark.processes
def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    folder, notes = tmp_path / "state", tmp_path / "notes"
    folder.mkdir()
    notes.mkdir()
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.support.hammer", str(folder), str(notes), "150"]
    subprocess.run(command, cwd=root, check=True)
    noted, found = acknowledged(notes), committed(folder)
    assert len(noted) > 30
    assert not {serial: mark for serial, mark in noted.items() if found.get(serial) != mark}
    assert sorted(found) == list(range(1, max(found) + 1))
    assert any(path.name.startswith("reader") for path in notes.iterdir())
    assert list((folder / "history").iterdir())


def test_threads_write_and_read_as_processes_do(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            own = open_journal(tmp_path)
            for step in range(20):
                serial = commit(tmp_path, own, f"{number}.{step}")
                file = own.read()
                assert file is not None
                assert file.state.serial >= serial
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(committed(tmp_path).values())) == 16 * 20


def test_a_torn_tail_is_ignored_and_then_replaced(tmp_path: Path) -> None:
    commit(tmp_path, open_journal(tmp_path), "whole")
    state = tmp_path / "state.json"
    with state.open("ab") as file:
        file.write(b'{"serial":2,"id":"half')
    inode = state.stat().st_ino
    assert committed(tmp_path) == {1: "whole"}
    assert state.read_bytes().endswith(b"half"), "readers never write"
    commit(tmp_path, open_journal(tmp_path), "next")
    assert committed(tmp_path) == {1: "whole", 2: "next"}
    assert state.stat().st_ino != inode, "a torn inode is never appended to"


def test_a_change_that_was_written_but_not_acknowledged_may_stay(tmp_path: Path) -> None:
    commit(tmp_path, open_journal(tmp_path), "one")
    before = (tmp_path / "acked").read_bytes()
    commit(tmp_path, open_journal(tmp_path), "two")
    (tmp_path / "acked").write_bytes(before)
    assert committed(tmp_path) == {1: "one", 2: "two"}
    commit(tmp_path, open_journal(tmp_path), "three")
    assert committed(tmp_path) == {1: "one", 2: "two", 3: "three"}


@pytest.mark.parametrize("compressed", [False, True])
def test_every_flipped_bit_and_every_cut_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, compressed: bool
) -> None:
    if compressed:
        monkeypatch.setattr(journal, "COMPRESSED_SIZE", 1)
    for number in range(3):
        write(tmp_path, Build(name=f"b{number}"))
    with mutex.held(Layout(tmp_path).mutex, ignore):
        open_journal(tmp_path).compact()
    write(tmp_path, Build(name="last"))
    state = tmp_path / "state.json"
    whole = state.read_bytes()
    assert whole.startswith(ZSTD_MAGIC) is compressed
    good = open_journal(tmp_path).read()
    whole_lines = _lines(whole, state)
    for offset in range(len(whole)):
        flipped = bytearray(whole)
        flipped[offset] ^= 1 << (offset % 8)
        # zstd has a bit that means nothing, and one that drops the checksum of the last
        # frame, whose line has its own: whatever is not refused must read as the whole
        harmless = compressed and not _is_refused(bytes(flipped), state)
        assert _is_refused(bytes(flipped), state) or harmless, f"bit {offset % 8}, byte {offset}"
        assert not harmless or _lines(bytes(flipped), state) == whole_lines
        assert _is_refused(whole[:offset], state), f"cut at {offset}"
    assert _judged(whole, state) == good


def _judged(data: bytes, path: Path) -> StateFile | None:
    """What a reader makes of `data`, without waiting for a second look to agree."""
    witness = (path.parent / "acked").read_bytes()
    return judge(witness, data, Layout(path.parent))


def _lines(data: bytes, path: Path) -> list[str]:
    file = _judged(data, path)
    assert file is not None
    return [line.digest for line in file.lines]


def _is_refused(data: bytes, path: Path) -> bool:
    try:
        _judged(data, path)
    except StateError:
        return True
    return False


def test_swapped_and_dropped_lines_are_found(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path, Build(name=f"b{number}"))
    state = tmp_path / "state.json"
    lines = state.read_bytes().splitlines(keepends=True)
    for index in range(1, len(lines)):
        dropped = b"".join(lines[:index] + lines[index + 1 :])
        assert _is_refused(dropped, state)
    for index in range(len(lines) - 1):
        swapped = [*lines]
        swapped[index], swapped[index + 1] = swapped[index + 1], swapped[index]
        assert _is_refused(b"".join(swapped), state)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\0" * 300, "null bytes"),
        (b"null", "state.json"),
        (b"{corrupted", "state.json"),
        (b'{"version":1,"serial":1}', "state.json"),
        (b"\xff\xfe\x00", "state.json"),
        (b"[" * 100_000, "state.json"),
        (
            b'{"version":1,"serial":1,"lineage":"x","template":{"path":"t"},"builds":{},"x":1}',
            "byte 0",
        ),
    ],
)
def test_what_is_no_state_is_named_and_left_alone(tmp_path: Path, data: bytes, says: str) -> None:
    state = tmp_path / "state.json"
    state.write_bytes(data)
    with pytest.raises(DamagedError, match=says) as caught:
        open_journal(tmp_path).read()
    assert caught.value.exit_code == 10
    with pytest.raises(DamagedError):
        commit(tmp_path, open_journal(tmp_path), "never")
    assert state.read_bytes() == data


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_bytes(b'{"version":3,"serial":1,"what":"ever"}\n')
    with pytest.raises(NewerFormatError, match="version 3"):
        commit(tmp_path, open_journal(tmp_path), "never")
    assert b"ever" in state.read_bytes()


def test_a_missing_state_is_no_empty_one(tmp_path: Path) -> None:
    commit(tmp_path, open_journal(tmp_path), "one")
    (tmp_path / "state.json").unlink()
    with pytest.raises(DamagedError, match="serial 1 was acknowledged"):
        open_journal(tmp_path).read()
    with pytest.raises(DamagedError):
        commit(tmp_path, open_journal(tmp_path), "never")


def test_a_damaged_witness_is_named(tmp_path: Path) -> None:
    commit(tmp_path, open_journal(tmp_path), "one")
    acked = tmp_path / "acked"
    acked.write_bytes(acked.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(DamagedError, match="acked"):
        open_journal(tmp_path).read()


@pytest.mark.parametrize("indent", [None, 2])
def test_a_minimal_document_loads_and_becomes_a_proper_one(
    tmp_path: Path, indent: int | None
) -> None:
    document = {
        "version": 1,
        "serial": 7,
        "lineage": "by-hand",
        "template": {"path": "t.pkr.hcl"},
        "builds": {"a": {"name": "a", "status": "complete"}},
    }
    data = msgspec.json.encode(document)
    (tmp_path / "state.json").write_bytes(msgspec.json.format(data, indent=indent or 0))
    assert read_build(tmp_path, "a").status == "complete"
    assert write(tmp_path, Build(name="b")) == 8
    file = open_journal(tmp_path).read()
    assert file is not None
    assert file.canonical
    assert (file.state.lineage, list(file.state.builds)) == ("by-hand", ["a", "b"])


def test_a_build_can_be_taken_away(tmp_path: Path) -> None:
    write(tmp_path, Build(name="a"), Build(name="b"))
    with mutex.held(Layout(tmp_path).mutex, ignore):
        draft = PendingChange(operation="test", builds={"a": None})
        open_journal(tmp_path).commit(draft, token=1, by=BY)
    file = open_journal(tmp_path).read()
    assert file is not None
    assert list(file.state.builds) == ["b"]


STRANGE = [
    "",
    "   ",
    "\x00\x01\x1b[31mred\x1b[0m\x7f",
    "[bold]not bold[/bold]",
    "<script>alert('&amp;')</script>",
    "\"quotes\" 'and' `ticks` \\ back",
    "многоязычный 日本語 🎉 e\u0301 \u202e",
    "line\nbreak\ttab\r",
    "x" * 10_000,
    '{"digest":"0"}',
]


@pytest.mark.parametrize("text", STRANGE, ids=range(len(STRANGE)))
def test_any_text_is_stored_exactly(tmp_path: Path, text: str) -> None:
    build = Build(name=text, error=text, metadata={text: [text]})
    write(tmp_path, build)
    assert read_build(tmp_path, text) == build


def _nested(levels: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(levels - 1):
        value = {"k": value}
    return value


def test_metadata_may_be_nested_up_to_the_bound(tmp_path: Path) -> None:
    for levels in (100, MAX_METADATA_DEPTH):
        build = Build(name=f"deep{levels}", metadata=_nested(levels))
        write(tmp_path, build)
        assert read_build(tmp_path, build.name) == build
    with pytest.raises(UsageError, match="nested deeper than 200"):
        write(tmp_path, Build(name="deeper", metadata=_nested(MAX_METADATA_DEPTH + 1)))
    file = open_journal(tmp_path).read()
    assert file is not None
    assert "deeper" not in file.state.builds


_DEEP = _nested(MAX_METADATA_DEPTH + 1)
_RUN = Run(number=1, token=1, started=datetime.now(UTC), by=BY)
_ITEM = WorkItem(run=1, number=1, token=1, started=datetime.now(UTC), by=BY)
_LATE = Build(name="b", metadata=_DEEP)
_STOWED = Build(name="b", leftovers=(Instance(id="i", metadata=_DEEP),))


@pytest.mark.parametrize(
    "draft",
    [
        PendingChange(operation="test", builds={"b": msgspec.Raw(b"5")}),
        PendingChange(operation="test", builds={"b": msgspec.Raw(b'{"name":"b","unknown":1}')}),
        PendingChange(operation="test", builds={"b": msgspec.Raw(msgspec.json.encode(_LATE))}),
        PendingChange(operation="test", builds={"b": _STOWED}),
        PendingChange(
            operation="test", late=Late(lineage="test", run=_RUN, item=_ITEM, builds={"b": _LATE})
        ),
    ],
    ids=["no build", "unknown key", "deep document", "deep leftover", "deep late result"],
)
def test_what_could_not_be_read_again_is_not_stored(tmp_path: Path, draft: PendingChange) -> None:
    here = open_journal(tmp_path)
    commit(tmp_path, here, "before")
    before = (tmp_path / "state.json").read_bytes()
    with pytest.raises(UsageError), mutex.held(tmp_path / "mutex", ignore):
        here.commit(draft, token=1, by=BY)
    assert (tmp_path / "state.json").read_bytes() == before
    assert commit(tmp_path, here, "after") == 2


def test_a_state_of_rest_is_one_document(tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path, Build(name=f"b{number}"))
    with mutex.held(Layout(tmp_path).mutex, ignore):
        open_journal(tmp_path).compact(at_rest=True)
    document = msgspec.json.decode((tmp_path / "state.json").read_bytes())
    assert document["serial"] == 10
    assert len(document["builds"]) == 10
    assert sorted(committed(tmp_path)) == list(range(1, 11))


def test_descriptors_do_not_leak(tmp_path: Path) -> None:
    here = open_journal(tmp_path)
    commit(tmp_path, here, "warm")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(200):
        commit(tmp_path, here, f"{number}")
        here.read()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_an_empty_state_has_serial_zero() -> None:
    assert empty().serial == 0
