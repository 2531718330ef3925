"""What packer-fork adds to Packer, by the clock: whole processes, beside bare Packer's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stress.meter import Bench, Step

_EXAMPLE = Path(__file__).parents[1] / "tests" / "examples" / "demo"
_FORK = (sys.executable, "-m", "packer_fork")
_NO_OP = """
    source "null" "n" { communicator = "none" }
    build { sources = ["null.n"] }
"""


def builds(bench: Bench) -> None:
    packer = shutil.which("packer") or sys.exit("packer is not on PATH")
    _overhead(bench, packer)
    _up_to_date(bench, packer)


def _overhead(bench: Bench, packer: str) -> None:
    """Of a build that does nothing, so that all that is left is ours."""
    folder = bench.folder()
    (folder / "t.pkr.hcl").write_text(_NO_OP, encoding="utf-8")
    bench.section("i. a build of one null source")
    bare = "packer build"
    found = bench.compare(
        {
            bare: _run(folder, packer, "build", "t.pkr.hcl"),
            "packer-fork build --rebuild": _run(folder, *_FORK, "build", "--rebuild", "t.pkr.hcl"),
            "packer-fork build, up to date": _run(folder, *_FORK, "build", "t.pkr.hcl"),
        },
        bench.rounds(15),
        base=bare,
    )
    bench.add("added to a build", found["packer-fork build --rebuild"] - found[bare], "ms")


def _up_to_date(bench: Bench, packer: str) -> None:
    """With scripts, variables and more to look at."""
    folder = Path(shutil.copytree(_EXAMPLE, bench.folder() / "demo"))
    bench.section("j. the demo of the tests, nothing to do")
    command = partial(_run, folder)
    bench.compare({"plan, never built": command(*_FORK, "plan", "demo.pkr.hcl")}, bench.rounds(15))
    command(*_FORK, "build", "demo.pkr.hcl")()
    bench.compare(
        {
            "packer validate": command(packer, "validate", "demo.pkr.hcl"),
            "plan, up to date": command(*_FORK, "plan", "demo.pkr.hcl"),
            "build, up to date": command(*_FORK, "build", "demo.pkr.hcl"),
        },
        bench.rounds(15),
        base="packer validate",
    )


def _run(folder: Path, *command: str) -> Step:
    run: Callable[..., object] = subprocess.run
    return partial(run, command, cwd=folder, capture_output=True, check=True)
