"""The history for people: changes, runs, differences, what is kept and what is damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from packer_fork.answers import Backup, ChangeEntry, Difference, Prunable, RunEntry, Verified
from packer_fork.model import Build
from packer_fork.views import words
from packer_fork.views.tables import table

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def changes(found: Sequence[ChangeEntry], *, header: bool) -> list[str]:
    rows = [
        (
            str(each.serial),
            words.moment(each.at),
            str(each.by),
            each.operation,
            str(each.run or "-"),
            each.why or ", ".join(each.builds) or "-",
        )
        for each in found
    ]
    return table([("SERIAL", "WHEN", "WHO", "OPERATION", "RUN", "WHAT")] * header + rows)


def runs(found: Sequence[RunEntry], *, header: bool) -> list[str]:
    """A row for each build of each run; a run without builds has one of its own."""
    rows = [row for each in found for row in _rows(each)]
    names: tuple[str, ...] = (
        "RUN",
        "STATUS",
        "WHEN",
        "TOOK",
        "BRANCH",
        "WHO",
        "BUILD",
        "STATUS",
        "ARTIFACTS",
    )
    return table([names] * header + rows)


def _rows(entry: RunEntry) -> Iterator[tuple[str, ...]]:
    run = entry.run
    head: tuple[str, ...] = (
        str(run.number),
        run.status,
        words.age(run.started),
        _took(run.started, run.ended),
        run.git.branch if run.git and run.git.branch else "-",
        str(run.by),
    )
    for build in entry.builds:
        yield (*head, build.name, build.status, _made(build))
        head = ("",) * len(head)
    if not entry.builds:
        yield (*head, "-", "-", "-")


def _made(build: Build) -> str:
    ids = dict.fromkeys(a.id or a.string for a in build.artifacts if a.id or a.string)
    return ", ".join(ids) or (build.error.splitlines() or ["-"])[0]


def _took(started: datetime, ended: datetime | None) -> str:
    return words.duration((ended - started).total_seconds()) if ended else "-"


def difference(found: Difference) -> list[str]:
    head = f"from serial {found.before} to serial {found.after}"
    if not found.builds:
        return [f"{head}: no build differs"]
    lines = (f"  {_SIGNS[b.kind]} {b.name}: {'; '.join(b.what)}" for b in found.builds)
    return [f"{head}:", *lines]


class VerifiedEntry(Struct, frozen=True, kw_only=True):
    """One state among many, as ``state check --json`` prints it."""

    template: str
    workspace: str
    found: Verified


def verified(entry: VerifiedEntry) -> list[str]:
    found = entry.found
    workspace = f" (workspace {entry.workspace})" * (entry.workspace != "default")
    serials = "no state" if found.serial is None else f"serials {found.oldest} to {found.serial}"
    read = (
        f"{serials}, {found.changes} changes, {found.segments} segments, "
        f"{found.backups} backups, {words.size(found.bytes)} read"
    )
    verdict = f"{len(found.problems)} damaged" if found.problems else "sound"
    lines = [f"{entry.template}{workspace}: {verdict} ({read})"]
    for each in found.problems:
        lines.append(f"  {each.file}, byte {each.offset}: {each.what}")
        lines.append(f"    affected: {each.affected}")
    lines += [f"  unused: {path}" for path in found.unused]
    if found.problems:
        lines.append("  hint: packer-fork state check --repair shows first what is recoverable")
    elif found.unused:
        lines.append("  hint: packer-fork state prune removes unused files")
    return lines


def pruned(found: Prunable, *, dry_run: bool) -> str:
    if not found.segments:
        return "nothing to prune: all history is within keep_runs and keep_days"
    what = f"{found.runs} runs in {found.segments} segments, serials up to {found.last}"
    return f"{what}, {'would be' if dry_run else 'were'} pruned"


def backups(found: Sequence[Backup]) -> list[str]:
    """The last column, a path to be copied, is never cut."""
    rows = [
        (str(each.serial), words.moment(each.at), each.reason, words.size(each.size))
        for each in found
    ]
    heads = table([("SERIAL", "WHEN", "WHY", "SIZE"), *rows])
    width = max(map(len, heads))
    paths = ("FILE", *(each.path for each in found))
    return [f"{head:<{width}}  {path}" for head, path in zip(heads, paths, strict=True)]
