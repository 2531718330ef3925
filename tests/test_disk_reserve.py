"""The reserve behind a file: what is appended on a full disk, and how a full disk is noticed."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from packer_fork import disk_reserve
from packer_fork.disk_reserve import RESERVE, SMALLEST_RESERVE, DiskReserve
from tests.conftest import unavailable

pytestmark = pytest.mark.processes

LINE = b"x" * 777


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=4M", "none", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"not permitted here: {' '.join(command)}: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.fixture
def descriptor(disk: Path) -> Iterator[int]:
    descriptor = os.open(disk / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    yield descriptor
    os.close(descriptor)


def fill(disk: Path) -> int:
    """Use up every free block; the bytes of the filler."""
    filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with contextlib.suppress(OSError):
        while True:
            os.write(filler, bytes(4096))
    size = os.fstat(filler).st_size
    os.close(filler)
    assert os.statvfs(disk).f_bavail == 0
    return size


def test_reserve_takes_appends_on_a_full_disk(disk: Path, descriptor: int) -> None:
    reserve = DiskReserve(descriptor)
    assert reserve.top_up()
    assert os.fstat(descriptor).st_size == 0
    fill(disk)
    for _ in range(RESERVE // len(LINE)):
        assert os.write(descriptor, LINE) == len(LINE)


def test_full_disk_is_noticed_while_half_of_the_reserve_is_left(
    disk: Path, descriptor: int
) -> None:
    reserve = DiskReserve(descriptor)
    assert reserve.top_up()
    fill(disk)
    written = 0
    while reserve.top_up():
        written += os.write(descriptor, LINE)
    assert RESERVE // 2 - len(LINE) <= written <= RESERVE // 2 + len(LINE)


def test_reserve_is_topped_up_while_there_is_room(disk: Path, descriptor: int) -> None:
    reserve = DiskReserve(descriptor)
    for _ in range(2 * RESERVE // len(LINE)):
        assert reserve.top_up()
        os.write(descriptor, LINE)
    fill(disk)
    os.write(descriptor, bytes(RESERVE // 2))


def test_small_disk_gives_a_smaller_reserve(disk: Path, descriptor: int) -> None:
    size = fill(disk)
    assert not DiskReserve(descriptor).top_up()
    os.truncate(disk / "filler", size - 2 * SMALLEST_RESERVE)
    assert DiskReserve(descriptor).top_up()


def test_released_reserve_is_free_again(disk: Path, descriptor: int) -> None:
    reserve = DiskReserve(descriptor)
    assert reserve.top_up()
    os.write(descriptor, LINE)
    reserve.release()
    assert fill(disk) > 4 * RESERVE - 2 * SMALLEST_RESERVE
    assert os.fstat(descriptor).st_size == len(LINE)


def test_free_space_decides_where_nothing_can_be_reserved(
    disk: Path, descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_reserve, "_fallocate", lambda: disk_reserve._unsupported)
    assert DiskReserve(descriptor).top_up()
    fill(disk)
    assert not DiskReserve(descriptor).top_up()
