"""GitHub Actions: summary, outputs, annotations, and text that is no command to its runner.

Formats are those of "Workflow commands for GitHub Actions" in GitHub's documentation. What
the runner takes for a command is in its ActionCommand.cs: a line that begins with ``::``
after white space, or, older, has ``##[`` anywhere; on stdout and on stderr alike.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

import msgspec

from packer_fork import events
from packer_fork.terminal import clean
from packer_fork.views import words
from packer_fork.views.console import Console
from packer_fork.views.results import Results, Row, unique

_COMMAND = re.compile(r"^(\s*:)(?=:)|##(?=\[)", re.MULTILINE)
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_MOST_ROWS = 400
_LONGEST_CELL = 300
"""Characters; with `_MOST_ROWS` a summary stays below GitHub's 1 MiB."""

_LONGEST_ANNOTATION = 1000


def neutral(text: str) -> str:
    """`text`, a space put into whatever GitHub's runner would take for a command.

    A visible one: the runner compares by the rules of a culture, which skip what is invisible.
    """
    if "::" not in text and "##[" not in text:
        return text
    return _COMMAND.sub(lambda found: f"{found[0]} ", text)


class GitHubConsole(Console):
    """On which nobody's text can start a workflow command."""

    def harmless(self, text: str) -> str:
        return neutral(clean(text))


class GitHub:
    """Reports to the files that the job's environment names, and by annotations on `stream`."""

    def __init__(self, environ: Mapping[str, str], stream: TextIO) -> None:
        self._summary = environ.get("GITHUB_STEP_SUMMARY")
        self._output = environ.get("GITHUB_OUTPUT")
        self._stream = stream

    def __call__(self, event: events.Event) -> None:
        """Nothing is reported before the end: a retry may mend what failed."""

    def close(self, results: Results) -> None:
        """Raises OSError if a file cannot be written."""
        for line in complaints(results):
            self._stream.write(f"{line}\n")
        self._stream.flush()
        if self._summary:
            _append(self._summary, summary(results))
        if self._output:
            _append(self._output, "".join(outputs(results)))


def _append(path: str, text: str) -> None:
    with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def complaints(results: Results) -> Iterator[str]:
    """An annotation for each failed build; for the run as a whole where no build tells of one."""
    failed = [row for row in results.rows if row.is_failed]
    for row in failed:
        yield _error(f"{row.name}: {row.status}", row.error or f"{row.name} is {row.status}.")
    if results.error and not failed:
        yield _error("packer-fork", results.error)


def _error(title: str, text: str) -> str:
    shown = clean(text).strip()[:_LONGEST_ANNOTATION]
    return f"::error title={_property(clean(title))}::{_data(shown)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def summary(results: Results) -> str:
    """A Markdown table of the builds; names and errors in it are nothing but text."""
    rows = results.rows
    said = [f"### packer-fork: {_markdown(results.title or 'build')}", ""]
    if rows:
        said += ["| build | status | time | result |", "| --- | --- | --- | --- |"]
        said += [_summary_row(row) for row in rows[:_MOST_ROWS]]
    if rows[_MOST_ROWS:]:
        said += ["", f"… and {len(rows) - _MOST_ROWS} more builds."]
    if results.error:
        said += ["", _markdown(results.error)]
    return "\n".join([*said, "", ""])


def _summary_row(row: Row) -> str:
    took = "" if row.seconds is None else words.duration(row.seconds)
    result = ", ".join(row.ids) or row.error
    cells = (row.name, row.status.replace("_", " "), took, result)
    return f"| {' | '.join(_markdown(cell) for cell in cells)} |"


def _markdown(text: str) -> str:
    """One line in which every ASCII punctuation is escaped, as CommonMark allows."""
    line = " ".join(clean(text).split())
    short = line if len(line) <= _LONGEST_CELL else f"{line[: _LONGEST_CELL - 1]}…"
    return _PUNCTUATION.sub(r"\\\1", short)


def outputs(results: Results) -> Iterator[str]:
    """Lines of GITHUB_OUTPUT: ``artifacts`` as JSON by build, and an ``artifact_NAME`` each.

    Builds that are not fine have none.
    """
    fine = [row for row in results.rows if row.is_fine]
    document = {row.name: row.artifacts for row in fine}
    yield _value("artifacts", msgspec.json.encode(document).decode())
    taken = {"artifacts"}
    for row in fine:
        name = unique(f"artifact_{_NOT_IN_NAMES.sub('_', row.name)}", taken)
        yield _value(name, ",".join(row.ids))


def _value(name: str, value: str) -> str:
    """In the form for values of several lines, whose end nobody can guess."""
    end = f"end_{os.urandom(16).hex()}"
    return f"{name}<<{end}\n{value}\n{end}\n"
