"""The history for people: changes, runs, differences, what is kept and what is damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from packer_fork.responses import Backup, ChangeEntry, Difference, Prunable, RunEntry, Verified
from packer_fork.views import words
from packer_fork.views.console import StyledLine
from packer_fork.views.hints import repair_command
from packer_fork.views.states import error_below
from packer_fork.views.tables import Cell, TableRow, header, row, status, table

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def changes(
    found: Sequence[ChangeEntry], *, with_header: bool, width: int | None = None
) -> list[StyledLine]:
    rows = [
        row(
            str(each.serial),
            words.moment(each.at),
            str(each.by),
            each.operation,
            str(each.run or "-"),
            each.why or ", ".join(each.builds) or "-",
        )
        for each in found
    ]
    names = header("SERIAL", "WHEN", "WHO", "OPERATION", "RUN", "WHAT")
    return table([names] * with_header + rows, width)


def runs(
    found: Sequence[RunEntry], *, with_header: bool, width: int | None = None
) -> list[StyledLine]:
    """A row for each build of each run; a run without builds has one of its own."""
    rows = [row for each in found for row in _rows(each)]
    run = ("RUN", "STATUS", "WHEN", "TOOK", "BRANCH", "WHO")
    names = header(*run, "BUILD", "STATUS", "ARTIFACTS")
    return table([names] * with_header + rows, width)


def _rows(entry: RunEntry) -> Iterator[TableRow]:
    run = entry.run
    head: tuple[str | Cell, ...] = (
        str(run.number),
        status(run.status),
        words.age(run.started),
        _took(run.started, run.ended),
        run.git.branch if run.git and run.git.branch else "-",
        str(run.by),
    )
    for build in entry.builds:
        made = words.artifacts(build.artifacts) or "-"
        yield row(*head, build.name, status(build.status), made, below=error_below(build))
        head = ("",) * len(head)
    if not entry.builds:
        yield row(*head, "-", "-", "-")


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
        f"{serials}, {words.count(found.changes, 'change')}, "
        f"{words.count(found.segments, 'segment')}, {words.count(found.backups, 'backup')}, "
        f"{words.size(found.bytes)} read"
    )
    status = f"{len(found.problems)} damaged" if found.problems else "sound"
    lines = [f"{entry.template}{workspace}: {status} ({read})"]
    for each in found.problems:
        lines.append(f"  {each.file}, byte {each.offset}: {each.what}")
        lines.append(f"    affected: {each.affected}")
    lines += [f"  unused: {path}" for path in found.unused]
    if found.problems:
        command = repair_command(entry.template, entry.workspace)
        lines.append(f"  hint: {command} shows first what is recoverable")
    elif found.unused:
        lines.append("  hint: packer-fork state prune removes unused files")
    return lines


def pruned(found: Prunable, *, dry_run: bool) -> str:
    if not found.segments:
        return "nothing to prune: all history is within keep_runs and keep_days"
    runs, segments = words.count(found.runs, "run"), words.count(found.segments, "segment")
    verb = "would prune" if dry_run else "pruned"
    return f"{verb} {runs} in {segments}, serials up to {found.last}"


def backups(found: Sequence[Backup], width: int | None = None) -> list[StyledLine]:
    rows = [
        row(str(each.serial), words.moment(each.at), each.reason, words.size(each.size), each.path)
        for each in found
    ]
    return table([header("SERIAL", "WHEN", "WHY", "SIZE", "FILE"), *rows], width)
