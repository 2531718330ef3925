"""A state for people: a table of builds, or everything about one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from packer_fork.model import (
    Artifact,
    Build,
    File,
    Instance,
    Run,
    RunStatus,
    State,
    Step,
    possibly_left,
)
from packer_fork.terminal import clean
from packer_fork.views import words
from packer_fork.views.document import indented

_LONGEST = 60


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns as wide as their widest cell on a terminal."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell + " " * (width - width_of(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def _cell(value: str) -> str:
    line = " ".join(clean(value).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def width_of(text: str) -> int:
    """Cells that it takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


class Entry(Struct, frozen=True, kw_only=True):
    """One state among many, as ``state show --json`` without a template prints it."""

    template: str
    workspace: str
    location: str
    state: State | None = None
    error: str | None = None


def as_json(document: object) -> str:
    """A document as it is stored, indented; ``null`` where there is none yet.

    The key that digests are made with stays in the store.
    """
    if isinstance(document, State):
        document = structs.replace(document, key="")
    return _json(document)


def all_as_json(entries: Sequence[Entry]) -> str:
    return _json({"states": entries})


def _json(document: object) -> str:
    return indented(document)


def lines(entry: Entry, builds: Iterable[Build]) -> list[str]:
    """The state of one template: its last run and a row for each build."""
    workspace = f" (workspace {entry.workspace})" * (entry.workspace != "default")
    head = f"{entry.template}{workspace}"
    if entry.state is None:
        return [f"{head}: nothing was built yet"]
    state = entry.state
    said = [f"{head}, serial {state.serial}"]
    if state.last_run:
        said.append(run_line(state.last_run))
    if state.last_run and state.last_run.status is RunStatus.RUNNING:
        number = state.last_run.number
        said.append(
            f"  run {number} is marked running: `packer-fork lock status` tells whether it lives"
        )
    rows, left = [("BUILD", "STATUS", "WHEN", "TOOK", "ARTIFACTS")], []
    for build in builds:
        rows.append(_row(build))
        left += [
            f"  {build.name} may have left behind: {_where(instance)}"
            for instance in possibly_left(build)
        ]
    if len(rows) == 1:
        return [*said, "  no builds yet"]
    return [*said, *(f"  {row}" for row in table(rows)), *left]


def run_line(run: Run) -> str:
    code = f", exit code {run.exit_code}" if run.exit_code is not None else ""
    how = f", recovered ({run.recovered.reason})" if run.recovered else ""
    return (
        f"  last run: {run.number}, {run.status}{code}{how}, "
        f"by {run.by}, {words.age(run.ended or run.started)}"
    )


def _row(build: Build) -> tuple[str, str, str, str, str]:
    moment = build.ended or build.started
    when = words.age(moment) if moment else "-"
    return (build.name or '""', build.status, when, _took(build), _artifacts(build))


def _took(build: Build) -> str:
    if not (build.started and build.ended):
        return "-"
    return words.duration((build.ended - build.started).total_seconds())


def _artifacts(build: Build) -> str:
    if not build.artifacts:
        return (build.error.splitlines() or ["-"])[0] if build.error else "-"
    return ", ".join(dict.fromkeys(a.id or a.string for a in build.artifacts if a.id or a.string))


def build_lines(build: Build) -> list[str]:
    """Everything about one build."""
    facts = [
        ("build", build.name or '""'),
        ("type", build.type),
        ("status", build.status),
        ("run", str(build.run or "-")),
        ("started", words.moment(build.started) if build.started else "-"),
        ("ended", words.moment(build.ended) if build.ended else "-"),
        ("error", build.error),
    ]
    said = [f"{key + ':':<12} {value}" for key, value in facts if value]
    said += _steps("provisioner", build.provisioners)
    said += _steps("post-processor", build.post_processors)
    said += _instance(build)
    said += [f"revoked: run {run}: {reason}" for run, reason in build.revoked.items()]
    said += [f"perhaps left behind: {_where(instance)}" for instance in possibly_left(build)]
    for number, artifact in enumerate(build.artifacts, 1):
        said += artifact_lines(number, artifact)
    return said


def _steps(kind: str, steps: Sequence[Step]) -> list[str]:
    return [
        f"{kind} {number}: {step.type}{f' {step.name!r}' if step.name else ''}: {step.status}"
        f" ({step.known_by}){f': {step.error}' if step.error else ''}"
        for number, step in enumerate(steps, 1)
    ]


def _instance(build: Build) -> list[str]:
    if build.instance is None:
        return []
    found = build.instance
    return [f"instance: {_where(found)}"]


def _where(instance: Instance) -> str:
    parts = (instance.provider, instance.region, instance.id, *instance.addresses)
    return " ".join(part for part in parts if part)


def artifact_lines(number: int, artifact: Artifact) -> list[str]:
    named = " ".join(part for part in (artifact.builder_id, artifact.id) if part)
    head = ": ".join(filter(None, (f"artifact {number}", named, artifact.string)))
    return [head, *(f"  {_file(file)}" for file in artifact.files)]


def _file(file: File) -> str:
    if file.size is None:
        return file.path
    return f"{file.path}  {words.size(file.size)}  sha256:{file.sha256}"
