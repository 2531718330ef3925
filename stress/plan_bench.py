"""What a plan costs, beside `packer validate` of the same template: python -m stress.plan_bench."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 11
EXAMPLE = Path(__file__).parents[1] / "tests" / "examples" / "demo"


def timed(command: list[str], folder: Path) -> float:
    """Seconds that `command` takes as a whole process."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr.decode(errors='replace')}")
    return seconds


def main() -> None:
    packer_fork = [sys.executable, "-m", "packer_fork"]
    packer = shutil.which("packer") or sys.exit("packer is not on PATH")
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(EXAMPLE, Path(scratch) / "demo")
        commands = {
            "packer validate": [packer, "validate", "demo.pkr.hcl"],
            "packer-fork plan, never built": [*packer_fork, "plan", "demo.pkr.hcl"],
            "packer-fork plan, up to date": [*packer_fork, "plan", "demo.pkr.hcl"],
            "packer-fork build, up to date": [*packer_fork, "build", "demo.pkr.hcl"],
        }
        print(f"{platform.node()}: {platform.platform()}, {os.cpu_count()} CPUs, {ROUNDS} rounds")
        base = 0.0
        for name, command in commands.items():
            if name == "packer-fork plan, up to date":
                timed([*packer_fork, "build", "demo.pkr.hcl"], folder)
            middle = statistics.median(timed(command, folder) for _ in range(ROUNDS))
            base = base or middle
            print(f"{name:32} {middle * 1000:7.0f} ms   {middle / base:5.1f} x packer validate")


if __name__ == "__main__":
    main()
