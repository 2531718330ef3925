"""Remembered digests: used where nothing can have changed, and nowhere else."""

import os
import time
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from packer_fork.inputs.cache import DigestCache

LONG_AGO = 1_000_000_000 * 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.json"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    return file


def digest(path: Path, file: Path) -> str:
    cache = DigestCache(path)
    found = cache.digest(str(file))
    cache.save()
    return found


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock be an hour later, so that what was just written counts as settled."""
    later = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr("packer_fork.inputs.cache.time.time_ns", lambda: later)


def remembered(path: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = msgspec.json.decode(path.read_bytes()) if path.exists() else {}
    return found


def test_settled_file_is_not_read_again(
    path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    assert digest(path, file) == sha256(b"content").hexdigest()
    known = remembered(path)
    known[str(file)][4] = "what the cache says"
    path.write_bytes(msgspec.json.encode(known))
    assert digest(path, file) == "what the cache says"
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_written_a_moment_ago_is_not_remembered(path: Path, file: Path) -> None:
    digest(path, file)
    assert remembered(path) == {}


@pytest.mark.parametrize("replaced", [False, True])
def test_same_size_and_time_but_other_content(
    path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, *, replaced: bool
) -> None:
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    settle(monkeypatch)
    digest(path, file)
    assert remembered(path)
    other = file.with_name("other") if replaced else file
    other.write_bytes(b"changed")
    os.utime(other, ns=(LONG_AGO, LONG_AGO))
    other.replace(file)
    assert digest(path, file) == sha256(b"changed").hexdigest()


@pytest.mark.parametrize("damage", [b"", b"{", b"\0\0\0", b"[]", b'{"a": [1]}', b"\xff\xfe"])
def test_damaged_cache_is_an_empty_one(
    path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    settle(monkeypatch)
    path.write_bytes(damage)
    assert digest(path, file) == sha256(b"content").hexdigest()
    assert list(remembered(path)) == [str(file)]


def test_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    assert digest(tmp_path / "no such folder" / "x", file) == sha256(b"content").hexdigest()


@pytest.mark.parametrize(
    ("every", "reports"),
    [(0.0, [(1 << 20, 3 << 20), (2 << 20, 3 << 20), (3 << 20, 3 << 20)]), (60.0, [])],
)
def test_progress_of_hashing_says_how_much_is_left(
    path: Path,
    tmp_path: Path,
    every: float,
    reports: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settle(monkeypatch)
    monkeypatch.setattr("packer_fork.inputs.cache._EVERY", every)
    for name, size in (("a", 2 << 20), ("b", 1 << 20), ("known", 4 << 20)):
        (tmp_path / name).write_bytes(bytes(size))
    digest(path, tmp_path / "known")
    found: list[tuple[int, int]] = []
    cache = DigestCache(path, lambda it: found.append((it.done, it.total)))
    names = [str(tmp_path / name) for name in ("a", "b", "known")]
    cache.ahead(names)
    assert [cache.digest(name) for name in names[:2]] == [
        sha256(bytes(2 << 20)).hexdigest(),
        sha256(bytes(1 << 20)).hexdigest(),
    ]
    cache.digest(names[2])
    assert found == reports
