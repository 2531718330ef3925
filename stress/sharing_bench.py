"""Nine sources by one host and by three, on a server of etcd: whole builds, by the clock."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from stress.meter import Bench
from tests.support.servers import etcd_cluster

NAMES = "abcdefghi"
HOSTS = 3

_FORK = (sys.executable, "-m", "packer_fork")


def sharing(bench: Bench) -> None:
    if shutil.which("packer") is None:
        sys.exit("packer is not on PATH")
    seconds = 1 if bench.quick else 10
    bench.section(f"m. nine sources of {seconds} s each")
    with etcd_cluster(bench.folder() / "etcd") as cluster:
        one = _wall(bench.folder() / "one", cluster.endpoints[0], 1, seconds)
        many = _wall(bench.folder() / "many", cluster.endpoints[0], HOSTS, seconds)
    base = "build --share on one host"
    bench.add(base, one, "s")
    bench.add(f"build --share on {HOSTS} hosts", many, "s", base=(base, one))


def _wall(place: Path, endpoint: str, hosts: int, seconds: int) -> float:
    """Seconds until the last of `hosts` has ended, all of them begun at once."""
    roots = [place / f"host-{number}" for number in range(hosts)]
    for root in roots:
        _checkout(root, f"etcd://{endpoint}/{hosts}", seconds)
    begun = time.monotonic()
    running = [
        subprocess.Popen(
            (*_FORK, "build", "--share", "t.pkr.hcl"),
            cwd=root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for root in roots
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit(f"build --share on {hosts} hosts ended with {codes}")
    return time.monotonic() - begun


def _checkout(root: Path, state: str, seconds: int) -> None:
    root.mkdir(parents=True)
    (root / "packer-fork.toml").write_text(f'state = "{state}"\nproject = "bench"\n')
    sources = "".join(f'source "null" "{n}" {{\n  communicator = "none"\n}}\n' for n in NAMES)
    listed = ", ".join(f'"null.{name}"' for name in NAMES)
    script = f'provisioner "shell-local" {{\n    inline = ["sleep {seconds}"]\n  }}'
    build = f"build {{\n  sources = [{listed}]\n  {script}\n}}\n"
    (root / "t.pkr.hcl").write_text(sources + build)
