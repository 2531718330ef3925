"""What packer-fork adds to Packer, by the clock: whole processes, beside bare Packer's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stress.meter import Bench, Step, samples

_EXAMPLE = Path(__file__).parents[1] / "tests" / "examples" / "demo"
_FORK = (sys.executable, "-m", "packer_fork")
_NO_OP = """
    source "null" "n" { communicator = "none" }
    build { sources = ["null.n"] }
"""
_SOURCES, _FILES = 40, 200


def builds(bench: Bench) -> None:
    packer = shutil.which("packer") or sys.exit("packer is not on PATH")
    _overhead(bench, packer)
    _up_to_date(bench, packer)
    _recalled(bench, packer)


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


def _recalled(bench: Bench, packer: str) -> None:
    """What Packer was asked before is not asked again: beside ``--version`` and bare Packer."""
    one, many = bench.folder(), bench.folder()
    (one / "t.pkr.hcl").write_text(_NO_OP, encoding="utf-8")
    _write_sources(many)
    for folder in (one, many):
        for _ in range(2):  # the second knows what the first made
            _run(folder, *_FORK, "build", "t.pkr.hcl")()
    kept = one / ".packer-fork" / "t.pkr.hcl" / "default" / "evaluations"
    rebuild = _run(one, *_FORK, "build", "--rebuild", "t.pkr.hcl")

    def forgetful() -> None:
        kept.unlink(missing_ok=True)
        rebuild()

    bench.section("n. deciding with what Packer was asked before")
    version, bare, build = "--version", "packer build", "build, up to date"
    steps = {
        version: _run(one, *_FORK, "--version"),
        bare: _run(one, packer, "build", "t.pkr.hcl"),
        "plan, up to date": _run(one, *_FORK, "plan", "t.pkr.hcl"),
        build: _run(one, *_FORK, "build", "t.pkr.hcl"),
        "build that asks": forgetful,
        "build that recalls": rebuild,
        f"{build}, {_SOURCES} sources and {_FILES} files": _run(many, *_FORK, "build", "t.pkr.hcl"),
    }
    taken = {what: min(each) * 1e3 for what, each in samples(steps, bench.rounds(25)).items()}
    for what in (version, bare):
        bench.add(what, taken[what], "ms")
    for what in ("plan, up to date", build):
        bench.add(what, taken[what], "ms", base=(version, taken[version]))
        bench.add(f"{what}: to Packer", taken[what], "ms", base=(bare, taken[bare]))
    for what in ("build that recalls", "build that asks"):
        bench.add(f"{what}: added", taken[what] - taken[bare], "ms", base=(bare, taken[bare]))
    large = next(reversed(taken))
    bench.add(large, taken[large], "ms", base=(build, taken[build]))


def _write_sources(folder: Path) -> None:
    """A template of many sources, with files that all of them upload."""
    (folder / "files").mkdir()
    for number in range(_FILES):
        (folder / "files" / f"{number}.txt").write_text(f"{number}\n", encoding="utf-8")
    names = [f"n{number}" for number in range(_SOURCES)]
    sources = [f'source "null" "{name}" {{ communicator = "none" }}' for name in names]
    listed = ", ".join(f'"null.{name}"' for name in names)
    script = 'provisioner "shell-local" { inline = ["cat files/*.txt > /dev/null"] }'
    text = "\n".join([*sources, f"build {{\n  sources = [{listed}]\n  {script}\n}}\n"])
    (folder / "t.pkr.hcl").write_text(text, encoding="utf-8")


def _run(folder: Path, *command: str) -> Step:
    run: Callable[..., object] = subprocess.run
    return partial(run, command, cwd=folder, capture_output=True, check=True)
