"""Two streams and what may be done to them: safe text, colour where wanted, no broken pipe.

Packer's texts go to stdout, our own to stderr. A reader that goes away (``| head``)
must not end a build: what can no longer be shown is dropped. Nor must a full or broken
disk behind stdout, but then the command does not end as if all had been said.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TextIO

from packer_fork.terminal import clean

_lost: list[str] = []
_STYLES = {"say": "1;32", "error": "1;31", "warning": "1;33", "stderr": "2"}


class Console:
    def __init__(self, out: TextIO, err: TextIO, *, color: bool) -> None:
        self._out = out
        self._err = err
        self._color = color

    @property
    def color(self) -> bool:
        """Whether colour is wanted where a terminal shows it."""
        return self._color

    def say(self, text: str, style: str = "") -> None:
        """Something of Packer's, or the answer that was asked for."""
        self._write(self._out, text, style)

    def tell(self, text: str, style: str = "") -> None:
        """Something of ours."""
        self._write(self._err, text, style)

    def _write(self, stream: TextIO, text: str, style: str) -> None:
        safe = clean(text)
        if self._color and style in _STYLES and stream.isatty():
            safe = f"\x1b[{_STYLES[style]}m{safe}\x1b[0m"
        try:
            stream.write(f"{safe}\n")
            stream.flush()
        except BrokenPipeError:
            drop(stream)
        except OSError as error:
            drop(stream)
            if stream is self._out:
                _lost.append(error.strerror or str(error))


def lost_output() -> str:
    """Why standard output could not be written, if so: to be asked once the command has ended."""
    return _lost[0] if _lost else ""


def drop(stream: TextIO) -> None:
    """Let all further writes, the interpreter's own at exit included, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def standard(environ: Mapping[str, str], *, color: bool = True) -> Console:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    in_ci = environ.get("CI", "").lower() not in ("", "0", "false")
    unwanted = in_ci or environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
    return Console(sys.stdout, sys.stderr, color=color and not unwanted)
