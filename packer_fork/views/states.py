"""A state for people: a table of builds, or everything about one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from packer_fork import failures
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
from packer_fork.views import words
from packer_fork.views.console import StyledLine
from packer_fork.views.document import indented
from packer_fork.views.hints import completed
from packer_fork.views.tables import Cell, TableRow, header, row, status, table


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


def lines(
    entry: Entry, builds: Iterable[Build], width: int | None = None
) -> list[str | StyledLine]:
    """The state of one template: its last run and a row for each build."""
    workspace = f" (workspace {entry.workspace})" * (entry.workspace != "default")
    head = f"{entry.template}{workspace}"
    if entry.state is None:
        return [f"{head}: nothing was built yet"]
    state = entry.state
    said: list[str | StyledLine] = [f"{head}, serial {state.serial}"]
    if state.last_run:
        said.append(run_line(state.last_run))
    if state.last_run and state.last_run.status is RunStatus.RUNNING:
        command = completed("`packer-fork lock status`")
        number = state.last_run.number
        said.append(f"  run {number} is marked running: {command} tells whether it lives")
    rows, left = [header("BUILD", "STATUS", "WHEN", "TOOK", "ARTIFACTS")], []
    for build in builds:
        rows.append(_row(build))
        left += [
            f"  {build.name} may have left behind: {_where(instance)}"
            for instance in possibly_left(build)
        ]
    if len(rows) == 1:
        return [*said, "  no builds yet"]
    return [*said, *table(rows, width, indent=2), *left]


def run_line(run: Run) -> str:
    code = f", exit code {run.exit_code}" if run.exit_code is not None else ""
    how = f", recovered ({run.recovered.reason})" if run.recovered else ""
    return (
        f"  last run: {run.number}, {run.status}{code}{how}, "
        f"by {run.by}, {words.age(run.ended or run.started)}"
    )


def _row(build: Build) -> TableRow:
    moment = build.ended or build.started
    when = words.age(moment) if moment else "-"
    made = words.artifacts(build.artifacts) or "-"
    below = error_below(build)
    return row(build.name or '""', status(build.status), when, _took(build), made, below=below)


def error_below(build: Build) -> list[Cell]:
    """Why it failed, to stand below its row."""
    cause = failures.cause(build) if build.error else ""
    return [Cell(f"error: {cause}", "bad")] if cause else []


def _took(build: Build) -> str:
    if not (build.started and build.ended):
        return "-"
    return words.duration((build.ended - build.started).total_seconds())


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


def artifacts(
    found: Iterable[tuple[str, int, Sequence[Artifact]]], width: int | None = None
) -> list[StyledLine]:
    """A row for each artifact; `found`: builds, runs, and what these made."""
    rows = [_artifact(build, run, each) for build, run, made in found for each in made]
    return table([header("BUILD", "RUN", "ARTIFACT"), *rows], width) if rows else []


def _artifact(build: str, run: int, artifact: Artifact) -> TableRow:
    name = artifact.id or artifact.string or "-"
    about = " ".join(part for part in (artifact.builder_id, artifact.string) if part != name)
    texts = [about, *map(_file, artifact.files)]
    return row(build or '""', str(run), name, below=[Cell(text, "minor") for text in texts if text])


def artifact_lines(number: int, artifact: Artifact) -> list[str]:
    named = " ".join(part for part in (artifact.builder_id, artifact.id) if part)
    head = ": ".join(filter(None, (f"artifact {number}", named, artifact.string)))
    return [head, *(f"  {_file(file)}" for file in artifact.files)]


def _file(file: File) -> str:
    if file.size is None:
        return file.path
    return f"{file.path}  {words.size(file.size)}  sha256:{file.sha256}"
