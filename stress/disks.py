"""File systems of a test's own, that can be filled, cut off from their power, or broken."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import eventually, unavailable

PAGE = 4096
"""What both kinds give out room in."""

_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSHING = struct.pack("I", 2)


class Disk:
    """Something that is mounted at `point`."""

    def __init__(self, point: Path) -> None:
        self.point = point

    @property
    def states(self) -> Path:
        return self.point / "states"

    def fill(self, left: int) -> Path:
        """Take all room but `left` bytes; what is returned gives it back once removed."""
        ballast = self.point / "ballast"
        with ballast.open("wb") as file:
            eventually(lambda: self._took(file.fileno(), left))
        return ballast

    def _took(self, descriptor: int, left: int) -> bool:
        """False if somebody else took some of it meanwhile."""
        room = os.statvfs(self.point)
        size = room.f_bavail * room.f_frsize - left
        try:
            if size > 0:
                os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        return True


class Ext4(Disk):
    """ext4 in a file, with a journal of its own."""

    def __init__(self, image: Path, point: Path) -> None:
        super().__init__(point)
        self._image = image

    def mount(self) -> None:
        options = "loop,errors=remount-ro"
        _permitted("mount", "-t", "ext4", "-o", options, str(self._image), str(self.point))

    def cut_power(self) -> None:
        """What was not synced is gone with the next `again`; until then every call fails."""
        descriptor = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_FLUSHING)
        finally:
            os.close(descriptor)

    def break_down(self) -> None:
        """An error in the file system itself, upon which the kernel makes it read-only."""
        device = self.point.stat().st_dev
        block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
        (Path("/sys/fs/ext4") / block.resolve().name / "trigger_fs_error").write_text("1")

    def again(self, *, checked: bool = False) -> None:
        """Unmounted, once nobody uses it any more, and mounted; `checked`: fsck comes first.

        After a power cut the file system's own journal has to do.
        """
        eventually(lambda: _succeeds("umount", str(self.point)))
        eventually(self._is_unused, timeout=300)
        if checked:
            fsck = subprocess.run(
                ["fsck.ext4", "-f", "-y", self._image], capture_output=True, check=False
            )
            assert fsck.returncode in (0, 1), fsck  # 1: errors were mended
        self.mount()

    def _is_unused(self) -> bool:
        """Mount namespaces that were made meanwhile keep it for as long as they are there."""
        asked = ["losetup", "--associated", str(self._image)]
        return not subprocess.run(asked, capture_output=True, check=True).stdout


@contextlib.contextmanager
def ext4(folder: Path, size: int = 32 << 20) -> Iterator[Ext4]:
    image, point = folder / "disk.img", folder / "disk"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(size)
    _permitted("mkfs.ext4", "-q", "-F", str(image))
    disk = Ext4(image, point)
    disk.mount()
    try:
        yield disk
    finally:
        _put_away(point)


@contextlib.contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Disk]:
    point = folder / "memory"
    point.mkdir()
    _permitted("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(point))
    try:
        yield Disk(point)
    finally:
        _put_away(point)


def _put_away(point: Path) -> None:
    """Even while something uses it; the loop device goes with the last user."""
    if point.is_mount():
        subprocess.run(["umount", "--lazy", str(point)], check=True)


def _permitted(*command: str) -> None:
    """Run it, or say in its own words why not: in many containers even root may not do this."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        unavailable(f"{command[0]} is not installed")
    if done.returncode != 0:
        unavailable(f"not permitted here: {' '.join(command)}: {done.stderr.strip()}")


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
