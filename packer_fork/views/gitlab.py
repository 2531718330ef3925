"""GitLab CI: a section of the job's log around each run, and a dotenv report.

Formats are those of "Custom collapsible sections" and "artifacts:reports:dotenv" in
GitLab's documentation. A section's mark holds control characters, which no text of
Packer's keeps on its way to the log.
"""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import TextIO

from packer_fork import events
from packer_fork.terminal import clean
from packer_fork.views.results import Results, unique

_NOT_IN_NAMES = re.compile(r"[^A-Z0-9_]")
_PLAIN_VALUE = re.compile(r"""[^\s"'\\$]+""")
"""What GitLab takes as it stands: no white space, quotes or expansion."""


class Sections:
    """Marks where a run begins and ends, on the stream that our own lines go to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._open = ""

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.RunStarted():
                self._end()
                self._open = f"packer_fork_{event.run.number}_{time.time_ns()}"
                head = clean(f"packer-fork run {event.run.number} of {event.template}")
                self._mark("start", head)
            case events.RunEnded():
                self._end()

    def close(self, _: Results) -> None:
        self._end()

    def _end(self) -> None:
        if self._open:
            self._mark("end", "")
            self._open = ""

    def _mark(self, which: str, head: str) -> None:
        # Who reads the log may be gone; that must not end a build.
        with contextlib.suppress(OSError):
            mark = f"section_{which}:{int(time.time())}:{self._open}"
            self._stream.write(f"\x1b[0K{mark}\r\x1b[0K{head.replace(chr(10), ' ')}\n")
            self._stream.flush()


class Dotenv:
    """Writes a line ``PACKER_ARTIFACT_NAME=ID`` for each build with artifacts to `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: events.Event) -> None:
        """Only the end counts."""

    def close(self, results: Results) -> None:
        """Lines of other names in the file stay. Raises OSError if it cannot be written."""
        lines = _lines(self._path) | variables(results)
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        self._path.write_text(text, encoding="utf-8", errors="backslashreplace")


def variables(results: Results) -> dict[str, str]:
    """IDs by variable, several parted by commas; what a dotenv file cannot hold is left out."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for row in results.rows:
        value = ",".join(row.ids)
        if _PLAIN_VALUE.fullmatch(value):
            name = f"PACKER_ARTIFACT_{_NOT_IN_NAMES.sub('_', row.name.upper())}"
            found[unique(name, taken)] = value
    return found


def _lines(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8", errors="backslashreplace")
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, equals, value in pairs if equals}
