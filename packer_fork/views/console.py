"""Two streams and what may be done to them: safe text, colour where wanted, no broken pipe.

Packer's texts go to stdout, our own to stderr. A reader that goes away (``| head``) must not
end a build: what can no longer be written is dropped. Nor must a full or broken disk behind
stdout, but then the command reports it at its end.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import TextIO

from packer_fork.terminal import clean
from packer_fork.views.hints import completed

_FALLBACK = 80
_lost: list[str] = []
_STYLES = {
    "say": "1;32",
    "error": "1;31",
    "warning": "1;33",
    "stderr": "2",
    "head": "1",
    "good": "32",
    "bad": "1;31",
    "doubtful": "33",
    "active": "36",
    "minor": "2",
}


class Color(StrEnum):
    """``AUTO``: on a terminal, unless the environment asks for something else."""

    ALWAYS = "always"
    NEVER = "never"
    AUTO = "auto"


_chosen: list[Color] = []


def choose_color(color: Color) -> None:
    """Let ``--color`` overrule the environment, for all consoles made from now on."""
    _chosen[:] = [color]


def color_of(environ: Mapping[str, str], *, color: bool = True) -> Color:
    """What the user wants; `color`: Packer's own ``-color`` flag.

    The order is: ``--color``, ``-color=false``, NO_COLOR, FORCE_COLOR, a job of a CI service or
    a terminal that knows no colours.
    """
    if _chosen and _chosen[0] is not Color.AUTO:
        return _chosen[0]
    if not color or environ.get("NO_COLOR"):
        return Color.NEVER
    if environ.get("FORCE_COLOR", "") not in ("", "0", "false"):
        return Color.ALWAYS
    in_ci = environ.get("CI", "").lower() not in ("", "0", "false")
    return Color.NEVER if in_ci or environ.get("TERM") == "dumb" else Color.AUTO


class StyledLine(str):
    """A line whose parts have styles; for everybody else it is its text."""

    __slots__ = ("parts",)
    parts: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, *parts: tuple[str, str]) -> StyledLine:
        """`parts`: texts with the names of their styles."""
        line = cls("".join(text for text, _ in parts).rstrip())
        line.parts = parts
        return line


class Console:
    def __init__(self, out: TextIO, err: TextIO, *, color: Color) -> None:
        self._out = out
        self._err = err
        self._color = color

    @property
    def color(self) -> bool:
        """Whether colour is wanted where a terminal shows it."""
        return self._color is not Color.NEVER

    @property
    def width(self) -> int | None:
        """Cells of the terminal behind stdout, None if there is none: then nothing is wrapped."""
        if not self._out.isatty():
            return None
        with contextlib.suppress(OSError):
            return os.get_terminal_size(self._out.fileno()).columns or _FALLBACK
        return _FALLBACK

    def say(self, text: str, style: str = "") -> None:
        """Write one of Packer's texts, or the answer that was asked for."""
        self._write(self._out, text, style)

    def tell(self, text: str, style: str = "") -> None:
        """Write one of our own texts."""
        self._write(self._err, text, style)

    def problem(self, message: str, hint: str = "", level: str = "error") -> None:
        """Write an error or a warning, and below it what to do."""
        self.tell(f"packer-fork: {level}: {message}", level)
        if hint:
            self.tell(f"  hint: {completed(hint)}")

    def harmless(self, text: str) -> str:
        """`text` as it may be written."""
        return clean(text)

    def _write(self, stream: TextIO, text: str, style: str) -> None:
        if self._color is Color.ALWAYS or (self._color is Color.AUTO and stream.isatty()):
            parts = text.parts if isinstance(text, StyledLine) else ((text, style),)
            safe = "".join(_painted(self.harmless(part), name) for part, name in parts)
        else:
            safe = self.harmless(text)
        try:
            stream.write(f"{safe}\n")
            stream.flush()
        except BrokenPipeError:
            drop(stream)
        except OSError as error:
            drop(stream)
            if stream is self._out:
                _lost.append(error.strerror or str(error))


def _painted(text: str, style: str) -> str:
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if text and style in _STYLES else text


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
    return Console(sys.stdout, sys.stderr, color=color_of(environ, color=color))
