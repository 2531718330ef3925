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
