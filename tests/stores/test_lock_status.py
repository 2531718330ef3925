"""What the lock is said to be, from every point of view, of a holder that is a real process."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from packer_fork.locks import LockStatus
from packer_fork.stores.local import filesystem
from packer_fork.stores.local.kernel_locks import KernelLocks
from packer_fork.stores.local.layout import Layout
from tests.conftest import eventually, unavailable
from tests.support.local_store import holder, open_store
from tests.support.stage import Player, Stage

NOBODY = "65534"
Mount = Callable[..., Path]


@pytest.fixture
def held(stage: Stage) -> Player:
    player = stage.enter()
    assert player.ask("take")["lock"] == 1
    return player


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts at a new folder by a command line, where that is permitted."""
    points: list[Path] = []

    def mount(*command: str) -> Path:
        point = tmp_path / f"mount{len(points)}"
        point.mkdir()
        _permitted(*command, str(point))
        points.append(point)
        return point

    yield mount
    for point in points:
        subprocess.run(["umount", "--lazy", str(point)], check=True)


def _permitted(*command: str) -> None:
    """Run it, or say in its own words why not: in many containers even root may not do this."""
    if shutil.which(command[0]) is None:
        unavailable(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        unavailable(f"not permitted here: {' '.join(command)}: {done.stderr.strip()}")


def status_of(folder: Path) -> str:
    return str(open_store(folder).status().status)


def record(stage: Stage) -> Any:
    return json.loads((stage.folder / "lock").read_text())


def kill_with_packer(stage: Stage, player: Player) -> None:
    """Its Packer outlives it for a moment, in which the lock is orphaned."""
    packer = stage.packer(player)
    player.kill()
    assert status_of(stage.folder) == "orphaned"
    os.kill(packer, signal.SIGKILL)
    eventually(lambda: status_of(stage.folder) == "abandoned")


def test_the_same_host_sees_who_holds_it(stage: Stage, held: Player) -> None:
    status = open_store(stage.folder).status()
    assert status.status == "held"
    assert [process.pid for process in status.processes] == [held.pid]
    assert "holds the kernel lock" in status.evidence[0]


def test_each_verdict_in_the_life_of_a_lock(stage: Stage) -> None:
    assert status_of(stage.folder) == "free"
    player = stage.enter()
    player.ask("take")
    assert status_of(stage.folder) == "held"
    player.ask("close")
    assert status_of(stage.folder) == "free"
    player.ask("take")
    kill_with_packer(stage, player)
    heir = stage.enter()
    assert heir.ask("take")["replaced"] == "abandoned"
    assert status_of(stage.folder) == "held"


@pytest.mark.parametrize(
    "under",
    [
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"],
        ["unshare", "--user", "--map-root-user"],
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"],
        ["unshare", "--uts", "--ipc", "--net"],
    ],
    ids=["pid namespace", "user namespace", "user and pid namespace", "other host name"],
)
def test_another_namespace_sees_the_same(stage: Stage, held: Player, under: list[str]) -> None:
    _permitted(*under, "true")
    other = stage.enter(under=under)
    assert other.ask("status")["status"] == "held"
    assert other.ask("take")["refused"] == "held"
    held.kill()
    assert other.ask("status")["status"] == "abandoned"
    assert other.ask("take")["replaced"] == "abandoned"
    assert status_of(stage.folder) == "held", "and from here the other way round"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        yield Path(place) / "t.pkr.hcl" / "default"


def readable(folder: Path) -> None:
    for path in (folder.parent, *folder.parent.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.usefixtures("root")
def test_another_user_without_access_to_the_processes(stage: Stage, open_folder: Path) -> None:
    other, holder = stage.enter(open_folder), stage.enter(open_folder)
    holder.ask("take")
    packer = stage.packer(holder)
    readable(open_folder)
    other.ask("become", NOBODY)
    environ = subprocess.run(["cat", f"/proc/{holder.pid}/environ"], check=False, user=int(NOBODY))
    assert environ.returncode != 0
    assert other.ask("status")["status"] == "held"
    holder.kill()
    assert other.ask("status")["status"] == "orphaned"
    os.kill(packer, signal.SIGKILL)
    eventually(lambda: other.ask("status")["status"] == "abandoned")
    refused = other.ask("take")
    assert refused["error"] == "StoreError"
    assert str(open_folder) in refused["message"]


@pytest.mark.usefixtures("root")
def test_who_may_not_read_the_folder_is_told_so(stage: Stage, open_folder: Path) -> None:
    other, holder = stage.enter(open_folder), stage.enter(open_folder)
    holder.ask("take")
    other.ask("become", NOBODY)
    refused = other.ask("status")
    assert refused["error"] == "StoreError"
    assert str(open_folder) in refused["message"]


def test_after_a_reboot_a_free_kernel_lock_is_proof_enough(stage: Stage, held: Player) -> None:
    held.kill()
    document = record(stage)
    document["participants"][0]["holder"]["process"]["boot"] = (
        "00000000-0000-0000-0000-000000000000"
    )
    document["participants"][0]["holder"]["process"]["pid"] = (
        os.getpid()
    )  # a pid that lives, and is another's now
    (stage.folder / "lock").write_text(json.dumps(document))
    status = open_store(stage.folder).status()
    assert status.status == "abandoned"
    assert status.processes == ()


def test_a_copied_folder_is_another_lock(stage: Stage, held: Player, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "default"
    copy.parent.mkdir()
    subprocess.run(["cp", "-a", stage.folder, copy], check=True)
    assert status_of(copy) == "abandoned", "nobody holds the copy's inodes"
    heir = stage.enter(copy)
    assert heir.ask("take")["replaced"] == "abandoned"
    assert status_of(stage.folder) == "held"
    assert held.ask("commit", "still ours")["serial"] == 1


def test_a_copy_without_the_lock_proves_nothing(stage: Stage, held: Player) -> None:
    copy = stage.folder.parent / "copy"
    shutil.copytree(stage.folder, copy, ignore=shutil.ignore_patterns("locks"))
    assert status_of(copy) == "unknown"
    assert held.ask("commit", "still ours")["serial"] == 1


def assert_as_on_a_local_disk(stage: Stage, folder: Path) -> None:
    player = stage.enter(folder)
    player.ask("take")
    assert status_of(folder) == "held"
    player.ask("commit", "a change")
    player.kill()
    assert status_of(folder) == "abandoned"
    heir = stage.enter(folder)
    assert heir.ask("take")["replaced"] == "abandoned"
    heir.kill()


def test_tmpfs_is_local(stage: Stage, mount: Mount) -> None:
    place = mount("mount", "-t", "tmpfs", "none")
    assert filesystem.type_of(place) == "tmpfs"
    assert_as_on_a_local_disk(stage, place / "t" / "default")


def test_overlay_is_local(stage: Stage, mount: Mount) -> None:
    layers = mount("mount", "-t", "tmpfs", "none")  # an overlay cannot be above an overlay
    for name in ("lower", "upper", "work"):
        (layers / name).mkdir()
    options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
    place = mount("mount", "-t", "overlay", "overlay", "-o", options)
    assert filesystem.type_of(place) == "overlay"
    assert_as_on_a_local_disk(stage, place / "t" / "default")


def test_a_lock_in_a_lower_layer_is_seen_through_the_overlay(stage: Stage, mount: Mount) -> None:
    """An image that was built with a state in it: nobody holds what was copied up."""
    layers = mount("mount", "-t", "tmpfs", "none")
    for name in ("upper", "work"):
        (layers / name).mkdir()
    player = stage.enter(layers / "lower" / "t" / "default")
    player.ask("take")
    player.kill()
    options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
    place = mount("mount", "-t", "overlay", "overlay", "-o", options) / "t" / "default"
    assert status_of(place) == "abandoned"
    heir, third = stage.enter(place), stage.enter(place)
    assert heir.ask("take")["lock"] == 2
    assert third.ask("take")["refused"] == "held"
    heir.kill()


def test_on_fuse_a_free_kernel_lock_proves_nothing(
    stage: Stage, mount: Mount, tmp_path: Path
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    if not Path("/dev/fuse").exists():
        unavailable("there is no /dev/fuse")
    place = mount("bindfs", str(below))
    assert filesystem.type_of(place).startswith("fuse")
    folder = place / "t" / "default"
    player = stage.enter(folder)
    lock_id = player.ask("take")["id"]
    assert status_of(folder) == "held", "a lock that is seen held is held on any file system"
    player.kill()
    status = open_store(folder).status()
    assert status.status == "unknown"
    assert "fuse" in status.evidence[0]
    heir = stage.enter(folder)
    assert heir.ask("take") == {"refused": "unknown", "id": lock_id}
    assert heir.ask("take", "any", lock_id)["replaced"] == "unknown"
    heir.kill()


MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/root rw
30 22 0:40 / /srv/with\\040space rw shared:1 - nfs4 server:/export rw
31 22 0:41 / /srv/local rw - nfs server:/old rw
32 31 8:2 / /srv/local rw - xfs /dev/sdb1 rw
33 22 0:42 / /mnt/c rw - 9p drvfs rw
34 22 0:43 / /mnt/share rw - cifs //server/share rw
35 22 0:44 / /mnt/sshfs rw - fuse.sshfs host:/ rw
36 22 0:45 / /mnt/vm rw - virtiofs host rw
37 22 0:46 / /mnt/box rw - overlay overlay rw
"""


@pytest.mark.parametrize(
    ("folder", "kind", "shared"),
    [
        ("/home", "ext4", False),
        ("/srv", "ext4", False),
        ("/srv/with space/deep/below", "nfs4", True),
        ("/srv/with spaces", "ext4", False),
        ("/srv/local", "xfs", False),
        ("/mnt/c/project", "9p", True),
        ("/mnt/share", "cifs", True),
        ("/mnt/sshfs/x", "fuse.sshfs", True),
        ("/mnt/vm", "virtiofs", True),
        ("/mnt/box", "overlay", False),
    ],
)
def test_the_file_system_is_known_from_the_mounts(
    tmp_path: Path, folder: str, kind: str, *, shared: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert filesystem.type_of(Path(folder), mounts) == kind
    assert filesystem.is_shared(kind) is shared


def test_a_stopped_holder_holds(stage: Stage, held: Player) -> None:
    held.freeze()
    other = stage.enter()
    assert status_of(stage.folder) == "held"
    assert other.ask("take")["refused"] == "held"
    held.signal(signal.SIGCONT)
    assert held.ask("commit", "goes on")["serial"] == 1


@pytest.mark.parametrize("data", [b"", b"{corrupted", b'{"id":"x"}', b"\0" * 64, b"[" * 9000])
def test_an_unreadable_record_of_a_live_holder(stage: Stage, held: Player, data: bytes) -> None:
    """The lock's files still tell that somebody lives; to unlock it needs its surrogate ID."""
    (stage.folder / "lock").write_bytes(data)
    status = open_store(stage.folder).status()
    assert status.status == "held"
    assert status.id.startswith("unreadable-")
    assert status.error
    other = stage.enter()
    assert other.ask("take") == {"refused": "held", "id": status.id}
    held.kill()
    assert status_of(stage.folder) == "unknown"
    assert other.ask("take")["refused"] == "unknown"
    got = other.ask("take", "any", open_store(stage.folder).status().id)
    assert (got["lock"], got["replaced"]) == (2, "unknown"), "tokens grow nevertheless"


def test_an_unreadable_record_of_an_orphan(stage: Stage, held: Player) -> None:
    packer = stage.packer(held)
    (stage.folder / "lock").write_bytes(b"{")
    held.kill()
    assert status_of(stage.folder) == "orphaned"
    os.kill(packer, signal.SIGKILL)
    eventually(lambda: status_of(stage.folder) == "unknown")


def test_a_missing_record_of_a_live_holder(stage: Stage, held: Player) -> None:
    (stage.folder / "lock").unlink()
    status = open_store(stage.folder).status()
    assert (status.status, status.id) == ("held", "token-1")
    other = stage.enter()
    assert other.ask("take")["refused"] == "held"
    refused = held.ask("commit", "without a record")
    assert refused["error"] == "LockLostError"
    assert "removed or damaged" in refused["message"]
    held.kill()
    assert status_of(stage.folder) == "free"
    assert other.ask("take")["lock"] == 2


def test_a_missing_record_and_nobody_left(stage: Stage, held: Player) -> None:
    assert held.ask("commit", "a change")["serial"] == 1
    held.kill()
    (stage.folder / "lock").unlink()
    shutil.rmtree(stage.folder / "locks")
    assert status_of(stage.folder) == "free"
    assert stage.enter().ask("take")["lock"] == 2, "the state itself knows the last token"


@pytest.mark.parametrize("missing", ["1-1.packer-fork", "1-1.packer", ""])
@pytest.mark.parametrize("alive", [True, False])
def test_missing_files_of_a_lock(stage: Stage, held: Player, missing: str, *, alive: bool) -> None:
    """Without them nothing is proven; what is left of them still tells who lives."""
    for path in [stage.folder / "locks" / missing] if missing else _files(stage):
        path.unlink()
    if not alive:
        held.kill()
    told = {"1-1.packer-fork": "orphaned", "1-1.packer": "held"}.get(missing) if alive else None
    status = open_store(stage.folder).status()
    assert status.status == (told or "unknown")
    other = stage.enter()
    assert other.ask("take")["refused"] == (told or "unknown")
    got = other.ask("take", "any", status.id)
    assert (got["lock"], got["replaced"]) == (2, told or "unknown")
    if alive:
        assert held.ask("commit", "late")["error"] == "LockLostError"


def _files(stage: Stage) -> list[Path]:
    return list((stage.folder / "locks").iterdir())


def test_an_old_lock_that_lives_on_is_seen_beside_the_new_one(stage: Stage, held: Player) -> None:
    other = stage.enter()
    other.ask("take", "any", record(stage)["id"])
    store = open_store(stage.folder)
    assert store.left_alive() == (1,)
    assert store.is_alive(1)
    held.kill()
    assert store.left_alive() == ()


def test_lock_that_is_just_being_acquired_is_held(tmp_path: Path) -> None:
    """Its kernel locks are there before its record is."""
    folder = tmp_path / "t" / "default"
    lock = open_store(folder).try_acquire(holder("test"))
    assert not isinstance(lock, LockStatus)
    lock.close()
    locks = KernelLocks(Layout(folder), 2, 1)
    try:
        assert status_of(folder) == "held"
    finally:
        locks.release()
