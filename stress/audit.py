"""Whether every file that Packer reads counts: python -m stress.audit [--page FILE]

Small projects in the layouts of practice are built under strace. Each file that Packer's
processes opened for reading must be an input of the build, by reference (the template
names it) or by observation. The exit code is 1 if one is not, 2 if strace or Packer is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from packer_fork.errors import EXIT_USAGE
from packer_fork.responses import Input, InputsReport
from stress.audit_layouts import LAYOUTS, OUTSIDE, Layout
from stress.syscalls import Access, accesses_of_packer, under_strace

BEGIN = "<!-- audit: made by `make audit` -->\n"
END = "<!-- end of audit -->\n"

_FORK = (sys.executable, "-m", "packer_fork")
_NEVER = frozenset((".git", ".packer-fork", "packer_cache", "__pycache__"))
_COUNTED = "file"


class Counted(Struct, frozen=True):
    """Real paths of the inputs of one build: those that the template names, and all."""

    named: frozenset[str]
    every: frozenset[str]

    def has(self, path: str) -> bool:
        return path in self.every


class Findings(Struct, frozen=True, kw_only=True):
    """What became of the files of one layout, by name: a row of the table.

    ``read``: opened by Packer's processes, there before, and in the project. ``unnamed``: of
    these, what no reference finds; ``missed``: what does not count for the build that read it;
    ``unread``: what counts by reference, and was not opened. ``looked_for``: names that were
    looked up and not there; ``looked_at``: files that were not opened, only asked about;
    ``outside``: files beside the project that were read, programs and their libraries apart,
    and ``outside_counted`` those of them that count.
    """

    layout: str
    builds: int
    read: frozenset[str]
    unnamed: frozenset[str]
    missed: frozenset[str]
    unread: frozenset[str]
    looked_for: frozenset[str]
    looked_at: frozenset[str]
    outside: frozenset[str]
    outside_counted: frozenset[str]


COLUMNS = (
    "layout",
    "builds",
    "files read",
    "missed by reference",
    "missed by both",
    "counted, never read",
    "failed lookups",
    "only stat",
    "outside, counted of read",
)


def row(found: Findings) -> tuple[str, ...]:
    """The cells of COLUMNS."""
    sets = (found.read, found.unnamed, found.missed, found.unread)
    others = (found.looked_for, found.looked_at)
    outside = f"{len(found.outside_counted)} of {len(found.outside)}"
    numbers = (found.builds, *map(len, sets), *map(len, others))
    return (found.layout, *map(str, numbers), outside)


def audit(layout: Layout, folder: Path, settings: Mapping[str, str] | None = None) -> Findings:
    """Build `layout` below `folder`; `settings` are environment variables of packer-fork.

    Raises CalledProcessError, with what was printed, where the build fails.
    """
    root = folder.resolve() / "project"
    layout.write(root)
    before = frozenset(_files(root))
    run = partial(_run, root, _environment(folder) | dict(settings or {}))
    logs = folder / "logs"
    logs.mkdir()
    run(*under_strace(logs), *_FORK, "build", *layout.arguments)
    counted = _counted(root, layout, _report(run, layout))
    return compare(layout.name, str(root), before, counted, accesses_of_packer(logs))


def _environment(folder: Path) -> dict[str, str]:
    home = folder / "home"
    scratch = folder / "scratch"
    home.mkdir()
    scratch.mkdir()
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "HOME": str(home),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "CHECKPOINT_DISABLE": "1",
    }


def _run(root: Path, environ: Mapping[str, str], *command: str) -> bytes:
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, check=False)
    if done.returncode:
        print(done.stdout.decode(), done.stderr.decode(), file=sys.stderr)
        done.check_returncode()
    return done.stdout


def _report(run: partial[bytes], layout: Layout) -> InputsReport:
    output = run(*_FORK, "inputs", "--json", *layout.arguments)
    return msgspec.json.decode(output, type=InputsReport)


def _counted(root: Path, layout: Layout, report: InputsReport) -> dict[str, Counted]:
    """By the last part of a build's name, as PACKER_BUILD_NAME has it."""
    templates = {os.path.realpath(path) for path in _loaded(root, layout)}
    found = {}
    for build in report.builds:
        inputs = (*report.common, *build.inputs)
        named = {*_paths(root, (i for i in inputs if i.how != "observed")), *templates}
        every = named | {*_paths(root, inputs)}
        found[build.name.rpartition(".")[2]] = Counted(frozenset(named), frozenset(every))
    return found


def _loaded(root: Path, layout: Layout) -> Iterator[Path]:
    """Templates and variables files: they count by what they say."""
    template = root / layout.arguments[-1]
    folder = template if template.is_dir() else template.parent
    yield from folder.glob("*.pkr.*") if template.is_dir() else [template]
    yield from folder.glob("*.auto.pkrvars.*")
    for argument in layout.arguments:
        if argument.startswith("-var-file="):
            yield root / argument.partition("=")[2]


def _paths(root: Path, inputs: Iterable[Input]) -> Iterator[str]:
    """Of files; a digest of a folder's files stands for all of them."""
    for each in inputs:
        if each.kind == _COUNTED:
            yield os.path.realpath(root / each.name)
        elif each.kind == "files":
            yield from (os.path.realpath(path) for path in root.glob(each.name) if path.is_file())


def _files(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        if path.is_file() and _NEVER.isdisjoint(path.relative_to(root).parts):
            yield os.path.realpath(path)


def compare(
    layout: str,
    root: str,
    before: frozenset[str],
    counted: Mapping[str, Counted],
    accesses: Iterable[Access],
) -> Findings:
    """What the processes did to the files that were there `before`, and what counts."""
    seen = {Access(os.path.realpath(a.path), a.kind, a.build) for a in accesses}
    read = {(a.path, a.build) for a in seen if a.kind in ("read", "exec")}
    inside = {(path, build) for path, build in read if path in before and _is_in(root, path)}
    opened = {path for path, _ in inside}
    read_anywhere = {path for path, _ in read}
    named = frozenset().union(*(each.named for each in counted.values()))
    every = frozenset().union(*(each.every for each in counted.values()))
    missed = {path for path, build in inside if not _counts(path, build, counted)}
    absent = {a.path for a in seen if a.kind == "absent" and _is_in(root, a.path)}
    looked_at = {a.path for a in seen if a.kind == "stat" and a.path in before}
    beside = os.path.join(os.path.dirname(root), OUTSIDE)  # noqa: PTH118, PTH120
    outside = {path for path, _ in read if path.startswith(f"{beside}/")}

    def names(paths: Iterable[str]) -> frozenset[str]:
        return frozenset(os.path.relpath(path, root) for path in paths)

    return Findings(
        layout=layout,
        builds=len(counted),
        read=names(opened),
        unnamed=names(opened - named),
        missed=names(missed),
        unread=names(named - read_anywhere),
        looked_for=names(path for path in absent if not os.path.lexists(path)),
        looked_at=names(looked_at - opened),
        outside=names(outside),
        outside_counted=names(outside & every),
    )


def _counts(path: str, build: str, counted: Mapping[str, Counted]) -> bool:
    """Whether a file counts for the build that read it; Packer itself reads for any of them."""
    if build in counted:
        return counted[build].has(path)
    return any(each.has(path) for each in counted.values())


def _is_in(root: str, path: str) -> bool:
    inside = path.startswith(f"{root}/")
    return inside and _NEVER.isdisjoint(path.removeprefix(root).split("/"))


def table(rows: Iterable[Findings]) -> str:
    """In Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *map(row, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace("| --- ", "|---")


def renew(path: Path, text: str) -> None:
    """Put `text` between the two marks of the file. Raises ValueError if it has none."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no two marks of the audit's table")
    path.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="stress.audit")
    parser.add_argument("--page", type=Path, metavar="FILE", help="renew the table in it")
    parser.add_argument("--only", default="", metavar="TEXT", help="layouts whose name has it")
    parser.add_argument("--names", action="store_true", help="list the files of each column")
    asked = parser.parse_args(arguments)
    layouts = [each for each in LAYOUTS if asked.only in each.name]
    if not layouts:
        parser.error(f"no layout has {asked.only!r} in its name")
    if asked.page and asked.only:
        parser.error("--page takes the table of all layouts, not that of --only")
    for program in ("strace", "packer"):
        if shutil.which(program) is None:
            print(f"error: {program} is not installed: the audit needs it", file=sys.stderr)
            return EXIT_USAGE
    found = [_audited(each) for each in layouts]
    print(table(found), end="")
    for each in found:
        _explain(each, names=asked.names)
    if asked.page:
        renew(asked.page, table(found))
    return 1 if any(each.missed or not each.read for each in found) else 0


def _audited(layout: Layout) -> Findings:
    with tempfile.TemporaryDirectory(prefix="pf-") as folder:
        return audit(layout, Path(folder))


def _explain(found: Findings, *, names: bool) -> None:
    shown = Findings.__struct_fields__[2:] if names else ("missed",)
    for field in shown:
        if files := getattr(found, field):
            print(f"{found.layout.partition(':')[0]}: {field}: {', '.join(sorted(files))}")


if __name__ == "__main__":
    sys.exit(main())
