"""``packer validate``: whether Packer would build a template at all, in Packer's own words.

It checks what ``packer build`` checks before its first build, with three differences:

- It has no ``-force``: a builder complains of an output folder that exists.
- Packer 1.7 and later do not run data sources in it unless told so. A script or number that
  a data source gives is then unknown, and may be refused although ``build`` accepts it. Before
  1.8.5 Packer cannot be told: of a template with data blocks its syntax alone counts.
- It says nothing of ``-only`` that matches no build, and before 1.7 of a missing build block.

Its plain output is read, not ``-machine-readable``: there Packer hides sensitive values of its
own accord in every release, and a backslash stays one. An unusable configuration of Packer is
told on standard error alone, which is only asked for then.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from packer_fork.packer.outline import is_hcl
from packer_fork.packer.program import Program, ask

_REFUSED = 1
"""Packer's exit code for it; any other is a Packer that crashed or was killed."""

_SINCE_DATA_SOURCES = (1, 7, 0)
_SINCE_EVALUATE_DATA_SOURCES = (1, 8, 5)
_DATA_BLOCK = re.compile(rb'\bdata"?\s*[":]')

_HEADING = re.compile(r"^(?=(?:Error|Warning): )", re.MULTILINE)
_BULLET = re.compile(r"^\s*\* ", re.MULTILINE)
_PLACE = re.compile(r"^ +on .* line \d+.*:\n +\(source code not available\)$", re.MULTILINE)
_FOLDER_EXISTS = re.compile(r"Output directory .* already exists\b", re.DOTALL)


class Refusal(Struct, frozen=True):
    """Packer's errors, each with its place. They may hold secrets that Packer does not hide."""

    errors: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n\n".join(self.errors)

    def without_existing_folders(self) -> Refusal | None:
        """This refusal without errors that only tell of an output folder that exists."""
        left = tuple(error for error in self.errors if not _is_of_folders(error))
        return Refusal(left) if left else None


class Checked(Struct, frozen=True):
    """``refusal``: None if Packer would build. ``is_accepted``: it says so, and did not merely
    fail to answer: what Packer cannot say now, it says in the build.
    """

    refusal: Refusal | None = None
    is_accepted: bool = False


def check(
    program: Program,
    template: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
) -> Checked:
    """Whether Packer would build `template` with these flags."""
    how = _how(program) if _has_data(Path(template)) else ()
    command = (program.path, "validate", *how, *arguments, template)
    environ = {**environ, "PACKER_NO_COLOR": "1"}
    try:
        answer = ask(command, environ)
        if answer.code == _REFUSED and not answer.output.strip():
            answer = ask(command, environ, stderr=subprocess.STDOUT)
    except (OSError, subprocess.TimeoutExpired):
        return Checked()
    if answer.code != _REFUSED:
        return Checked(is_accepted=answer.code == 0)
    return Checked(Refusal(tuple(_errors(answer.output)) or ("Packer gives no reason.",)))


def _how(program: Program) -> tuple[str, ...]:
    """The flags by which a template with data blocks is only refused if it is wrong."""
    if program.version < _SINCE_DATA_SOURCES:
        return ()
    is_newer = program.version >= _SINCE_EVALUATE_DATA_SOURCES
    return ("-evaluate-datasources" if is_newer else "-syntax-only",)


def _errors(output: str) -> Iterable[str]:
    """Blocks of Packer's diagnostics that are errors, once each; what has no heading is one too."""
    blocks = dict.fromkeys(block.strip() for block in _HEADING.split(output))
    return (block for block in blocks if block and not block.startswith("Warning: "))


def _is_of_folders(error: str) -> bool:
    _, *bullets = _BULLET.split(_PLACE.sub("", error))
    return bool(bullets) and all(_FOLDER_EXISTS.match(bullet) for bullet in bullets)


def _has_data(template: Path) -> bool:
    """Whether a data block may be in it; a text that looks like one does little harm."""
    if not is_hcl(template):
        return False
    files = template.glob("*.pkr.*") if template.is_dir() else [template]
    try:
        return any(_DATA_BLOCK.search(file.read_bytes()) for file in files if not file.is_dir())
    except OSError:
        return True
