"""What counts for each build, as aligned lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from packer_fork.responses import Input, InputsOfBuild, InputsReport, Untracked
from packer_fork.terminal import clean

_SETTINGS = {"env": "input_env", "input-command": "input_commands", "file": "inputs"}
"""The setting that declares inputs of a kind."""

_EFFECTS = {
    "built": "built each time",
    "unnoticed": "a change is not noticed",
    "trusted": "trusted",
}

Row = tuple[str, ...]


def lines(report: InputsReport) -> list[str]:
    """A group for what all builds have in common, one for each build, one for what has no digest.

    The columns of all inputs are aligned with each other.
    """
    groups = [(f"every build of {report.template}", report.common)] if report.common else []
    groups += [(_title(build), build.inputs) for build in report.builds]
    rows = [[_row(each) for each in inputs] for _, inputs in groups]
    aligned = iter(_aligned([row for group in rows for row in group]))
    said: list[str] = []
    for (title, _), group in zip(groups, rows, strict=True):
        said += [title, *(next(aligned) for _ in group)]
    if report.untracked:
        several = len(report.builds) > 1
        said += ["not tracked"]
        said += _aligned([_untracked(each, several=several) for each in report.untracked])
    return said


def _title(build: InputsOfBuild) -> str:
    if build.run is None:
        return f"{build.name} (never complete)"
    if build.observation == "complete":
        return build.name
    return f"{build.name} (run {build.run} was not observed)"


def _row(each: Input) -> Row:
    return (each.kind, each.name, _how(each))


def _how(each: Input) -> str:
    match each.how:
        case "observed":
            return f"observed in run {each.run}"
        case "declared":
            return f"declared in {_SETTINGS.get(each.kind, 'inputs')}"
        case "always":
            return "always"
        case how:
            return f"{how} at {each.at}" if each.at else f"{how} by Packer"


def _untracked(each: Untracked, *, several: bool) -> Row:
    row = (each.name, each.at, _EFFECTS[each.effect], _remedy(each))
    return (*row, ", ".join(each.builds)) if several else row


def _remedy(each: Untracked) -> str:
    if not each.setting or each.effect == "trusted":
        return ""
    is_command = (each.effect, each.setting) == ("built", "input_commands")
    return f"track it with {each.setting}{' and assume_unchanged' if is_command else ''}"


def _aligned(rows: Sequence[Row]) -> Iterator[str]:
    """Indented, a row a line; the columns but for the last are as wide as their widest cell."""
    rows = [tuple(clean(cell).replace("\n", "\\n") for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
