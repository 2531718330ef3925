"""Questions to Packer: a process that is started for its answer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Self

from msgspec import Struct

_ASK_SECONDS = 60.0

_ONE_PROCESS = {"PACKER_WRAP_COOKIE": "49C22B1A-3A93-4C98-97FA-E07D18C787B5"}
"""What Packer's ``main.go`` sets, 1.6 to 1.16, for the inner process that its crash reporter
starts. A Packer that finds it answers in the first process, in half the time. A Packer with
another cookie ignores it. Its log goes to standard error then, and ``console`` reads
descriptor 3."""


class Answer(Struct, frozen=True):
    """What Packer said. It may hold secrets: never log or show it."""

    code: int
    output: str


class Question:
    """Packer, started for its answer: several run side by side. `line` is what it reads, `stderr`
    as for Popen. Leaving the context ends a Packer that has not answered.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        line: str | None = None,
        stderr: int = subprocess.DEVNULL,
    ) -> None:
        is_simple = line is None and stderr == subprocess.DEVNULL
        self._line = None if line is None else f"{line}\n".encode()
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL if line is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_quiet(environ) | (_ONE_PROCESS if is_simple else {}),
                start_new_session=True,
            )
        except OSError as error:
            self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._end(self._process)

    def answer(self, seconds: float = _ASK_SECONDS) -> Answer:
        """Raises OSError or TimeoutExpired; then nothing of it is left."""
        if self._process is None:
            raise self._error or OSError("not started")
        try:
            output, _ = self._process.communicate(self._line, seconds)
        except BaseException:
            self._end(self._process)
            raise
        return Answer(self._process.returncode, output.decode("utf-8", "replace"))

    def output(self) -> str | None:
        """What it says if it ends well; None where it does not answer, or fails."""
        try:
            answer = self.answer()
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.output if answer.code == 0 else None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        # Its plugins hold the pipe: killing Packer alone would not end the wait.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ask(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    line: str | None = None,
    seconds: float = _ASK_SECONDS,
    stderr: int = subprocess.DEVNULL,
) -> Answer:
    """One question, answered before anything else is done.

    Raises OSError or TimeoutExpired; then nothing of it is left.
    """
    return Question(command, environ, line=line, stderr=stderr).answer(seconds)


def _quiet(environ: Mapping[str, str]) -> dict[str, str]:
    """Without the user's log, which would be overwritten, and without asking for updates."""
    kept = {name: value for name, value in environ.items() if not name.startswith("PACKER_LOG")}
    return {**kept, "CHECKPOINT_DISABLE": "1"}
